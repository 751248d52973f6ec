"""The host's key pair, for a backend whose nodes have some."""

from __future__ import annotations

import contextlib
from typing import Any, Sequence

from ..backends.registry import BACKENDS
from ..core.errors import PodnetError
from ..core.model import Plan
from ..keep import claim, files
from ..keep.lock import held
from ..kernel.run import TOOLS, demand_root
from ..state.desire import own_node


def make(
    plan: Plan,
    name: str,
    check: bool,
    *,
    another: bool = False,
    run: str = "",
    over: Sequence[str] = (),
) -> dict[str, Any]:
    """Return {"changed", "key"}: the public key of this host, which gets a key pair if it has none.

    With `another` it is a key other than the plan's. With `check` nothing is made, and the key is
    "". `run` and `over` are as in `converge`. Raises PodnetError, also for a private key that
    others may have read.
    """
    demand_root()
    node = own_node(plan, name)
    backend = BACKENDS[plan.backend]
    if not backend.has_keys:
        raise PodnetError(f"{name}: no keys are needed with podnet_backend: {plan.backend}")
    with contextlib.nullcontext() if check else held(plan.name):
        if run and not check:
            claim.renew(plan.name, run, over)
        # Not the device's: who removes the file and the record wants another key.
        keys = backend.own_keys(plan.name, TOOLS)
        if another:
            # An earlier run may have made one, and ended before hosts moved to it.
            keys = [one for one in keys if one != node.key]
        if keys or check:
            return {"changed": not keys, "key": keys[0] if keys else ""}
        path, content, key = backend.new_key(plan.name, TOOLS)
        files.write_text(path, content, 0o600)
        return {"changed": True, "key": key}

# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter for the role podnet_network: what hosts must know of each other to prove a switch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def told(hostvars: Mapping[str, Any], hosts: Sequence[str]) -> dict[str, Any]:
    """Return ``{told, unproven}``: all hosts' probe pods as JSON, and which hosts have none, why.

    Reads what `podnet_network` returned for `prepare`: the registered `_podnet_changed`, or
    `_podnet_confirmed` where the change had to be confirmed.
    """
    found: dict[str, Any] = {}
    for host in hosts:
        seen = hostvars[host]
        for name in ("_podnet_changed", "_podnet_confirmed"):
            result = seen.get(name)
            if isinstance(result, Mapping) and isinstance(result.get("proof"), Mapping):
                found[str(host)] = dict(result["proof"])
    if len(hosts) > 1:
        # With a single host there is no peer, so a missing pod is no fault.
        for host in hosts:
            found.setdefault(str(host), {"why": "it told nothing of a pod to ask"})
    unproven = [
        f"{host}: the new way to it cannot be proven: {one['why']}. Mend that, or set "
        "podnet_force_unproven: true to switch without the proof"
        for host, one in found.items()
        if "why" in one
    ]
    return {"told": json.dumps(found), "unproven": unproven}


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"podnet_proof": told}

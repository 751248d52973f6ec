"""Whether a run may change the allocations file, or others would not get what it writes. Pure."""

from __future__ import annotations

from typing import NamedTuple, Sequence

from ..core.text import listed

#: How the file is written where no run may do it.
_WAY_OUT = "Write it once with playbooks/allocate.yml, commit it, and run again with that copy"


class Alone(NamedTuple):
    """A run on the very hosts that it changes, as ansible-pull is: `hosts` without `left_out`."""

    hosts: Sequence[str]
    left_out: Sequence[str]


def unkept(
    path: str,
    *,
    new: Sequence[str],
    changed: bool,
    keyless: Sequence[str],
    write: bool,
    alone: Alone | None,
) -> str:
    """Return why the plan must not be applied: the file at `path` lacks something of it.

    "" where the plan may be applied, because the file has all of it or may be written. `new` are
    nodes that have no subnet in it yet, `changed` is whether it would be written, `keyless` are
    nodes whose public key it lacks; `write` is podnet_allocations_write.
    """
    waiting = [name for name in keyless if alone is None or name in alone.hosts]
    if (write and alone is None) or not (changed or waiting):
        return ""
    if write and alone:
        why = (
            f"this run is on {listed(alone.hosts)} itself and leaves out {listed(alone.left_out)}, "
            "so nobody else would get what it writes"
        )
    else:
        why = "podnet_allocations_write is false"
    lacking = [f"no subnet for {listed(new)}"] if new else []
    if waiting:
        lacking.append(f"no public key of {listed(waiting)}")
    found = f"{path} has {' and '.join(lacking)}" if lacking else f"{path} would be changed"
    if waiting:
        return (
            f"{found}, and {why}. Hosts tell their public keys to a run of site.yml from a "
            "controller that reaches them, with -e podnet_allocations_write=true: commit the file "
            "that it writes"
        )
    return f"{found}, and {why}. {_WAY_OUT}"

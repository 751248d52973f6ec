"""How many objects of which kind a list of changes adds, replaces and removes.

A run over fifty hosts cannot show each object; these numbers are what its closing table is made of
(run/closing.py).
"""

from __future__ import annotations

from typing import Dict, Iterable, List

from ..backends.registry import TOOLS
from ..core.state import BATCHES, Change

#: Kind of objects -> how many are [added, replaced, removed].
Tally = Dict[str, List[int]]

#: Tool of a `Change` -> the kind of its objects. For the others, an object's text begins with it.
_BY_TOOL = {
    "boot": "file",
    "file": "file",
    "secret": "file",
    "nft": "firewall",
    "iptables": "firewall",
    "sysctl": "sysctl",
    "module": "module",
    "pod": "pod",
}
_NAMED_BY_TEXT = (*BATCHES, "command", *TOOLS)

#: What another tool left behind, and other objects of no kind.
OTHER = "other"


def tally(changes: Iterable[Change]) -> Tally:
    """Return the numbers for a list of changes, kinds in the order in which they come.

    A device that several changes are about, as one that is removed and made anew, is one object. A
    table of nft's is as many as it has lines that differ.
    """
    result: Tally = {}
    devices: dict[str, tuple[str, str]] = {}
    for change in changes:
        kind = _kind(change)
        counts = result.setdefault(kind, [0, 0, 0])
        if kind == "link":
            name = (change.after or change.before).split(" ")[1]
            first = devices.get(name, (change.before, ""))[0]
            devices[name] = first, change.after
        elif "\n" in change.before + change.after:
            old, new = set(change.before.splitlines()), set(change.after.splitlines())
            counts[0] += len(new - old)
            counts[2] += len(old - new)
        else:
            count(counts, old=bool(change.before), new=bool(change.after))
    for before, after in devices.values():
        count(result["link"], old=bool(before), new=bool(after))
    return {kind: counts for kind, counts in result.items() if any(counts)}


def count(counts: list[int], *, old: bool, new: bool) -> None:
    """Count one object in [added, replaced, removed]; `old` and `new`: it was, it will be there."""
    if old or new:
        counts[1 if old and new else 0 if new else 2] += 1


def add(one: Tally, other: Tally) -> Tally:
    """Return the sum of two tallies."""
    kinds = dict.fromkeys([*one, *other])
    none = [0, 0, 0]
    return {
        kind: [first + second for first, second in zip(one.get(kind, none), other.get(kind, none))]
        for kind in kinds
    }


def _kind(change: Change) -> str:
    if change.tool in _BY_TOOL:
        return _BY_TOOL[change.tool]
    # Objects in the namespace of an endpoint are set by `ip -n NAME`.
    if change.tool in _NAMED_BY_TEXT or change.tool.startswith("ip -"):
        return (change.after or change.before).partition(" ")[0]
    return OTHER

"""How many addresses of a node pods use, and how many are left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Iterable, NamedTuple

from ..core.model import pack
from ..core.ranges import Range
from ..keep import leases
from .cni_record import read_record

#: Percent of a node's addresses from which on a proof warns.
CROWDED = 90


class Usage(NamedTuple):
    """Of `size` addresses of a family (4 or 6) that host-local may hand out, `used` are held."""

    family: int
    size: int
    used: int

    @property
    def free(self) -> int:
        """How many are left."""
        return self.size - self.used

    @property
    def percent(self) -> int:
        """How full it is; rounded down, so 100 is full."""
        return self.used * 100 // self.size if self.size else 100


def count(conflist: str, held: Iterable[str]) -> list[Usage]:
    """Return the usage of each family by the text of a conflist and the addresses that are held.

    Addresses outside of the ranges, as of pods from before they were reserved, do not count. Text
    that is no conflist of host-local has no usage.
    """
    try:
        plugins = json.loads(conflist)["plugins"]
        sets = [
            [_range(one) for one in ranges]
            for plugin in plugins
            for ranges in plugin.get("ipam", {}).get("ranges", ())
        ]
    except (ValueError, TypeError, KeyError, AttributeError):
        return []
    numbers = [(len(raw), int.from_bytes(raw, "big")) for raw in map(pack, held)]
    found = []
    for ranges in sets:
        used = sum(
            any(size == one.size and one.first <= number <= one.last for one in ranges)
            for size, number in numbers
        )
        if ranges:
            size = sum(one.last - one.first + 1 for one in ranges)
            found.append(Usage(4 if ranges[0].size == 4 else 6, size, used))
    return found


def usage(name: str) -> list[Usage]:
    """Return the usage of each family on this host, by the CNI file of network `name` there."""
    try:
        text = Path(read_record(name).path or "/nowhere").read_text()
    except (OSError, UnicodeDecodeError):
        return []
    return count(text, leases.addresses(name))


def crowded(node_name: str, found: Iterable[Usage]) -> list[str]:
    """Return a warning for each family of which nearly all addresses are used."""
    return [
        f"{node_name}: pods use {one.used} of {one.size} IPv{one.family} addresses of this node "
        f"({one.percent} %); when none is free, no pod starts there. See docs/addresses.md"
        for one in found
        if one.used * 100 >= one.size * CROWDED
    ]


def _range(entry: Any) -> Range:
    first, last = (pack(entry[key]) for key in ("rangeStart", "rangeEnd"))
    return Range(len(first), int.from_bytes(first, "big"), int.from_bytes(last, "big"))

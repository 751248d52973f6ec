"""The address space of the pods: which part of it is used, and what is free."""

from __future__ import annotations

from typing import Any, Mapping

from ..core.model import pack, split_cidr, unpack

#: Parts of a bar; a cluster CIDR of more subnets has several in one part.
_PARTS = 128

#: Free subnets to name.
_NAMED = 5


def space(cidr: str, total: int, owners: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Return how a cluster CIDR of `total` subnets is used.

    `owners` is subnet -> (host, state). Subnets of another size (pinned ones) count where they
    begin. `parts` has for each part of the bar how many of its `part` subnets are used, and which
    hosts they belong to.
    """
    address, length = split_cidr(cidr)
    first = int.from_bytes(pack(address), "big")
    size = len(pack(address))
    prefix = length + total.bit_length() - 1
    step = 1 << (size * 8 - prefix)
    taken = {}
    for subnet, (name, state) in owners.items():
        begin = int.from_bytes(pack(split_cidr(subnet)[0]), "big")
        taken[(begin - first) // step] = (name, state)
    part = max(1, total // _PARTS)
    used: dict[int, list[str]] = {}
    for index in sorted(taken):
        used.setdefault(index // part, []).append(taken[index][0])
    free: list[str] = []
    index = 0
    while index < total and len(free) < _NAMED:
        if index not in taken:
            free.append(f"{unpack((first + index * step).to_bytes(size, 'big'))}/{prefix}")
        index += 1
    return {
        "cidr": cidr,
        "prefix": prefix,
        "total": total,
        "used": len(taken),
        "free": total - len(taken),
        "first_free": free,
        "reserved": [
            {"name": name, "subnet": subnet}
            for subnet, (name, state) in owners.items()
            if state.startswith("left")
        ],
        "part": part,
        "parts": [used.get(number, []) for number in range(min(total, _PARTS))],
    }

"""Carving the cluster CIDR into node subnets: pure arithmetic, no files and no hosts.

A subnet is kept as its number: its address shifted right by the host bits. Then "inside the
pool", "on a boundary" and "taken" are integer comparisons, and 65,536 nodes cost milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Sequence

from ..core.model import pack, split_cidr, unpack


@dataclass(frozen=True)
class Pool:
    """The node subnets that a cluster CIDR holds.

    `first` is the number of the first one, `count` how many there are; `bits` is the length of an
    address, 32 or 128.
    """

    bits: int
    node_prefix: int
    first: int
    count: int

    @classmethod
    def of(cls, cluster_cidr: str, node_prefix: int) -> Pool:
        """Make the pool of a canonical CIDR that is at least as wide as `node_prefix`."""
        address, prefix = split_cidr(cluster_cidr)
        raw = pack(address)
        bits = len(raw) * 8
        first = int.from_bytes(raw, "big") >> (bits - node_prefix)
        return cls(bits, node_prefix, first, 1 << (node_prefix - prefix))

    def number_of(self, subnet: str) -> int:
        """Return the number of a canonical subnet, which need not lie in the pool.

        Raises ValueError for another length, another family, or host bits.
        """
        address, _mark, length = subnet.partition("/")
        raw = pack(address)
        host_bits = self.bits - self.node_prefix
        number = int.from_bytes(raw, "big")
        if len(raw) * 8 != self.bits or length != str(self.node_prefix):
            family = 4 if self.bits == 32 else 6
            raise ValueError(f"{subnet} is not an IPv{family} /{self.node_prefix}")
        if number & ((1 << host_bits) - 1):
            raise ValueError(f"{subnet} has host bits set")
        return number >> host_bits

    def text(self, number: int) -> str:
        """Return the CIDR of a number."""
        raw = (number << (self.bits - self.node_prefix)).to_bytes(self.bits // 8, "big")
        return f"{unpack(raw)}/{self.node_prefix}"

    def holds(self, number: int) -> bool:
        """Whether the number lies in the pool."""
        return self.first <= number < self.first + self.count


def carve(
    pool: Pool, names: Sequence[str], fixed: Mapping[str, int], reserved: Sequence[int]
) -> dict[str, int] | None:
    """Give each of `names` a number: its fixed one, else the first free one in order of `names`.

    `fixed` holds the recorded and the pinned numbers (unique), `reserved` those of hosts that
    left the inventory. Returns None when the pool is too small. Linear: the search never starts
    over.
    """
    taken = {*fixed.values(), *reserved}
    end = pool.first + pool.count
    here = pool.first
    given: dict[str, int] = {}
    for name in names:
        number = fixed.get(name)
        if number is None:
            while here in taken:
                here += 1
            if here >= end:
                return None
            number = here
            here += 1
        given[name] = number
    return given

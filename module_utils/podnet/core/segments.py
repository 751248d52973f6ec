"""Which nodes share an L2 segment, as far as the inventory tells.

That is known only for addresses with a prefix length. Hosts are grouped by network and never
compared pair by pair: there may be 65,536.
"""

from __future__ import annotations

import functools
import socket
from dataclasses import dataclass
from typing import Any, Mapping, Protocol, Sequence

from .model import pack, split_cidr, unpack


class Addressed(Protocol):
    """A host with its addresses on the underlay, "" for none; prefix lengths where given."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def ip(self) -> str:
        """Its IPv4 address."""

    @property
    def ip_prefix(self) -> int | None:
        """The prefix length of that."""

    @property
    def ip6(self) -> str:
        """Its IPv6 address."""

    @property
    def ip6_prefix(self) -> int | None:
        """The prefix length of that."""

    @property
    def own(self) -> Mapping[str, Any]:
        """Its variables that may differ between hosts, named without ``podnet_``."""


def span(cidr: str) -> tuple[int, int]:
    """Return the first and the last address of a CIDR as numbers."""
    address, length = split_cidr(cidr)
    raw = pack(address)
    first = int.from_bytes(raw, "big")
    return first, first + (1 << (len(raw) * 8 - length)) - 1


@dataclass(frozen=True)
class Segments:
    """Hosts by the network of their address, for one family.

    `members` maps a network's CIDR to its hosts, in inventory order; `unknown` are the hosts
    whose prefix length is not given.
    """

    family: int
    members: Mapping[str, Sequence[str]]
    unknown: Sequence[str]

    def pairs(self) -> tuple[int, int]:
        """Return how many pairs of `members` are (on one segment, on different segments)."""
        sizes = [len(members) for members in self.members.values()]
        total = sum(sizes)
        same = sum(size * (size - 1) // 2 for size in sizes)
        return same, total * (total - 1) // 2 - same


def network(address: str, prefix: int | None) -> str:
    """Return the CIDR of the network that an address is in, "" without a prefix length."""
    if prefix is None or not address:
        return ""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    raw = socket.inet_pton(family, address)
    return _network(int.from_bytes(raw, "big") >> (len(raw) * 8 - prefix), prefix, len(raw))


@functools.lru_cache(maxsize=1024)
def _network(number: int, prefix: int, size: int) -> str:
    # Thousands of hosts share few networks.
    return f"{unpack((number << (size * 8 - prefix)).to_bytes(size, 'big'))}/{prefix}"


def segments(hosts: Sequence[Addressed], family: int) -> Segments:
    """Group hosts by the network of their address of a family; those without one are left out."""
    members: dict[str, list[str]] = {}
    unknown: list[str] = []
    for host in hosts:
        address, prefix = address_of(host, family)
        if not address:
            continue
        if prefix is None:
            unknown.append(host.name)
        else:
            members.setdefault(network(address, prefix), []).append(host.name)
    return Segments(family, members, unknown)


def address_of(host: Addressed, family: int) -> tuple[str, int | None]:
    """Return a host's address of a family and its prefix length."""
    return (host.ip, host.ip_prefix) if family == 4 else (host.ip6, host.ip6_prefix)

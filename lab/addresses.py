"""Who has which address: pure functions of a host's number.

A host's name is "n" and its number, from 1. With two segments odd numbers are on the first and
even ones on the second, so that a host's place never depends on how many there are.
Addresses are from the ranges for documentation (RFC 5737, RFC 3849) and, for large labs, for
benchmarks (RFC 2544): nothing in a lab has an address that could be somebody's.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from .errors import LabError

#: Host k has the number 10 + k in its segment: .1 is the router, the rest of .2 to .10 is free.
_FIRST = 10

#: So many hosts fit the narrow ranges, with room below the broadcast address.
NARROW_LIMIT = 240

_NARROW = ("192.0.2.0/24", "198.51.100.0/24")
_WIDE = ("198.18.0.0/16", "198.19.0.0/16")
_IPV6 = ("2001:db8:1::/64", "2001:db8:2::/64")

#: What the router holds beside them: an address outside of all segments. The router has no route
#: to any pod, so an answer from there proves that pods are masqueraded.
OUTSIDE = "203.0.113.1"
OUTSIDE6 = "2001:db8:ffff::1"

# The lab's name is part of a namespace's name, of paths and of the path of an SSH control socket.
_NAME = re.compile(r"[a-z][a-z0-9-]{0,19}\Z")
_HOST = re.compile(r"n[1-9][0-9]{0,3}\Z")


@dataclass(frozen=True)
class Segment:
    """One layer-2 network: a bridge in the lab's namespace, where the router has an address."""

    bridge: str
    network: ipaddress.IPv4Network
    network6: ipaddress.IPv6Network

    @property
    def router(self) -> str:
        """The router's IPv4 address: the hosts' default gateway."""
        return str(self.network[1])

    @property
    def router6(self) -> str:
        """The router's IPv6 address."""
        return str(self.network6[1])


@dataclass(frozen=True)
class Host:
    """One host of a lab: its name and its addresses."""

    name: str
    segment: Segment
    address: str
    address6: str

    @property
    def interface(self) -> str:
        """`address` with its prefix length, as podnet_node_ip wants it."""
        return f"{self.address}/{self.segment.network.prefixlen}"

    @property
    def mac(self) -> str:
        """The MAC address of a virtual machine's interface, locally administered (RFC 7042)."""
        number = host_number(self.name)
        return f"02:00:00:01:{number >> 8:02x}:{number & 255:02x}"

    @property
    def interface6(self) -> str:
        """`address6` with its prefix length, as podnet_node_ip6 wants it."""
        return f"{self.address6}/{self.segment.network6.prefixlen}"


@dataclass(frozen=True)
class Layout:
    """How a lab's hosts are spread: over one or two segments, narrow (/24) or wide (/16) ones."""

    segments: int = 1
    wide: bool = False

    def __post_init__(self) -> None:
        """Refuse a number of segments that there is no range for."""
        if self.segments not in (1, 2):
            raise LabError(f"segments: {self.segments}: a lab has 1 or 2 segments")

    def all_segments(self) -> list[Segment]:
        """Return the segments in their order."""
        networks = (_WIDE if self.wide else _NARROW)[: self.segments]
        return [
            Segment(
                f"seg{index + 1}", ipaddress.IPv4Network(network), ipaddress.IPv6Network(network6)
            )
            for index, (network, network6) in enumerate(zip(networks, _IPV6, strict=False))
        ]

    def host(self, name: str) -> Host:
        """Return the host of that name; raise LabError where the lab has no address for it."""
        number = host_number(name)
        if number > NARROW_LIMIT and not self.wide:
            raise LabError(
                f"{name}: this lab's /24 segments hold n1 to n{NARROW_LIMIT}; "
                f"start it with more than {NARROW_LIMIT} hosts to get /16 segments"
            )
        segment = self.all_segments()[(number - 1) % self.segments]
        # The decimal number written as the last group: 192.0.2.11 and 2001:db8:1::11 are one host.
        address6 = segment.network6[int(str(_FIRST + number), 16)]
        return Host(name, segment, str(segment.network[_FIRST + number]), str(address6))


def layout_for(hosts: int, segments: int) -> Layout:
    """Return the layout of a new lab; raise LabError for a number of hosts out of range."""
    if not 1 <= hosts <= 4096:
        raise LabError(f"hosts: {hosts}: a lab has 1 to 4096 hosts")
    return Layout(segments, wide=hosts > NARROW_LIMIT)


def host_number(name: str) -> int:
    """Return a host's number; raise LabError for a name that no host of a lab can have."""
    if not _HOST.match(name):
        raise LabError(f"{name!r}: hosts of a lab are named n1, n2, ...")
    return int(name[1:])


def check_lab_name(name: str) -> str:
    """Return `name`; raise LabError unless it can name a lab."""
    if not _NAME.match(name):
        raise LabError(
            f"{name!r}: a lab's name has lower-case letters, digits and '-', at most 20, "
            "and begins with a letter"
        )
    return name

"""The nodes' own network, as far as the inventory tells: addresses, family, segments.

Which hosts share an L2 segment is known here only for addresses with a prefix length; for the
others each host decides from its own addresses, and the plan says so. Hosts are grouped by network
and never compared pair by pair: there may be 65,536.
"""

from __future__ import annotations

import functools
import socket
from dataclasses import dataclass
from typing import Mapping, Sequence

from ..core.model import overlaps, pack, split_cidr, unpack
from ..core.text import listed
from .inventory import InventoryHost, Problems

# What can neither be a node's address nor hold pods (RFC 6890).
_SPECIAL = {
    4: (
        ("0.0.0.0/8", "this network"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
    ),
    6: (
        ("::/8", "unspecified, loopback or mapped IPv4"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    ),
}


def _range(cidr: str) -> tuple[int, int]:
    address, length = split_cidr(cidr)
    raw = pack(address)
    first = int.from_bytes(raw, "big")
    return first, first + (1 << (len(raw) * 8 - length)) - 1


_RANGES = {
    family: [(*_range(cidr), cidr, what) for cidr, what in special]
    for family, special in _SPECIAL.items()
}


def special(cidr: str) -> str:
    """Return the special range that a CIDR overlaps, such as "127.0.0.0/8 (loopback)", or ""."""
    first, last = _range(cidr)
    for low, high, other, what in _RANGES[6 if ":" in cidr else 4]:
        if first <= high and low <= last:
            return f"{other} ({what})"
    return ""


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


def segments(hosts: Sequence[InventoryHost], family: int) -> Segments:
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


def address_of(host: InventoryHost, family: int) -> tuple[str, int | None]:
    """Return a host's address of a family and its prefix length."""
    return (host.ip, host.ip_prefix) if family == 4 else (host.ip6, host.ip6_prefix)


def choose_family(hosts: Sequence[InventoryHost], problems: Problems) -> int:
    """Return the family that every host has an address of; where it is both 4, as in flannel."""
    for family in (4, 6):
        if all(address_of(host, family)[0] for host in hosts):
            return family
    no_ip = listed((host.name for host in hosts if not host.ip), 3)
    no_ip6 = listed((host.name for host in hosts if not host.ip6), 3)
    problems.add(
        f"podnet_node_ip: the hosts have no address family in common: {no_ip} without IPv4,"
        f" {no_ip6} without IPv6: give every host a podnet_node_ip, or every host a podnet_node_ip6"
    )
    return 4


def check_addresses(
    hosts: Sequence[InventoryHost], clusters: Sequence[tuple[str, str]], problems: Problems
) -> None:
    """Report addresses that no node can have, that two nodes have, or that lie in pods' ranges.

    `clusters` holds (variable, CIDR) of the pods' ranges.
    """
    owners: dict[str, str] = {}
    pods = {6 if ":" in cidr else 4: (*_range(cidr), name, cidr) for name, cidr in clusters}
    for host in hosts:
        for family in (4, 6):
            address, prefix = address_of(host, family)
            if not address:
                continue
            label = f"{host.name}: podnet_node_ip{'6' if family == 6 else ''}: {address}"
            number = int.from_bytes(pack(address), "big")
            for low, high, cidr, what in _RANGES[family]:
                if low <= number <= high:
                    problems.add(
                        f"{label} is in {cidr} ({what}), which no node can use: set the"
                        " address that the other nodes reach"
                    )
            if prefix is not None:
                _check_host_part(label, number, prefix, family, problems)
            other = owners.setdefault(address, host.name)
            if other != host.name:
                problems.add(f"{label} is the address of {other}, too: every node needs its own")
            if family in pods and pods[family][0] <= number <= pods[family][1]:
                problems.add(
                    f"{label} is inside {pods[family][2]} {pods[family][3]}: pods and nodes need"
                    " ranges of their own, choose another one for the pods"
                )


def _check_host_part(label: str, number: int, prefix: int, family: int, problems: Problems) -> None:
    """Report a network's own or broadcast address; a /31 and a /127 have none (RFC 3021, 6164)."""
    host_bits = (32 if family == 4 else 128) - prefix
    if host_bits < 2:
        return
    part = number & ((1 << host_bits) - 1)
    if part == 0:
        problems.add(f"{label}/{prefix} is the network itself, not an address in it")
    elif family == 4 and part == (1 << host_bits) - 1:
        problems.add(f"{label}/{prefix} is the broadcast address of its network")


def check_networks(
    groups: Sequence[Segments], clusters: Sequence[tuple[str, str]], problems: Problems
) -> None:
    """Report underlay networks that overlap the pods' ranges."""
    for group in groups:
        for cidr, members in group.members.items():
            for variable, cluster in clusters:
                # A node's address inside the range was reported already.
                if overlaps(cidr, cluster):
                    problems.add(
                        f"{variable}: {cluster} overlaps {cidr}, the network of"
                        f" {listed(members, 3)}: choose another range for the pods"
                    )


def check_nesting(group: Segments, problems: Problems) -> None:
    """Report networks that lie in a wider one: their hosts would disagree on being on-link.

    A network of one address (/32, /128) is left out: it is meant to have nobody on-link.
    """
    full = 32 if group.family == 4 else 128
    found = sorted((*_range(cidr), cidr) for cidr in group.members if split_cidr(cidr)[1] < full)
    outer: tuple[int, int, str] | None = None
    # By first address, the wider first: what is nested comes right after what holds it.
    for low, high, cidr in sorted(found, key=lambda item: (item[0], -item[1])):
        if outer is not None and low <= outer[1]:
            one, other = group.members[outer[2]][0], group.members[cidr][0]
            problems.add(
                f"{other}: its network {cidr} lies in {outer[2]} of {one}: give hosts on one"
                " segment one prefix length"
            )
        else:
            outer = (low, high, cidr)


def check_one_segment(group: Segments, problems: Problems) -> None:
    """Report pairs of hosts on different segments: host-gw cannot join them."""
    _, apart = group.pairs()
    if not apart:
        return
    firsts = [(members[0], cidr) for cidr, members in group.members.items()]
    full = 32 if group.family == 4 else 128
    shown = [f"{one} ({cidr}) and {firsts[0][0]} ({firsts[0][1]})" for one, cidr in firsts[1:4]]
    alone = all(split_cidr(cidr)[1] == full for _, cidr in firsts)
    hint = f"; a /{full} leaves nobody on-link, give the segment's prefix length" if alone else ""
    rest = f" and {apart - len(shown)} more" if apart > len(shown) else ""
    problems.add(
        f"podnet_backend: host-gw needs all hosts on one segment, and these share none:"
        f" {', '.join(shown)}{rest}{hint}: set podnet_backend to vxlan and podnet_direct_routing"
        " to true"
    )

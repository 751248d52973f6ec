"""The nodes' own network, as far as the inventory tells: addresses, family, networks."""

from __future__ import annotations

from typing import Sequence

from ..core.model import overlaps, pack
from ..core.segments import Segments, address_of, span
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


_RANGES = {
    family: [(*span(cidr), cidr, what) for cidr, what in special]
    for family, special in _SPECIAL.items()
}


def special(cidr: str) -> str:
    """Return the special range that a CIDR overlaps, such as "127.0.0.0/8 (loopback)", or ""."""
    first, last = span(cidr)
    for low, high, other, what in _RANGES[6 if ":" in cidr else 4]:
        if first <= high and low <= last:
            return f"{other} ({what})"
    return ""


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
    pods = {6 if ":" in cidr else 4: (*span(cidr), name, cidr) for name, cidr in clusters}
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

"""What podnet needs to know of a host besides its own objects: the underlay, seen from there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from .model import Node, Plan, pack


class Underlay(NamedTuple):
    """The host's own address of one family, the device that holds it and that device's MTU."""

    address: str
    device: str
    mtu: int


class Prefix(NamedTuple):
    """A connected prefix: addresses of `size` bytes with `raw >> shift == value` are on-link."""

    size: int
    shift: int
    value: int
    device: str


@dataclass
class Host:
    """One host's view of the underlay; `underlay` maps the family (4 or 6) to our address."""

    underlay: dict[int, Underlay] = field(default_factory=dict)
    prefixes: tuple[Prefix, ...] = ()

    def on_link_device(self, address: str) -> str:
        """Return the device whose connected prefix holds `address`, or ""."""
        raw = pack(address)
        value = int.from_bytes(raw, "big")
        for prefix in self.prefixes:
            if prefix.size == len(raw) and value >> prefix.shift == prefix.value:
                return prefix.device
        return ""


def make_prefix(address: str, length: int, device: str) -> Prefix:
    """Return the connected prefix of an interface address."""
    raw = pack(address)
    shift = len(raw) * 8 - length
    return Prefix(len(raw), shift, int.from_bytes(raw, "big") >> shift, device)


def is_same_segment(one: Node, other: Node, family: int) -> bool | None:
    """Whether two nodes share a segment by the inventory alone; None where it does not say.

    Both ends must come to the same decision, so what the inventory says goes before what a host
    sees of its own addresses.
    """
    pairs: list[tuple[str, int | None]] = [
        (node.ip, node.ip_prefix) if family == 4 else (node.ip6, node.ip6_prefix)
        for node in (one, other)
    ]
    (one_ip, one_length), (other_ip, other_length) = pairs
    if one_length is None or other_length is None or not one_ip or not other_ip:
        return None
    if one_length != other_length:
        return False
    prefix = make_prefix(one_ip, one_length, "")
    return int.from_bytes(pack(other_ip), "big") >> prefix.shift == prefix.value


def direct_device(plan: Plan, node: Node, peer: Node, host: Host, family: int) -> str:
    """Return the device over which `peer` is reached without a router, or "".

    `family` is that of the nodes' addresses.
    """
    said = is_same_segment(node, peer, family)
    if said is False:
        return ""
    return host.on_link_device(peer.ip if family == 4 else peer.ip6)

"""A host's view of the underlay: how its kernel reaches each peer.

The kernel was asked, for each peer, which way a packet from the node's address takes
(kernel/underlay.py); everything here is decided from its answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterator, Mapping, NamedTuple

from .model import Node, Plan, pack
from .text import listed


class Underlay(NamedTuple):
    """The host's own address of one family, and the device that the user named or that holds it.

    `mtu` is the device's, in bytes; it counts on a host without peers. `holder` is the device that
    holds the address, "" for a loopback: at boot, when its name may have changed, it is found by
    the address (keep/boot.py).
    """

    address: str
    device: str
    mtu: int
    holder: str = ""


class Way(NamedTuple):
    """How the kernel sends from the node's address to a peer's (`ip route get`).

    `gateway` is "" where the peer is on-link. `mtu` is the route's own or the device's, in bytes.
    `source` is the source address that the kernel would choose by itself ("" if that is not known).
    `learned` is a smaller path MTU that the kernel has cached from a router's report, 0 for none.
    `back` is the device that the kernel would send over if podnet_interface named none: a strict
    rp_filter accepts packets from the peer on that device only.
    """

    device: str
    mtu: int
    gateway: str = ""
    source: str = ""
    learned: int = 0
    back: str = ""


class Narrowest(NamedTuple):
    """The way with the smallest MTU; `peer` is the node that it leads to, "" for none."""

    device: str
    mtu: int
    peer: str


@dataclass
class HostView:
    """One host's view of the underlay; `underlay` maps the family (4 or 6) to our address.

    `ways` maps a peer's address to the way there; addresses without a route are missing. `facts`
    are what the plan's backend has asked of the host (backends/base.py). `unlinked` are the host's
    devices that are up without an IPv6 link-local address.
    """

    underlay: dict[int, Underlay] = field(default_factory=dict)
    ways: dict[str, Way] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    unlinked: tuple[str, ...] = ()

    def on_link_device(self, address: str) -> str:
        """Return the device over which `address` is reached without a router, or ""."""
        way = self.ways.get(address)
        return way.device if way is not None and not way.gateway else ""

    def devices(self) -> list[str]:
        """Return the devices that lead to the peers; without peers, those of our addresses."""
        leading = dict.fromkeys(way.device for way in self.ways.values())
        return list(leading or dict.fromkeys(one.device for one in self.underlay.values()))


class Prefix(NamedTuple):
    """A range of addresses of `size` bytes: those with `raw >> shift == value`."""

    size: int
    shift: int
    value: int


def make_prefix(address: str, length: int) -> Prefix:
    """Return the range of an address with a prefix length."""
    raw = pack(address)
    shift = len(raw) * 8 - length
    return Prefix(len(raw), shift, int.from_bytes(raw, "big") >> shift)


def is_same_segment(one: Node, other: Node, family: int) -> bool | None:
    """Whether two nodes share a segment by the inventory alone; None where it does not say."""
    pairs: list[tuple[str, int | None]] = [
        (node.ip, node.ip_prefix) if family == 4 else (node.ip6, node.ip6_prefix)
        for node in (one, other)
    ]
    (one_ip, one_length), (other_ip, other_length) = pairs
    if one_length is None or other_length is None or not one_ip or not other_ip:
        return None
    if one_length != other_length:
        return False
    prefix = make_prefix(one_ip, one_length)
    return int.from_bytes(pack(other_ip), "big") >> prefix.shift == prefix.value


def direct_device(plan: Plan, node: Node, peer: Node, host: HostView, family: int) -> str:
    """Return the device over which `peer` is reached without a router, or "".

    `family` is that of the nodes' addresses. Two nodes that the inventory puts on different
    segments never send to each other directly, whatever the hosts see. For all other pairs each
    host asks its own kernel, which refuses a gateway that it does not take for on-link.
    """
    said = is_same_segment(node, peer, family)
    if said is False:
        return ""
    return host.on_link_device(peer.ip if family == 4 else peer.ip6)


def addressed_peers(plan: Plan, node: Node, family: int) -> Iterator[tuple[Node, str]]:
    """Yield (peer, its address) of the other nodes with which `node` shares a family."""
    if not (node.ip if family == 4 else node.ip6):
        return
    for peer in plan.nodes.values():
        address = peer.ip if family == 4 else peer.ip6
        if address and peer.name != node.name:
            yield peer, address


def narrowest(plan: Plan, node: Node, host: HostView, family: int) -> Narrowest:
    """Return the way to a peer with the smallest MTU; without peers, the host's own device."""
    ways = [
        Narrowest(way.device, way.mtu, peer.name)
        for peer, address in addressed_peers(plan, node, family)
        for way in (host.ways.get(address),)
        if way is not None
    ]
    own = host.underlay[family]
    return min(ways, key=lambda way: way.mtu, default=Narrowest(own.device, own.mtu, ""))


def two_ways(plan: Plan, node: Node, host: HostView) -> set[str]:
    """Return devices that the user named although the kernel would send to IPv4 peers by others.

    A strict rp_filter drops peers' packets that come in by such a device (RFC 3704).
    """
    ways = (host.ways.get(address) for _other, address in addressed_peers(plan, node, 4))
    return {way.device for way in ways if way and way.back not in ("", way.device)}


def problems(plan: Plan, node: Node, host: HostView, podnets: set[str]) -> list[str]:
    """Return why packets would not reach the peers' addresses as the plan wants, a sentence each.

    `podnets` are the devices of podnet's networks.
    """
    found = []
    inside, lost = [], []
    for family in (4, 6):
        for peer, address in addressed_peers(plan, node, family):
            way = host.ways.get(address)
            if way is None:
                lost.append(f"{peer.name} ({address})")
            elif way.device in podnets:
                inside.append(f"{peer.name} ({address}) over {way.device}")
    if inside:
        found.append(
            f"{node.name}: the kernel reaches {listed(inside, 5)}, which podnet itself made: a "
            "node's address cannot be reached through the pods' network. Remove that route"
        )
    if lost and node.interface:
        found.append(
            f"{node.name}: podnet_interface {node.interface}: the kernel has no route over it to "
            f"{listed(lost, 5)}. Add one, or leave podnet_interface out: the kernel then decides"
        )
    return found


def notes(plan: Plan, node: Node, host: HostView) -> list[str]:
    """Return what a user should know of the ways to the peers, a sentence each."""
    found = []
    lost, short = [], []
    for family in (4, 6):
        for peer, address in addressed_peers(plan, node, family):
            way = host.ways.get(address)
            if way is None:
                lost.append(f"{peer.name} ({address})")
            elif way.learned:
                short.append(f"{peer.name} ({way.learned} of {way.mtu} on {way.device})")
    if lost and not node.interface:
        found.append(
            f"{node.name}: the kernel has no route to {listed(lost, 5)} now; pods reach them when "
            "it has one"
        )
    if short:
        found.append(
            f"{node.name}: routers report a smaller MTU on the way to {listed(short, 5)}. Pods "
            "send packets that only fragments can carry: set podnet_mtu, or the MTU of the route "
            "(ip route ... mtu)"
        )
    return found


def silent(node: Node, host: HostView, routes: Mapping[str, str]) -> list[str]:
    """Return a warning for each device of IPv6 gateways in `routes` without a link-local address.

    `routes` are as in `core.state.State`. RFC 4291 section 2.1 demands that address on every
    interface. Linux asks for a next hop's MAC with the packet's source if that is its own, else
    with this address; without it, it does not ask (ndisc_send_ns).
    """
    ways = (route.partition(" dev ") for route in routes.values() if route.startswith("via "))
    devices = {rest.split()[0] for gateway, _dev, rest in ways if ":" in gateway}
    return [
        f"{node.name}: {device} has no IPv6 link-local address, so the kernel does not ask for the "
        "MAC of a node that pods' packets go to over IPv6, and drops them until that node has "
        "asked for this one's. Give it one: LinkLocalAddressing=ipv6 (systemd.network(5)), or "
        f"ip link set {device} addrgenmode eui64, then down and up"
        for device in sorted(devices.intersection(host.unlinked))
    ]

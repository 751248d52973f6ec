"""host-gw on a host: plain routes.

It works where nodes share a segment: a gateway must be on-link (ip-route(8)).
"""

from __future__ import annotations

from ...core.host_view import HostView, direct_device
from ...core.model import Node, Plan
from ...core.state import State
from ...core.text import listed
from ..base import Backend, peers


class HostGateway(Backend):
    """One plain route for each peer and family."""

    is_portable = True

    def overhead(self, plan: Plan) -> int:
        """Return 0: packets travel as the pod made them."""
        return 0

    def families(self, plan: Plan, node: Node) -> set[int]:
        """Return the families of the gateways: IPv6 ones serve IPv4 pods on nodes without IPv4."""
        four = {4 if node.ip else 6} if plan.cluster_cidr else set()
        return four | ({6} if plan.cluster_cidr6 and node.ip6 else set())

    def has_plain_routes(self, plan: Plan) -> bool:
        """Return true: there are no others."""
        return True

    def devices(self, plan: Plan, node: Node, host: HostView, mtu: int, state: State) -> None:
        """No device: routes go over the underlay's own."""

    def peer(self, plan: Plan, node: Node, host: HostView, peer: Node, state: State) -> None:
        """Add the routes to the peer's subnets via the peer's addresses."""
        if peer.subnet and peer.ip and node.ip:
            state.routes.update(_route(plan, node, host, peer, 4))
        elif peer.subnet:
            # Over an underlay without IPv4, the gateway is an IPv6 one (ip-route(8), `via inet6`).
            device = direct_device(plan, node, peer, host, 6)
            if device:
                state.routes[peer.subnet] = f"via inet6 {peer.ip6} dev {device}"
        if peer.subnet6 and peer.ip6:
            state.routes.update(_route(plan, node, host, peer, 6))

    def problems(self, plan: Plan, node: Node, host: HostView) -> list[str]:
        """Name the peers that are not on-link."""
        far = []
        for peer in peers(plan, node):
            reached = State()
            self.peer(plan, node, host, peer, reached)
            if len(reached.routes) < bool(peer.subnet) + bool(peer.subnet6):
                far.append(_described(plan, node, host, peer))
        if not far:
            return []
        return [
            f"{node.name}: host-gw needs peers on the same segment, but {listed(far, 5)} are not "
            "on-link. Set podnet_backend to vxlan with podnet_direct_routing: true: plain "
            "routes where they work, VXLAN elsewhere"
        ]


def _route(plan: Plan, node: Node, host: HostView, peer: Node, family: int) -> dict[str, str]:
    """Return the route of a family via the peer's address, {} where it is not on-link."""
    device = direct_device(plan, node, peer, host, family)
    if not device:
        return {}
    subnet, address, own = peer.subnet, peer.ip, node.ip
    if family == 6:
        subnet, address, own = peer.subnet6, peer.ip6, node.ip6
    source = host.ways[address].source
    # Where another tool's address comes before the node's own, the host would use that one as its
    # source address when it sends to pods.
    named = f" src {own}" if source not in ("", own) else ""
    return {subnet: f"via {address} dev {device}{named}"}


def _described(plan: Plan, node: Node, host: HostView, peer: Node) -> str:
    """Name a peer that is not on-link, and how the kernel reaches it instead."""
    family = 6 if direct_device(plan, node, peer, host, 4) or not (peer.ip and node.ip) else 4
    address = peer.ip if family == 4 else peer.ip6
    way = host.ways.get(address)
    how = "by the inventory"
    if way is None:
        how = "no route"
    elif way.gateway:
        how = f"by {way.gateway} over {way.device}"
    return f"{peer.name} ({address}, {how})"

"""host-gw: the peer itself is the gateway to its subnet; nothing is added to a packet.

It works where nodes share a segment: a gateway must be on-link (ip-route(8)).
"""

from __future__ import annotations

from ..host import Host, direct_device
from ..model import Node, Plan
from ..state import State
from .base import Backend, peers


class HostGateway(Backend):
    """One plain route a peer and family."""

    def overhead(self, plan: Plan) -> int:
        """Nothing: packets travel as the pod made them."""
        return 0

    def devices(self, plan: Plan, node: Node, host: Host, mtu: int, state: State) -> None:
        """No device: routes go over the underlay's own."""

    def peer(self, plan: Plan, node: Node, host: Host, peer: Node, state: State) -> None:
        """Add the routes to the peer's subnets via the peer's addresses."""
        if peer.subnet:
            # Over an underlay without IPv4, the gateway is an IPv6 one (ip-route(8), `via inet6`).
            family = 4 if peer.ip and node.ip else 6
            via = peer.ip if family == 4 else f"inet6 {peer.ip6}"
            device = direct_device(plan, node, peer, host, family)
            if device:
                state.routes[peer.subnet] = f"via {via} dev {device}"
        if peer.subnet6 and peer.ip6:
            device = direct_device(plan, node, peer, host, 6)
            if device:
                state.routes[peer.subnet6] = f"via {peer.ip6} dev {device}"

    def problems(self, plan: Plan, node: Node, host: Host) -> list[str]:
        """Name the peers that are not on-link."""
        far = []
        for peer in peers(plan, node):
            reached = State()
            self.peer(plan, node, host, peer, reached)
            if len(reached.routes) < bool(peer.subnet) + bool(peer.subnet6):
                far.append(f"{peer.name} ({peer.ip or peer.ip6})")
        if not far:
            return []
        shown = ", ".join(far[:5]) + (f" and {len(far) - 5} more" if len(far) > 5 else "")
        return [
            f"host-gw needs peers on the same segment, but {shown} are not on-link for "
            f"{node.name}. Set podnet_backend to vxlan with podnet_direct_routing: true: plain "
            "routes where they work, VXLAN elsewhere"
        ]

"""VXLAN on a host.

Per peer, as flannel does it: a permanent neighbour for the address that stands for the peer's
VTEP (the first of its subnet), a permanent FDB entry that sends the VTEP's MAC to the peer's
address, and a route via that neighbour. Nothing is learned and nothing is flooded.
"""

from __future__ import annotations

from typing import ClassVar

from ...core.host_view import HostView
from ...core.model import Node, Plan, is_int, is_interface_name, split_cidr
from ...core.nft_words import NFT_WORDS
from ...core.state import Link, Rule, State, make_rule
from ..base import Backend, Settings
from ..host_gw.host import HostGateway
from .device import VARIABLE, Options

#: Outer Ethernet 14 + IPv4 20 (IPv6 40) + UDP 8 + VXLAN 8 bytes (RFC 7348, section 5).
OVERHEAD = {4: 50, 6: 70}


class Vxlan(Backend):
    """One device; for each peer an FDB entry, and a neighbour and a route for each family."""

    settings: ClassVar[Settings] = {
        "vni": lambda value: is_int(value, 1, 2**24 - 1),
        "port": lambda value: is_int(value, 1, 65535),
        "device": is_interface_name,
        "direct_routing": lambda value: isinstance(value, bool),
    }
    optional: ClassVar[Settings] = {"tx_checksum": lambda value: value in ("on", "off")}
    is_portable = True

    def overhead(self, plan: Plan) -> int:
        """Return 50 bytes over IPv4, 70 over IPv6."""
        return OVERHEAD[plan.underlay]

    def families(self, plan: Plan, node: Node) -> set[int]:
        """Return the underlay's, and with direct routing those of plain routes, too."""
        direct = HostGateway().families(plan, node) if self.has_plain_routes(plan) else set()
        return {plan.underlay} | direct

    def own_devices(self, plan: Plan) -> dict[str, str]:
        """Return the VXLAN device."""
        return {plan.settings["device"]: VARIABLE}

    def mac(self, plan: Plan, node: Node) -> str:
        """Return the VTEP's MAC, which is in the plan so that peers know it without asking."""
        return node.mac

    def has_plain_routes(self, plan: Plan) -> bool:
        """Whether podnet_direct_routing is set."""
        # Also asked with another backend's plan, for podnet_mtu: portable.
        return bool(plan.settings.get("direct_routing"))

    def devices(self, plan: Plan, node: Node, host: HostView, mtu: int, state: State) -> None:
        """Add the VTEP."""
        device = plan.settings["device"]
        state.links[device] = Link(
            kind="vxlan",
            mtu=mtu,
            mac=node.mac,
            alias=f"podnet:{plan.name}",
            options=Options(
                plan.settings["vni"],
                plan.settings["port"],
                host.underlay[plan.underlay].address,
                tx_checksum=node.settings.get("tx_checksum", ""),
            ).text(),
        )
        if node.subnet:
            state.addresses[device, split_cidr(node.subnet)[0] + "/32"] = ""
        if node.subnet6:
            # No other node can have it, and duplicate address detection would leave it tentative
            # for a second.
            state.addresses[device, split_cidr(node.subnet6)[0] + "/128"] = " nodad"

    def peer(self, plan: Plan, node: Node, host: HostView, peer: Node, state: State) -> None:
        """Add the peer's entries; a direct peer gets plain routes instead."""
        if self.has_plain_routes(plan) and self.is_direct(plan, node, host, peer):
            HostGateway().peer(plan, node, host, peer, state)
            return
        device = plan.settings["device"]
        remote = peer.ip if plan.underlay == 4 else peer.ip6
        if node.interface:
            # The VXLAN device's own `dev` would not do: FDB entries do not inherit it
            # (vxlan_fdb_parse in vxlan_core.c), and the device would be deleted with its NIC.
            remote += f" via {node.interface}"
        state.entries[device, peer.mac] = remote
        for subnet in (peer.subnet, peer.subnet6):
            if not subnet:
                continue
            vtep = subnet.partition("/")[0]
            state.neighbours[device, vtep] = peer.mac
            if ":" in vtep:
                # IPv6 looks a gateway up even with `onlink` and refuses one that it would reach
                # over another device (ip6_route_check_nh_onlink). While the subnet is still routed
                # over another one, the VTEP's address needs a route of its own.
                state.routes[f"{vtep}/128"] = f"dev {device}"
            state.routes[subnet] = f"via {vtep} dev {device} onlink"

    def guard(self, plan: Plan) -> tuple[Rule, ...]:
        """Drop what is for this network's VNI and has no node's address as its source.

        A device takes packets at every address of the host, at broadcast and multicast ones, too,
        and only in the family of its own address. Other networks may use the same port: what is
        readable as another VNI is left to them. A fragment too short to hold a VNI counts as ours:
        where nothing tracks connections, fragments are put together only after this chain.
        Nodes are never behind the pods' bridge, nor behind lo: whoever sends from there, a pod or a
        process of the host, may not take a node's address.
        """
        family = plan.underlay
        ip, at = "ip" if family == 4 else "ip6", f"udp dport {plan.settings['port']}"
        # As nft prints it, so that a rule which is read back can be written again.
        plain = plan.bridge[0].isalpha() and plan.bridge not in NFT_WORDS
        bridge = plan.bridge if plain else f'"{plan.bridge}"'
        inside = ", ".join(sorted([bridge, "lo"]))
        ours = f"meta nfproto ipv{family} {at}"
        return (
            make_rule(
                f"{at} iifname != {{ {inside} }} {ip} saddr @nodes{family} accept", "from a node"
            ),
            make_rule(f"{ours} @th,96,24 != {plan.settings['vni']} accept", "of another VNI"),
            make_rule(f"{ours} fib daddr type != unicast counter drop", "from no node of the plan"),
        )

    def is_direct(self, plan: Plan, node: Node, host: HostView, peer: Node) -> bool:
        """Whether plain routes reach all of the peer's subnets, so that VXLAN is not needed."""
        reached = State()
        HostGateway().peer(plan, node, host, peer, reached)
        return len(reached.routes) == bool(peer.subnet) + bool(peer.subnet6)

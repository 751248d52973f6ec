"""WireGuard in a plan: no packet is to travel in the clear, and of any two one must send first."""

from __future__ import annotations

from typing import Any, ClassVar, Mapping, Sequence

from ...core.model import Plan
from ...core.segments import Addressed, Segments
from ...core.text import listed
from ..planner import Findings, Planner
from .device import KEEPALIVE, fingerprint
from .host import BEHIND_NAT


class WireguardPlanner(Planner):
    """One device, called as flannel calls it unless the user names it."""

    tunnel = "WireGuard"
    no_variables: ClassVar[Mapping[str, str]] = {
        "key": "hosts make their own keys, and a private key never leaves its host: delete it",
    }
    prefixes = ("podnet_wireguard_", "podnet_private_", "podnet_public_", "podnet_wg_")

    def settings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return port, device and the fingerprint of the shared key."""
        psk = values["wireguard_psk"]
        return {
            "port": values["wireguard_port"],
            "device": values["wireguard_device"],
            "psk": fingerprint(psk) if psk else "",
        }

    def node_settings(self, values: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
        """Return endpoint, keepalive and userspace."""
        endpoint = own.get("wireguard_endpoint") or ""
        usual = KEEPALIVE if endpoint == BEHIND_NAT else 0
        return {
            "endpoint": endpoint,
            "keepalive": own.get("wireguard_keepalive") or usual,
            "userspace": bool(own.get("wireguard_userspace")),
        }

    def devices(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Return the WireGuard device."""
        return {values["wireguard_device"]: "WireGuard device"}

    def value_problems(self, values: Mapping[str, Any]) -> list[str]:
        """Refuse plain routes."""
        if not values["direct_routing"]:
            return []
        return [
            "podnet_direct_routing: true, and podnet_backend is wireguard: packets to peers on the"
            " same segment would travel in the clear beside encrypted ones: set it to false"
        ]

    def host_findings(
        self, values: Mapping[str, Any], hosts: Sequence[Addressed], groups: Sequence[Segments]
    ) -> Findings:
        """Refuse two nodes of which neither can send to the other first."""
        found = Findings([], [])
        hidden = [host.name for host in hosts if host.own.get("wireguard_endpoint") == BEHIND_NAT]
        if len(hidden) > 1:
            found.problems.append(
                f"podnet_wireguard_endpoint: none on {listed(hidden, 3)}: neither of two hosts"
                " behind NAT can send to the other first: give all but one an address, with a port"
                " that is forwarded to it"
            )
        return found

    def described(self, plan: Plan) -> str:
        """Return port, device, and whether there is a shared key."""
        own = plan.settings
        shared = ", pre-shared key" if own["psk"] else ""
        return f"wireguard (port {own['port']}, {own['device']}{shared})"

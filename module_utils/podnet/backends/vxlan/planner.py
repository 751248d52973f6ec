"""VXLAN in a plan: the device's name, and plain routes where podnet_direct_routing wants them."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ...core.model import Plan
from ...core.segments import Addressed, Segments
from ...core.text import listed
from ..host_gw.planner import nesting_problems, unknown_notes
from ..planner import Findings, Planner


class VxlanPlanner(Planner):
    """One device, called as flannel calls it unless the user names it."""

    tunnel = "VXLAN"
    suspect = (
        "Where ICMP passes and TCP does not, a firewall between the nodes may drop it, or a NIC,"
        " its driver or a hypervisor spoils checksums of what VXLAN carries. For the latter try on"
        " all hosts: ethtool -K {device} tx-checksum-ip-generic off. If that helps,"
        " podnet_vxlan_tx_checksum: off keeps it so."
    )

    def settings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return vni, port, device and direct_routing."""
        return {
            "vni": values["vxlan_vni"],
            "port": values["vxlan_port"],
            "device": values["vxlan_device"] or f"flannel.{values['vxlan_vni']}",
            "direct_routing": values["direct_routing"],
        }

    def node_settings(self, values: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
        """Return tx_checksum where the user sets it."""
        checksum = own.get("vxlan_tx_checksum", "keep")
        return {} if checksum == "keep" else {"tx_checksum": checksum}

    def devices(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Return the VXLAN device."""
        return {self.settings(values)["device"]: "VXLAN device"}

    def value_problems(self, values: Mapping[str, Any]) -> list[str]:
        """Demand a name that a device can have."""
        device = self.settings(values)["device"]
        if len(device) > 15:
            return [
                f"podnet_vxlan_vni: {values['vxlan_vni']} makes the device name {device}, and an"
                " interface name has at most 15 bytes: set podnet_vxlan_device"
            ]
        return []

    def host_findings(
        self, values: Mapping[str, Any], hosts: Sequence[Addressed], groups: Sequence[Segments]
    ) -> Findings:
        """Say which pairs get no plain routes, if the user wants some."""
        found = Findings([], [])
        if not values["direct_routing"]:
            return found
        lacking = [host.name for host in hosts if not host.ip6]
        if values["cluster_cidr6"] and lacking:
            found.notes.append(
                f"podnet_node_ip6 is not set on {listed(lacking, 3)}: IPv6 pods use VXLAN to all "
                "peers"
            )
        for group in groups:
            found.problems.extend(nesting_problems(group))
            found.notes.extend(unknown_notes(group, hosts))
        return found

    def described(self, plan: Plan) -> str:
        """Return VNI, port, device, and whether there are plain routes."""
        own = plan.settings
        direct = ", direct routes on-link" if own["direct_routing"] else ""
        return f"vxlan (VNI {own['vni']}, port {own['port']}, {own['device']}{direct})"

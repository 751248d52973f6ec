"""All backends: what the controller asks."""

from __future__ import annotations

from .host_gw.planner import HostGatewayPlanner
from .planner import Planner
from .vxlan.planner import VxlanPlanner
from .wireguard.planner import WireguardPlanner

#: By the name that podnet_backend has; those of registry.BACKENDS.
PLANNERS: dict[str, Planner] = {
    "vxlan": VxlanPlanner(),
    "host-gw": HostGatewayPlanner(),
    "wireguard": WireguardPlanner(),
}

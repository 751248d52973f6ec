"""All backends: what the controller asks."""

from __future__ import annotations

from typing import Any, Mapping

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


def suspect(document: Mapping[str, Any]) -> str:
    """Return `Planner.suspect` with the names of a plan; `document` is the plan as JSON types."""
    return PLANNERS[document["backend"]].suspect.format(device=document.get("device"))

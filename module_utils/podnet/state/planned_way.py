"""Which way a packet should take over a host, by the plan."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from ..core.errors import PodnetError
from ..core.host_view import HostView
from ..core.model import Node, Plan, is_inside
from ..core.state import State, route_device
from .desire import desired


def wanted(plan: Plan, node: Node, view: HostView | None) -> State:
    """Return what the host must have, as far as that can be told: nothing without a `view`.

    Unlike `desired` it returns all the rest where pods' MTU does not fit the underlay.
    """
    for one in (plan, replace(plan, mtu="auto")):
        try:
            return desired(one, node, view) if view else State()
        except PodnetError:
            continue
    return State()


class PlannedRoute(NamedTuple):
    """A route as the plan has it: "" in all fields where the plan has none to an address."""

    destination: str = ""
    gateway: str = ""
    device: str = ""
    text: str = ""


def planned_route(final: State, address: str) -> PlannedRoute:
    """Return the route of `final` that a packet to `address` should take."""
    single = f"{address}/{128 if ':' in address else 32}"
    best = PlannedRoute()
    length = -1
    for destination, body in final.routes.items():
        cidr = destination.split(" ", 1)[0]
        bits = int(cidr.partition("/")[2])
        if bits > length and is_inside(single, cidr):
            length = bits
            best = PlannedRoute(cidr, gateway(body), route_device(body), f"{destination} {body}")
    return best


def gateway(body: str) -> str:
    """Return the gateway that a route's text names, "" for none."""
    words = body.split()
    if "via" not in words:
        return ""
    after = words[words.index("via") + 1 :]
    return after[1] if after[:1] in (["inet6"], ["inet"]) else "".join(after[:1])

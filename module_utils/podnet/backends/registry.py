"""All backends, and the kinds of devices that they make: what hosts ask."""

from __future__ import annotations

from ..core.model import Plan, demand
from ..core.state import Link, State
from .base import Backend, DeviceKind, Entries
from .host_gw.host import HostGateway
from .vxlan.device import VxlanDevice
from .vxlan.host import Vxlan

#: By the name that podnet_backend has.
BACKENDS: dict[str, Backend] = {"vxlan": Vxlan(), "host-gw": HostGateway()}

#: By the kind as ip-link(8) names it. A bridge is no backend's.
KINDS: dict[str, DeviceKind] = {"vxlan": VxlanDevice()}


def demand_known(plan: Plan) -> None:
    """Raise PodnetError unless the plan's backend is known and has its settings, and only those."""
    demand(plan.backend in BACKENDS, "backend", plan.backend)
    known = BACKENDS[plan.backend].settings
    for key, value in plan.settings.items():
        demand(key in known and known[key](value), key, value)
    for key in known:
        demand(key in plan.settings, key, None)


def entries_by_kind(state: State) -> dict[str, Entries]:
    """Return the entries of `state` for each of KINDS."""
    found: dict[str, Entries] = {name: {} for name in KINDS}
    for key, entry in state.entries.items():
        found[state.links[key[0]].kind][key] = entry
    return found


def is_same_device(one: Link, other: Link) -> bool:
    """Whether `one` can be turned into `other` without deleting it."""
    if one.kind != other.kind:
        return False
    kind = KINDS.get(one.kind)
    return kind is None or kind.is_same(one.options, other.options)

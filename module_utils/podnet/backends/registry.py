"""All backends, and the kinds of devices that they make: what hosts ask."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Callable, Mapping, Sequence

from ..core.model import Plan, demand
from ..core.state import Link, State
from .base import Backend, DeviceKind, Entries, HostTools, Secrets, Settings
from .host_gw.host import HostGateway
from .vxlan.device import VxlanDevice
from .vxlan.host import Vxlan
from .wireguard.device import UserspaceDevice, WireguardDevice, commands
from .wireguard.host import Wireguard

#: By the name that podnet_backend has.
BACKENDS: dict[str, Backend] = {
    "vxlan": Vxlan(),
    "host-gw": HostGateway(),
    "wireguard": Wireguard(),
}

#: By the kind as ip-link(8) names it. A bridge is no backend's.
KINDS: dict[str, DeviceKind] = {
    "vxlan": VxlanDevice(),
    "wireguard": WireguardDevice(),
    "tun": UserspaceDevice(),
}

#: Tool of a `Change` -> what makes the commands of its lines, for tools that a backend brings.
TOOLS: dict[str, Callable[[Sequence[str]], list[list[str]]]] = {"wg": commands}

#: Tool that a backend brings -> the package that has it.
PACKAGES = {"wg": "wireguard-tools", "wireguard-go": "wireguard-go", "ethtool": "ethtool"}


#: The kinds that stand for themselves (DeviceKind.like).
MAIN_KINDS = {name: kind for name, kind in KINDS.items() if not kind.like}


def demand_known(plan: Plan) -> None:
    """Raise PodnetError unless the plan's backend is known and has its settings, and only those."""
    demand(plan.backend in BACKENDS, "backend", plan.backend)
    backend = BACKENDS[plan.backend]
    _demand_settings(backend.settings, plan.settings, "")
    for node in plan.nodes.values():
        _demand_settings(
            backend.node_settings, node.settings, f"nodes.{node.name}.", backend.optional
        )


def _demand_settings(
    known: Settings, given: Mapping[str, Any], label: str, optional: Settings = MappingProxyType({})
) -> None:
    allowed = {**known, **optional}
    for key, value in given.items():
        demand(key in allowed and allowed[key](value), label + key, value)
    for key in known:
        demand(key in given, label + key, None)


def main_kind(kind: str) -> str:
    """Return the kind of MAIN_KINDS that stands for one of KINDS."""
    return KINDS[kind].like or kind


def entries_by_kind(state: State) -> dict[str, Entries]:
    """Return the entries of `state` for each of MAIN_KINDS."""
    found: dict[str, Entries] = {name: {} for name in MAIN_KINDS}
    for key, entry in state.entries.items():
        found[main_kind(state.links[key[0]].kind)][key] = entry
    return found


def boot_files(state: State) -> dict[str, str]:
    """Return name -> text of the boot files that set the entries of all devices."""
    return {
        MAIN_KINDS[name].boot_file: MAIN_KINDS[name].boot_text(
            {
                device: link
                for device, link in state.links.items()
                if link.kind in KINDS and main_kind(link.kind) == name
            },
            entries,
        )
        for name, entries in entries_by_kind(state).items()
    }


def secrets_on(name: str, tools: HostTools) -> Secrets:
    """Return the secret files of network `name` that are on the host, of all backends."""
    found: Secrets = {}
    for backend in BACKENDS.values():
        found.update(backend.secrets_on(name, tools))
    return found


def is_same_device(one: Link, other: Link) -> bool:
    """Whether `one` can be turned into `other` without deleting it."""
    if one.kind != other.kind:
        return False
    kind = KINDS.get(one.kind)
    return kind is None or kind.is_same(one.options, other.options)

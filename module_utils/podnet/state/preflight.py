"""What would fail half-way through a change, found before anything is changed on any host.

`questions` says what must be known of a host for the change ahead, `kernel/preflight.py` finds it
out, and `problems` judges. A host that has nothing to do is asked next to nothing.
"""

from __future__ import annotations

from typing import Any, Collection, Mapping, NamedTuple, Sequence

from ..core.model import Node
from .diff import is_same_device
from .phases import ASIDE
from .state import State, route_device

_DEFAULT6 = "net.ipv6.conf.default.disable_ipv6"


class Questions(NamedTuple):
    """What to ask a host.

    `port` and `vni` are those of a VXLAN device which is to be made or brought up, 0 for none;
    `family` (4 or 6) is that of its outer packets. `renames` are (old name, new name) of devices
    that are up. `disabled6` are the sysctls disable_ipv6 of the devices that need IPv6.
    """

    port: int = 0
    vni: int = 0
    family: int = 4
    renames: tuple[tuple[str, str], ...] = ()
    disabled6: tuple[str, ...] = ()


class Facts(NamedTuple):
    """What a host answered, as far as it was asked.

    `vxlan`: its kernel can make VXLAN devices. `holder`: who has the UDP port, "" for nobody.
    `can_rename`: its kernel can rename devices that are up; `release` is that kernel's. `values`
    are those of the sysctls `disabled6`, None on a kernel without IPv6.
    """

    vxlan: bool = True
    holder: str = ""
    can_rename: bool = True
    release: str = ""
    values: Mapping[str, str] | None = {}


class Device(NamedTuple):
    """A VXLAN device of the host.

    `mode` is "", or the flag (external, gbp, gpe) that keeps devices without it off its UDP port.
    `ours`: it is this network's, or has the name of a device that the network needs.
    """

    name: str
    vni: int
    port: int
    mode: str
    up: bool
    ours: bool


def vxlan_devices(links: Sequence[Mapping[str, Any]], ours: Collection[str]) -> list[Device]:
    """Return the VXLAN devices among `links`, all devices of a host; `ours` are names."""
    found = []
    for link in links:
        info = link.get("linkinfo", {})
        if info.get("info_kind") == "vxlan":
            data = info.get("info_data", {})
            mode = next((key for key in ("external", "gbp", "gpe") if data.get(key)), "")
            name, up = str(link["ifname"]), "UP" in link.get("flags", ())
            one = Device(name, data.get("id", 0), data.get("port", 0), mode, up, name in ours)
            found.append(one)
    return found


def questions(before: State, final: State, in_phases: bool) -> Questions:
    """Return what a host must be asked before it goes from `before` to `final`.

    `in_phases`: old and new devices exist beside each other for a while (phases.py).
    """
    port, vni, family = 0, 0, 4
    for link in final.links.values():
        if link.kind == "vxlan" and not any(
            one.kind == "vxlan" and one.up and one.port == link.port and is_same_device(one, link)
            for one in before.links.values()
        ):
            port, vni, family = link.port, link.vni, 6 if ":" in link.local else 4
    renames = _renames(before, final, in_phases)
    return Questions(port, vni, family, renames, _disabled6(before, final))


def _renames(before: State, final: State, in_phases: bool) -> tuple[tuple[str, str], ...]:
    names = {link.ifindex: name for name, link in final.links.items() if link.ifindex}
    found = []
    for name, link in before.links.items():
        wanted = final.links.get(name)
        if names.get(link.ifindex, name) != name:
            found.append((name, names[link.ifindex]))
        elif in_phases and wanted is not None and not is_same_device(link, wanted):
            found.append((name, ASIDE))
    return tuple((old, new) for old, new in found if before.links[old].up)


def _disabled6(before: State, final: State) -> tuple[str, ...]:
    devices = {device for device, cidr in final.addresses if ":" in cidr}
    devices |= {route_device(body) for dst, body in final.routes.items() if ":" in dst} - {""}
    return tuple(
        dict.fromkeys(
            # A device that is yet to be made takes the default.
            f"net.ipv6.conf.{device.replace('.', '/')}.disable_ipv6"
            if device in before.links or device not in final.links
            else _DEFAULT6
            for device in sorted(devices)
        )
    )


def problems(node: Node, asked: Questions, facts: Facts, devices: Sequence[Device]) -> list[str]:
    """Return what stands in the way, a sentence each that says the way out.

    `devices` are the VXLAN devices of the host.
    """
    found = []
    if asked.port and not facts.vxlan:
        found.append(
            f"{node.name}: the kernel ({facts.release}) has no VXLAN (module vxlan). Install the "
            "package with the kernel's further modules (linux-modules-extra-..., "
            "kernel-modules-extra), or set podnet_backend to host-gw"
        )
    if asked.port:
        found += _port_problems(node, asked, facts, devices)
    found += [_rename_problem(node, facts, pair) for pair in asked.renames if not facts.can_rename]
    found += _ipv6_problems(node, asked, facts)
    return found


def _port_problems(
    node: Node, asked: Questions, facts: Facts, devices: Sequence[Device]
) -> list[str]:
    """Return who else has the VXLAN port; VXLAN devices share a port only in the same mode.

    vxlan_find_sock and vxlan_vni_in_use in drivers/net/vxlan/vxlan_core.c.
    """
    found = []
    on_port = [one for one in devices if one.port == asked.port]
    for one in on_port:
        if one.ours:
            continue
        if one.mode and one.up:
            found.append(
                f"{node.name}: {one.name} on the host holds UDP port {asked.port} in another mode "
                f"({one.mode}), so no other VXLAN device can be brought up there. Set "
                f"podnet_vxlan_port to another number, or remove the device if nothing needs it "
                f"(ip link del {one.name})"
            )
        elif not one.mode and one.vni == asked.vni:
            found.append(
                f"{node.name}: {one.name} on the host uses VNI {one.vni} and port {one.port} "
                "already. Set podnet_vxlan_vni or podnet_vxlan_port to another number"
            )
    if facts.holder and not any(one.up for one in on_port):
        found.append(
            f"{node.name}: UDP port {asked.port} is in use by {facts.holder}, and VXLAN needs it. "
            "Set podnet_vxlan_port to another number, or stop what uses it"
        )
    return found


def _rename_problem(node: Node, facts: Facts, pair: tuple[str, str]) -> str:
    old, new = pair
    if new == ASIDE:
        return (
            f"{node.name}: its kernel ({facts.release}) does not rename a device that is up, as "
            f"Linux 6.2 does, and {old} has to stand beside its successor for a while. Set "
            "podnet_vxlan_device to another name together with this change"
        )
    return (
        f"{node.name}: its kernel ({facts.release}) does not rename a device that is up, as Linux "
        f"6.2 does, and {old} would have to become {new}. Keep podnet_vxlan_device: {old}, or "
        "change podnet_vxlan_vni or podnet_vxlan_port together with the name: then the new device "
        "stands beside the old one"
    )


def _ipv6_problems(node: Node, asked: Questions, facts: Facts) -> list[str]:
    way_out = "or set podnet_cluster_cidr6 to empty on a network without IPv6"
    if asked.disabled6 and facts.values is None:
        return [
            f"{node.name}: IPv6 is off in the kernel (ipv6.disable=1), and the plan has IPv6. Boot "
            f"without that parameter, {way_out}"
        ]
    off = [key for key in asked.disabled6 if (facts.values or {}).get(key) == "1"]
    if not off:
        return []
    return [
        f"{node.name}: IPv6 is off ({', '.join(f'{key}=1' for key in off)}), and the plan has "
        f"IPv6. Set it to 0, in /etc/sysctl.d as well, {way_out}"
    ]


def full_or_read_only(node: str, where: Mapping[str, str]) -> list[str]:
    """Return a sentence for each directory in `where`: directory -> why it cannot be written."""
    return [
        f"{node}: {directory} cannot be written: {reason}. podnet keeps its files there; mount it "
        "for writing, or make room"
        for directory, reason in where.items()
    ]


def refusal(node: str, found: Sequence[str]) -> str:
    """Return one message for all problems of a host."""
    if len(found) == 1:
        return found[0]
    lines = [one[len(node) + 2 :] if one.startswith(f"{node}: ") else one for one in found]
    return "\n".join([f"{node}: {len(found)} things are in the way:", *(f"  {it}" for it in lines)])

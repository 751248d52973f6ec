"""What would fail half-way through a change, found before anything is changed on any host.

`questions` says what a host must be asked for what it is about to do, `kernel/preflight.py` asks,
and `problems` and `warnings` judge. A host that has nothing to do is asked next to nothing.
"""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Sequence

from .backends import BACKENDS
from .diff import is_same_device
from .host import Host
from .model import Node, Plan, split_cidr
from .phases import ASIDE
from .state import State, route_device

#: Pods that a node is taken to have at most (kubelet's default is 110); its subnet may be larger.
_PODS = 254

_DEFAULT6 = "net.ipv6.conf.default.disable_ipv6"

_GC_THRESH = {
    family: [f"net.ipv{family}.neigh.default.gc_thresh{number}" for number in (1, 2, 3)]
    for family in (4, 6)
}


class Questions(NamedTuple):
    """What to ask a host.

    `port` is that of a VXLAN device which is to be made or brought up, 0 for none, and `family`
    what it travels over. `renames` are devices that are up and get another name, old -> new.
    `disabled6` are the sysctls that turn IPv6 off where it is needed.
    """

    port: int = 0
    family: int = 4
    renames: tuple[tuple[str, str], ...] = ()
    disabled6: tuple[str, ...] = ()


class Facts(NamedTuple):
    """What a host answered, as far as it was asked.

    `vxlan`: its kernel makes VXLAN devices. `holder`: who has the UDP port, "" for nobody.
    `can_rename`: its kernel renames devices that are up; `release` is that kernel's. `values` are
    sysctls; None stands for a kernel without IPv6.
    """

    vxlan: bool = True
    holder: str = ""
    can_rename: bool = True
    release: str = ""
    values: Mapping[str, str] | None = {}  # noqa: RUF012


def questions(before: State, final: State, in_phases: bool) -> Questions:
    """Return what a host must be asked before it goes from `before` to `final`.

    `in_phases`: old and new devices stand beside each other for a while (phases.py).
    """
    port, family = 0, 4
    for link in final.links.values():
        if link.kind == "vxlan" and not any(
            one.kind == "vxlan" and one.up and one.port == link.port and is_same_device(one, link)
            for one in before.links.values()
        ):
            port, family = link.port, 6 if ":" in link.local else 4
    return Questions(port, family, _renames(before, final, in_phases), _disabled6(before, final))


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
            # A device that is yet to be made begins with the default.
            f"net.ipv6.conf.{device.replace('.', '/')}.disable_ipv6"
            if device in before.links or device not in final.links
            else _DEFAULT6
            for device in sorted(devices)
        )
    )


def problems(
    node: Node,
    asked: Questions,
    facts: Facts,
    links: Sequence[Mapping[str, Any]],
    final: State,
    ours: set[str],
) -> list[str]:
    """Return what stands in the way, a sentence each that says the way out.

    `links` are all devices of the host, `ours` the names of those that belong to this network.
    """
    found = []
    if asked.port and not facts.vxlan:
        found.append(
            f"{node.name}: the kernel ({facts.release}) has no VXLAN (module vxlan). Install the "
            "package with the kernel's further modules (linux-modules-extra-..., "
            "kernel-modules-extra), or set podnet_backend to host-gw"
        )
    if asked.port:
        found += _port_problems(node, asked, facts, links, final, ours)
    found += [_rename_problem(node, facts, pair) for pair in asked.renames if not facts.can_rename]
    found += _ipv6_problems(node, asked, facts)
    return found


def _port_problems(
    node: Node,
    asked: Questions,
    facts: Facts,
    links: Sequence[Mapping[str, Any]],
    final: State,
    ours: set[str],
) -> list[str]:
    """Name who has the VXLAN port; vxlan devices share one only in the same mode.

    vxlan_find_sock and vxlan_vni_in_use in drivers/net/vxlan/vxlan_core.c.
    """
    vnis = {link.vni for link in final.links.values() if link.kind == "vxlan"}
    sharing = False
    found = []
    for link in links:
        name, data = link["ifname"], link.get("linkinfo", {}).get("info_data", {})
        if link.get("linkinfo", {}).get("info_kind") != "vxlan" or data.get("port") != asked.port:
            continue
        is_up = "UP" in link.get("flags", ())
        if name in ours or name in final.links:
            sharing |= is_up
            continue
        mode = next((key for key in ("external", "gbp", "gpe") if data.get(key)), "")
        if mode and is_up:
            found.append(
                f"{node.name}: {name} on the host holds UDP port {asked.port} in another mode "
                f"({mode}), so no other VXLAN device can be brought up there. Set "
                f"podnet_vxlan_port to another number, or remove the device if nothing needs it "
                f"(ip link del {name})"
            )
        elif not mode and data.get("id") in vnis:
            found.append(
                f"{node.name}: {name} on the host uses VNI {data.get('id')} and port {asked.port} "
                "already. Set podnet_vxlan_vni or podnet_vxlan_port to another number"
            )
        sharing |= is_up
    if facts.holder and not sharing:
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
        f"{node.name}: IPv6 is off ({', '.join(f'{key}=1' for key in off)}), and the plan has IPv6. "
        f"Set it to 0, in /etc/sysctl.d as well, {way_out}"
    ]


def full_or_read_only(node: str, where: Mapping[str, str]) -> list[str]:
    """Return a sentence for each directory that cannot be written; `where` maps it to the reason."""
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


def neighbours(node: Node, host: Host, final: State) -> dict[int, int]:
    """Return how many neighbours the kernel's tables must hold, by family.

    Peers on this segment, whatever the backend, since packets to them leave by their own address;
    and for each pod one on the bridge and one, its gateway, in the pod: a kernel counts all
    namespaces together. Permanent entries do not count (neigh_alloc in net/core/neighbour.c).
    """
    near: set[str] = {remote for remote in final.fdb.values() if host.on_link_device(remote)}
    for body in final.routes.values():
        words = body.split()
        if "via" in words and "onlink" not in words:
            via = words[words.index("via") + 1 :]
            near.add(via[1] if via[0] == "inet6" else via[0])
    result = {}
    for family, subnet in ((4, node.subnet), (6, node.subnet6)):
        count = sum((":" in address) == (family == 6) for address in near)
        if subnet:
            bits = 32 if family == 4 else 128
            count += 2 * min(2 ** (bits - split_cidr(subnet)[1]), _PODS)
        if count:
            result[family] = count
    return result


def limits(families: Mapping[int, int]) -> list[str]:
    """Return the sysctls that limit the tables of these families."""
    return [key for family in families for key in _GC_THRESH[family]]


def raised(needed: Mapping[int, int], values: Mapping[str, str]) -> dict[str, str]:
    """Return the sysctls that make room for as many neighbours as are needed, "" for no change.

    Twice as many as needed, since the kernel begins to collect at gc_thresh2 and leaves only what
    is below gc_thresh1 alone.
    """
    found = {}
    for family, count in needed.items():
        first, second, third = _GC_THRESH[family]
        if not values.get(third, "").isdigit() or int(values[third]) >= count:
            continue
        most = 1 << (2 * count - 1).bit_length()
        found.update({first: str(most // 4), second: str(most // 2), third: str(most)})
    return found


def crowded(node: Node, needed: Mapping[int, int], values: Mapping[str, str]) -> list[str]:
    """Return a warning for each family whose table is too small."""
    wanted = raised(needed, values)
    lines = []
    for family, count in needed.items():
        key = _GC_THRESH[family][2]
        if key in wanted:
            lines.append(
                f"{node.name}: the kernel's neighbour table holds {values[key]} entries ({key}), "
                f"and this host's peers and up to {_PODS} pods need {count} of IPv{family}; when it "
                "is full, packets to new neighbours are lost. Set podnet_manage_neighbours: true, "
                f"or {key} to {wanted[key]}"
            )
    return lines


def backend_problems(plan: Plan, node: Node, host: Host) -> list[str]:
    """Return why this host cannot carry the plan's backend, a sentence each."""
    return BACKENDS[plan.backend].problems(plan, node, host)

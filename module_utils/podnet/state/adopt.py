"""Adopt: take over a host on which flannel ran or runs, without losing a packet.

flannel makes the same devices, routes, neighbours and entries for peers as podnet, without podnet's
marks. So they count as what the host has already, and the usual changes do the rest: a
route gets podnet's protocol number in place, a device its alias. Where the route to a peer or the
VTEP's MAC changes, all hosts go through the three phases of a switch. What else flannel has on the
host (`leftovers`) is removed: its systemd units first, all the rest at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, NamedTuple, Sequence

from ..backends.registry import BACKENDS, KINDS
from ..core.errors import PodnetError
from ..core.model import Node, Plan, is_inside, overlaps, split_cidr
from ..core.state import Leftover, State, route_device
from .record import Record

#: Devices of those of flannel's backends whose packets podnet cannot carry on.
_OTHER_DEVICES = ("flannel-wg", "flannel-wg-v6", "flannel.ipip", "flannel0")


class Found(NamedTuple):
    """What flannel has on a host besides devices and routes.

    `daemons` are the ids of flanneld processes that no systemd unit of flannel's runs.
    `environment` holds the variables of /run/flannel/subnet.env. `configs` maps the path of each
    CNI configuration that uses the flannel plugin to the name of its network. `leftovers` maps what
    has to be removed, as a message names it, to how.
    """

    daemons: tuple[int, ...] = ()
    environment: Mapping[str, str] = {}
    configs: Mapping[str, str] = {}
    leftovers: Mapping[str, Leftover] = {}


@dataclass
class Adoption:
    """What podnet takes over from flannel on this host; `active` is false if that is nothing.

    `devices` are flannel's tunnel and bridge. `bridge_mac` is the bridge's MAC, which
    running pods know as their gateway's.
    """

    active: bool = False
    devices: set[str] = field(default_factory=set)
    bridge_mac: str = ""
    leftovers: dict[str, Leftover] = field(default_factory=dict)


class Signs(NamedTuple):
    """The signs of flannel on a host: `found`, its tunnel devices by name, and its bridge.

    Devices are as `ip -j -d addr` prints them.
    """

    found: Found
    devices: Mapping[str, Mapping[str, Any]]
    bridge: Mapping[str, Any] | None

    def __bool__(self) -> bool:
        """Whether there is any sign."""
        return bool(self.words())

    def words(self) -> list[str]:
        """Return the signs as a message names them."""
        said = [f"flanneld (process {pid})" for pid in self.found.daemons[:1]]
        said += [f"device {name}" for name in self.devices]
        # Leases of a network named cbr0 alone say nothing of flannel.
        said += [what for what, one in self.found.leftovers.items() if one.tool != "leases"]
        return said + list(self.found.configs)


def meet(
    plan: Plan,
    node: Node,
    links: Sequence[Mapping[str, Any]],
    known: Record | None,
    found: Found,
) -> Adoption:
    """Return what podnet takes over; nothing unless the node is to be adopted.

    `links` are all devices of the host, `known` is its record (None before the first run). Raises
    PodnetError for a host with flannel that is not to be adopted, or that cannot be; the message
    has the lines that must be added to the host's variables.
    """
    cidrs = _cidrs(plan)
    network = found.environment.get("FLANNEL_NETWORK", "")
    if network and _is_elsewhere(network, cidrs):
        # Another network's flannel: it and podnet live side by side.
        return Adoption()
    devices = {one["ifname"]: one for one in links if _is_flannels(one, plan, node.adopt)}
    bridge = next((one for one in links if _is_bridge(one, plan)), None)
    signs = Signs(found, devices, bridge)
    if not node.adopt:
        runs = found.daemons or any(one.first for one in found.leftovers.values())
        if runs or (known is None and signs):
            raise PodnetError(_refusal(plan, node, signs))
        return Adoption()
    _demand_known_backend(node, links)
    if found.daemons:
        raise PodnetError(_still_runs(node, found.daemons[0]))
    problems = []
    own = _own_devices(plan)
    for line in _subnet_lines(node, signs, cidrs):
        problems.append(
            f"flannel gave this host another subnet than the plan does. Pin it in {_place(node)}: "
            f"`{line}`"
        )
    for name, link in devices.items():
        if name in own:
            problem = KINDS[_kind(link)].adoption_problem(name, link)
            problems += [problem] if problem else []
    if problems:
        raise PodnetError(f"{node.name}: {'; '.join(problems)}")
    taken = Adoption(active=True, devices=set(devices), leftovers=dict(found.leftovers))
    if bridge is not None:
        taken.devices.add(plan.bridge)
        taken.bridge_mac = str(bridge.get("address", ""))
    return taken


def take_routes(
    plan: Plan, node: Node, foreign: Mapping[str, str], before: State
) -> tuple[dict[str, str], list[str]]:
    """Add flannel's routes that the plan does not need to `before`, so that they are removed.

    `foreign` maps destinations in the cluster CIDRs to the rest of the route, for all routes that
    are not podnet's. Returns those of them that are not flannel's either, and notes for the user.
    """
    others: dict[str, str] = {}
    stale: list[str] = []
    for destination, body in foreign.items():
        if _is_flannels_route(plan, node, destination, body):
            before.routes[destination] = body
            stale.append(f"{destination} {body}")
        elif not _becomes_ours(plan, route_device(body)):
            others[destination] = body
    if not stale:
        return others, []
    return others, [
        f"{node.name}: flannel's {'; '.join(stale[:5])}: no host of the plan has that subnet, so "
        "the route goes. A host that is still there must be in podnet_nodes first"
    ]


def _becomes_ours(plan: Plan, device: str) -> bool:
    """Whether podnet takes over `device`: then the kernel's own routes over it are not foreign."""
    return device in {plan.bridge, *_own_devices(plan)} or _is_flannels_name(device)


def _own_devices(plan: Plan) -> dict[str, str]:
    return BACKENDS[plan.backend].own_devices(plan)


def _is_flannels_name(device: str) -> bool:
    return any(kind.is_flannels(device) for kind in KINDS.values())


def _kind(link: Mapping[str, Any]) -> str:
    return str(link.get("linkinfo", {}).get("info_kind", ""))


def must_switch(plan: Plan, before: State, final: State) -> bool:
    """Whether the adoption changes how packets travel, so that all hosts must switch together.

    That is so if a route to a peer or the VTEP's MAC changes, or if the bridge's MTU grows. Any
    other host is adopted by itself.
    """
    for destination, body in final.routes.items():
        old = before.routes.get(destination)
        if old is not None and _way(old) != _way(body) and "proto kernel" not in body:
            return True
    bridge, wanted = before.links.get(plan.bridge), final.links[plan.bridge]
    return bool(
        held_mac(plan, None, before, final)
        or (bridge is not None and bridge.mtu < wanted.mtu and before.routes)
    )


def held_mac(plan: Plan, known: Record | None, before: State, final: State) -> str:
    """Return the MAC of the backend's device if peers use it and the plan wants another; else "".

    A MAC that is not the recorded one was changed on this host alone: peers do not use it.
    """
    for name in _own_devices(plan):
        have, want = before.links.get(name), final.links.get(name)
        if have is None or want is None or have.kind != want.kind or have.mac == want.mac:
            continue
        if known is None or known.mac == have.mac:
            return have.mac
    return ""


def advice(node: Node, held: str) -> str:
    """Return how to adopt this host alone although its VTEP's MAC, `held`, is not the plan's."""
    return (
        f"{node.name}: flannel's VTEP has the MAC {held}, the plan's "
        f"{node.mac}: all hosts change over in one run. To move hosts one by one, keep it: put "
        f"`podnet_node_mac: {held}` into {_place(node)}"
    )


def _cidrs(plan: Plan) -> list[str]:
    return [one for one in (plan.cluster_cidr, plan.cluster_cidr6) if one]


def _is_elsewhere(network: str, cidrs: Sequence[str]) -> bool:
    try:
        return not any(overlaps(network, cidr) for cidr in cidrs)
    except ValueError:
        return False


def _place(node: Node) -> str:
    return f"host_vars/{node.name}.yml"


def _inside(link: Mapping[str, Any], cidrs: Sequence[str]) -> list[tuple[str, int]]:
    """Return (address, prefix length) of a device's addresses in the cluster CIDRs."""
    found = []
    for one in link.get("addr_info", ()):
        local = str(one.get("local", ""))
        single = f"{local}/{128 if ':' in local else 32}"
        if local and any(is_inside(single, cidr) for cidr in cidrs):
            found.append((local, int(one.get("prefixlen", 0))))
    return found


def _is_flannels(link: Mapping[str, Any], plan: Plan, adopt: bool) -> bool:
    """Whether a device is a VTEP of this cluster's flannel: by name, kind and address."""
    kind = KINDS.get(_kind(link))
    return bool(
        kind
        and kind.is_flannels(link["ifname"])
        and not str(link.get("ifalias", "")).startswith("podnet:")
        and (_inside(link, _cidrs(plan)) or (adopt and link["ifname"] in _own_devices(plan)))
    )


def _is_bridge(link: Mapping[str, Any], plan: Plan) -> bool:
    return bool(
        link["ifname"] == plan.bridge
        and link.get("linkinfo", {}).get("info_kind") == "bridge"
        and not str(link.get("ifalias", "")).startswith("podnet:")
        and _inside(link, _cidrs(plan))
    )


def _refusal(plan: Plan, node: Node, signs: Signs) -> str:
    lines = ["podnet_adopt: true", *_subnet_lines(node, signs, _cidrs(plan))]
    for name in _own_devices(plan):
        device = signs.devices.get(name, {})
        if device and device.get("address") != node.mac:
            lines.append(f"podnet_node_mac: {device.get('address')}")
    shown = ", ".join(f"`{line}`" for line in lines)
    return (
        f"{node.name}: flannel runs or ran on this host: {', '.join(signs.words())}. To take its "
        f"network over without a lost packet, put into {_place(node)}: {shown}; see "
        "docs/adopt-flannel.md. Otherwise remove flannel from the host first"
    )


def _subnet_lines(node: Node, signs: Signs, cidrs: Sequence[str]) -> list[str]:
    """Return the lines that pin the subnets which flannel gave this host ("podnet_subnet: CIDR").

    There is one for each family in which the plan has another subnet.
    """
    lines = []
    for variable, key, subnet in (
        ("podnet_subnet", "FLANNEL_SUBNET", node.subnet),
        ("podnet_subnet6", "FLANNEL_IPV6_SUBNET", node.subnet6),
    ):
        if not subnet:
            continue
        six = ":" in subnet
        length = split_cidr(subnet)[1]
        given = [f"{a}/{n}" for a, n in (_inside(signs.bridge, cidrs) if signs.bridge else ())]
        given.append(signs.found.environment.get(key, ""))
        # The VTEP's address is the subnet's first; its prefix length is taken for the plan's.
        given += [
            f"{a}/{length}" for link in signs.devices.values() for a, _other in _inside(link, cidrs)
        ]
        for one in given:
            if one and (":" in one) == six:
                has = _network(one)
                if has and has != subnet:
                    lines.append(f"{variable}: {has}")
                break
    return lines


def _network(cidr: str) -> str:
    """Return the CIDR without its host bits, "" if it is none."""
    from ipaddress import ip_interface

    try:
        return str(ip_interface(cidr).network)
    except ValueError:
        return ""


def _demand_known_backend(node: Node, links: Sequence[Mapping[str, Any]]) -> None:
    for link in links:
        name = link["ifname"]
        if name in _OTHER_DEVICES and not str(link.get("ifalias", "")).startswith("podnet:"):
            adoptable = [one for one, backend in BACKENDS.items() if backend.is_adoptable]
            raise PodnetError(
                f"{node.name}: {name} exists on the host: what flannel made with that backend "
                f"cannot be taken over, {' and '.join(adoptable)} can. Switch flannel to one of "
                f"them and remove the device (ip link del {name}), then run again"
            )


def _still_runs(node: Node, process: int) -> str:
    return (
        f"{node.name}: flanneld runs on this host (process {process}), and not from a unit "
        "flanneld.service that podnet could stop for good: it would put its rules and routes back. "
        "Stop what starts it: what it made stays and carries packets on. In Kubernetes keep its "
        "DaemonSet off this node, or remove it when all nodes are moved: kubectl -n kube-flannel "
        "delete daemonset kube-flannel-ds. Then run again; see docs/adopt-flannel.md"
    )


def _is_flannels_route(plan: Plan, node: Node, destination: str, body: str) -> bool:
    """Whether a route looks as flannel makes it: `DST via GATEWAY dev DEVICE proto boot`.

    `proto boot` is what any `ip route add` gives, so prefix length and gateway must fit, too.
    """
    words = body.split()
    subnet = node.subnet6 if ":" in destination else node.subnet
    if "metric" in destination or words[:1] != ["via"] or "proto boot" not in body or not subnet:
        return False
    if split_cidr(destination)[1] != split_cidr(subnet)[1]:
        return False
    if not any(is_inside(destination, cidr) for cidr in _cidrs(plan)):
        return False
    return _is_flannels_name(route_device(body)) or "onlink" not in words


def _way(body: str) -> str:
    return body.replace(" proto boot", "")

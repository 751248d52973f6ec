"""From inventory and allocations to the plan: a pure function, nothing is read or written.

Checks come in the order in which mistakes are best explained: variables (inventory.py), the
network's ranges, the nodes' addresses (underlay.py), their subnets (subnets.py), and what is
derived from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from ..backends.planners import PLANNERS
from ..backends.registry import BACKENDS
from ..core.endpoints import place_problem
from ..core.model import MULTICAST, Cni, Endpoint, Node, Plan, is_inside, pack, split_cidr
from ..core.segments import Segments, segments
from ..core.text import listed
from ..core.version import VERSION
from . import reserved, subnets, underlay
from .allocations_file import Allocations
from .inventory import Inventory, InventoryHost, Problems


@dataclass(frozen=True)
class PlanningResult:
    """A plan and what people want to know about it.

    `states` maps each node's name to "new" (this plan carves its subnet), "kept", "left" (not in
    the inventory any more, its subnet stays reserved) or "released". `free` maps
    podnet_cluster_cidr and podnet_cluster_cidr6, where set, to their counts of subnets: {"total",
    "used", "free"}. `segments` has an entry for each address family that plain routes use.
    """

    plan: Plan
    allocations: Allocations
    states: Mapping[str, str]
    notes: Sequence[str]
    free: Mapping[str, Mapping[str, int]]
    segments: Sequence[Segments]


def make_plan(
    inventory: Inventory,
    recorded: Allocations | None,
    release: Sequence[str] = (),
    keys: Mapping[str, str] | None = None,
) -> PlanningResult:
    """Plan the network. Raises PodnetError with everything that is in the way.

    `keys` are the public keys that hosts have told in this run: name -> key.
    """
    values = inventory.values
    hosts = inventory.hosts
    problems = Problems()
    notes: list[str] = []
    clusters = _check_ranges(values, problems)
    _check_exclude(values, clusters, problems, notes)
    problems.settle()

    family = underlay.choose_family(hosts, problems)
    groups = [segments(hosts, each) for each in _routed_families(values, hosts, family)]
    underlay.check_addresses(hosts, clusters, problems)
    underlay.check_networks(groups, clusters, problems)
    found = PLANNERS[values["backend"]].host_findings(values, hosts, groups)
    problems.lines.extend(found.problems)
    notes.extend(found.notes)
    problems.settle()

    before = subnets.recorded_for(inventory, recorded)
    released = subnets.take_released(before, release, hosts, problems, notes)
    given: dict[str, dict[str, str]] = {"": {}, "6": {}}
    free: dict[str, dict[str, int]] = {}
    for suffix, _other in subnets.FAMILIES:
        if values["cluster_cidr" + suffix]:
            given[suffix], counts = subnets.carve_family(inventory, before, suffix, problems)
            free["podnet_cluster_cidr" + suffix] = counts
    problems.settle()

    known = _keys(values, hosts, {**before.keys, **(keys or {})}, problems)
    nodes = _nodes(values, hosts, given[""], given["6"], keys=known, problems=problems)
    nodes = reserved.give(hosts, nodes, recorded.nodes if recorded else {}, problems)
    problems.settle()
    plan = _plan(values, family, nodes)
    if keyless(plan):
        notes.append(
            f"no public key is known of {listed(keyless(plan), 5)}: a run of site.yml asks each for"
            " its own and writes it into the allocations file"
        )
    after = subnets.after(values, before, nodes)
    subnets.note_unused(values, before, notes)
    states = {name: "kept" if name in before.nodes else "new" for name in nodes}
    states.update({name: "left" for name in after.nodes if name not in nodes})
    states.update(dict.fromkeys(released, "released"))
    return PlanningResult(plan, after, states, notes, free, groups)


def _check_ranges(values: Mapping[str, Any], problems: Problems) -> list[tuple[str, str]]:
    """Check the network's ranges, device names and MTU against each other.

    Returns (variable, CIDR) for each cluster CIDR that is set.
    """
    clusters: list[tuple[str, str]] = []
    for suffix, bits in subnets.FAMILIES:
        variable, cidr = "podnet_cluster_cidr" + suffix, values["cluster_cidr" + suffix]
        if not cidr:
            continue
        clusters.append((variable, cidr))
        length = split_cidr(cidr)[1]
        prefix = values["node_prefix" + suffix]
        other = underlay.special(cidr)
        if other:
            problems.add(f"{variable}: {cidr} overlaps {other}: choose another range for the pods")
        if prefix < length:
            problems.add(
                f"{variable}: {cidr} is narrower than a node's subnet: widen it to a /{prefix} or"
                f" more, or set podnet_node_prefix{suffix} to a number from {length} to {bits - 2}"
            )
    if not clusters:
        problems.add(
            "podnet_cluster_cidr: empty, and so is podnet_cluster_cidr6: set one of them, pods need"
            " a range"
        )
    # Of all backends, so that a later switch does not meet it.
    for planner in PLANNERS.values():
        for device, what in planner.devices(values).items():
            if device == values["bridge"]:
                problems.add(
                    f"podnet_bridge: {device} is the name of the {what}, too: give one of them"
                    " another name"
                )
    problems.lines.extend(PLANNERS[values["backend"]].value_problems(values))
    # IPv6 needs 1280 bytes (RFC 8200, section 5); Linux turns it off on a link with less.
    if values["cluster_cidr6"] and values["mtu"].isdigit() and int(values["mtu"]) < 1280:
        problems.add(f"podnet_mtu: {values['mtu']} is too small for IPv6 pods: set 1280 or more")
    return clusters


def _check_exclude(
    values: Mapping[str, Any],
    clusters: Sequence[tuple[str, str]],
    problems: Problems,
    notes: list[str],
) -> None:
    """Report what podnet_masquerade_exclude names in vain."""
    variable, excluded = "podnet_masquerade_exclude", values["masquerade_exclude"]
    own = [*clusters, *(("multicast", one) for one in MULTICAST.values())]
    for cidr in excluded:
        for other, outer in own:
            if is_inside(cidr, outer):
                problems.add(
                    f"{variable}: {cidr} lies in {outer} ({other}), which is never masqueraded:"
                    " take it out"
                )
    if excluded and not values["masquerade"]:
        notes.append(
            f"{variable} has no effect: podnet_masquerade is off, and pods reach everything with"
            " their own address"
        )
        return
    for suffix, family in (("", 4), ("6", 6)):
        unused = [one for one in excluded if (":" in one) == (family == 6)]
        if unused and not values["cluster_cidr" + suffix]:
            notes.append(
                f"{variable}: {listed(unused, 3)} has no effect: podnet_cluster_cidr{suffix} is"
                f" empty, so pods have no IPv{family}"
            )


def _routed_families(
    values: Mapping[str, Any], hosts: Sequence[InventoryHost], family: int
) -> tuple[int, ...]:
    """Return the families of the nodes' addresses that plain routes to peers go through.

    IPv4 pods go through the underlay's family ("via inet6" where that is IPv6), IPv6 pods through
    IPv6 addresses, where the nodes have them.
    """
    found = {family} if values["cluster_cidr"] else set()
    if values["cluster_cidr6"] and all(host.ip6 for host in hosts):
        found.add(6)
    return tuple(sorted(found or {family}))


def _keys(
    values: Mapping[str, Any],
    hosts: Sequence[InventoryHost],
    known: Mapping[str, str],
    problems: Problems,
) -> dict[str, str]:
    """Return the public keys of hosts, for a backend that has some; demand that they differ."""
    if not BACKENDS[values["backend"]].has_keys:
        return {}
    found: dict[str, str] = {}
    owners: dict[str, str] = {}
    for host in hosts:
        key = known.get(host.name, "")
        if not key:
            continue
        found[host.name] = key
        other = owners.setdefault(key, host.name)
        if other != host.name:
            problems.add(
                f"{host.name}: it has the key pair of {other}, as a cloned machine has: remove the"
                f" private key from {host.name} (/etc/podnet/{values['name']}), and the next run"
                " makes another one"
            )
    return found


def keyless(plan: Plan) -> list[str]:
    """Return the nodes that need a key pair and whose public key is not known."""
    if not BACKENDS[plan.backend].has_keys:
        return []
    return [node.name for node in plan.nodes.values() if not node.key]


def _nodes(
    values: Mapping[str, Any],
    hosts: Sequence[InventoryHost],
    given: Mapping[str, str],
    given6: Mapping[str, str],
    *,
    keys: Mapping[str, str],
    problems: Problems,
) -> dict[str, Node]:
    nodes: dict[str, Node] = {}
    macs: dict[str, str] = {}
    for host in hosts:
        subnet, subnet6 = given.get(host.name, ""), given6.get(host.name, "")
        for suffix, pin, has in (("", host.subnet, subnet), ("6", host.subnet6, subnet6)):
            if pin and not has:
                problems.add(
                    f"{host.name}: podnet_subnet{suffix}: {pin}, but podnet_cluster_cidr{suffix} is"
                    " empty: set that, or take the pin away"
                )
        mac = host.mac or derive_mac(subnet, subnet6)
        other = macs.setdefault(mac, host.name)
        if other != host.name:
            problems.add(
                f"{host.name}: its VTEP has the MAC {mac} of {other}: correct podnet_node_mac, or"
                " pin another subnet"
            )
        nodes[host.name] = Node(
            name=host.name,
            ip=host.ip,
            ip_prefix=host.ip_prefix,
            ip6=host.ip6,
            ip6_prefix=host.ip6_prefix,
            subnet=subnet,
            subnet6=subnet6,
            mac=mac,
            interface=host.interface,
            leave_alone=host.leave_alone,
            adopt=host.adopt,
            manage_neighbours=host.manage_neighbours,
            bridge_netfilter=host.bridge_netfilter,
            repair_interval=host.repair_interval,
            health_interval=host.health_interval,
            health_dir=host.health_dir,
            podman=host.podman,
            endpoints=_endpoints(host, subnet, subnet6, problems) if host.endpoints else (),
            key=keys.get(host.name, ""),
            settings=PLANNERS[values["backend"]].node_settings(values, host.own),
        )
    return nodes


def derive_mac(subnet: str, subnet6: str) -> str:
    """Return the VTEP's MAC for a node's subnets: locally administered and unicast (IEEE 802).

    IPv4: 02:00 and the four bytes of the subnet's address. IPv6 only: 06 and the low 40 bits of
    the subnet's address without its host bits.
    """
    if subnet:
        raw = b"\x02\x00" + pack(subnet.partition("/")[0])
    else:
        address, length = split_cidr(subnet6)
        number = int.from_bytes(pack(address), "big") >> (128 - length)
        raw = b"\x06" + (number & (2**40 - 1)).to_bytes(5, "big")
    return raw.hex(":")


def _endpoints(
    host: InventoryHost, subnet: str, subnet6: str, problems: Problems
) -> tuple[Endpoint, ...]:
    taken: dict[str, str] = {}
    for one in host.endpoints:
        for key, cidr in (("address", subnet), ("address6", subnet6)):
            address = one.get(key, "")
            if not address:
                continue
            label = f"{host.name}: podnet_endpoints: {one['name']}: {key} {address}"
            wrong = place_problem(address, cidr)
            if wrong:
                problems.add(f"{label} {wrong}")
            other = taken.setdefault(address, one["name"])
            if other != one["name"]:
                problems.add(f"{label} is that of {other}, too: every endpoint needs its own")
    return tuple(Endpoint(**one) for one in host.endpoints)


def _plan(values: Mapping[str, Any], family: int, nodes: Mapping[str, Node]) -> Plan:
    return Plan(
        name=values["name"],
        cluster_cidr=values["cluster_cidr"],
        cluster_cidr6=values["cluster_cidr6"],
        backend=values["backend"],
        settings=PLANNERS[values["backend"]].settings(values),
        bridge=values["bridge"],
        mtu=values["mtu"],
        masquerade=values["masquerade"],
        masquerade_exclude=tuple(values["masquerade_exclude"]),
        guard=values["guard"],
        underlay=family,
        cni=Cni(
            conf_dir=values["cni_conf_dir"],
            conf_name=values["cni_conf_name"],
            bin_dir=values["cni_bin_dir"],
            extra_plugins=tuple(values["cni_extra_plugins"]),
            exclusive=values["cni_exclusive"],
        ),
        nodes=nodes,
        podnet_version=VERSION,
    )

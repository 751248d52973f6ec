"""What a host must have: a pure function of the plan and of the host's view of the underlay."""

from __future__ import annotations

from ..backends.base import peers
from ..backends.registry import BACKENDS
from ..core.errors import PodnetError
from ..core.host_view import HostView, Narrowest, narrowest
from ..core.model import MULTICAST, Node, Plan, offset, pack, split_cidr
from ..core.state import (
    GUARD,
    GUARD_HOOK,
    Chain,
    Link,
    Rule,
    State,
    make_rule,
    route_device,
    used_sets,
)
from . import forwarding, neighbours

#: The least MTU of a link that carries IPv6 (RFC 8200, section 5); IPv4's is 68, but 576 is what
#: every host must take (RFC 791).
LEAST_MTU = {4: 576, 6: 1280}


def own_node(plan: Plan, name: str) -> Node:
    """Return the node of the plan that has this host's `name`; raise PodnetError for none."""
    if name not in plan.nodes:
        raise PodnetError(
            f"{name}: not in the plan, which knows {', '.join(sorted(plan.nodes)[:10])}; "
            "add the host to the group podnet_nodes"
        )
    return plan.nodes[name]


def pod_mtu(plan: Plan, node: Node, host: HostView) -> int:
    """Return the MTU of bridge and pods in bytes; raise PodnetError where it cannot fit.

    The smallest MTU on the ways to the peers decides, because a pod has one MTU for all of them.
    """
    backends = [BACKENDS[plan.backend]]
    if plan.mtu == "portable":
        backends += [one for one in BACKENDS.values() if one.is_portable]
    overhead = max(one.overhead(plan) for one in backends)
    families = set().union(*(one.families(plan, node) for one in backends))
    way = min((narrowest(plan, node, host, one) for one in sorted(families)), key=_mtu)
    said = f"{way.device} has MTU {way.mtu}" + (f" on the way to {way.peer}" if way.peer else "")
    room = way.mtu - overhead
    mtu = room if plan.mtu in ("auto", "portable") else int(plan.mtu)
    if mtu > room:
        raise PodnetError(
            f"{node.name}: podnet_mtu {mtu} does not fit: {said}, of which {plan.backend} needs "
            f"{overhead}. Set podnet_mtu to auto, or to {room} at most"
        )
    least = LEAST_MTU[6 if plan.cluster_cidr6 else 4]
    if mtu < least:
        raise PodnetError(
            f"{node.name}: pods would have an MTU of {mtu} ({said}), and {least} is the least that "
            f"works. Raise the MTU of {way.device}, or of the route there"
        )
    return mtu


def _mtu(way: Narrowest) -> int:
    return way.mtu


def bridge_mac(node: Node) -> str:
    """Return the bridge's MAC: the VTEP's with another first byte.

    A bridge without a MAC of its own takes the lowest of its ports' MACs, so pods' neighbour caches
    could go stale whenever a pod comes or goes.
    """
    return "0a" + node.mac[2:]


def desired(plan: Plan, node: Node, host: HostView) -> State:
    """Return the devices, addresses, entries for peers, nft tables and sysctls that `node` needs.

    Raises PodnetError where the pods' MTU does not fit (pod_mtu).
    """
    backend = BACKENDS[plan.backend]
    mtu = pod_mtu(plan, node, host)
    state = State()
    state.links[plan.bridge] = Link(
        kind="bridge", mtu=mtu, mac=bridge_mac(node), alias=f"podnet:{plan.name}"
    )
    if node.subnet:
        base, length = split_cidr(node.subnet)
        gateway = offset(base, 1)
        state.addresses[plan.bridge, f"{gateway}/{length}"] = ""
        # The kernel adds this route with the address; it is listed because it can be lost alone.
        state.routes[node.subnet] = f"dev {plan.bridge} proto kernel scope link src {gateway}"
        state.sysctls["net.ipv4.ip_forward"] = "1"
        state.sysctls.update(neighbours.of_pods(plan.bridge, 4))
    if node.subnet6:
        base, length = split_cidr(node.subnet6)
        state.addresses[plan.bridge, f"{offset(base, 1)}/{length}"] = " nodad"
        state.sysctls["net.ipv6.conf.all.forwarding"] = "1"
        state.sysctls.update(neighbours.of_pods(plan.bridge, 6))
    backend.devices(plan, node, host, mtu, state)
    for peer in peers(plan, node):
        backend.peer(plan, node, host, peer, state)
    if node.subnet:
        carriers = {route_device(body) for body in state.routes.values()}
        carriers.update(state.links, host.devices())
        carriers.update(one.device for one in host.underlay.values())
        state.sysctls.update(forwarding.wanted(carriers))
    state.secrets = backend.secrets(plan, node)
    chains = (*_guard(plan), *_masquerade(plan, node))
    if chains:
        state.tables[plan.name] = chains
    for name in used_sets(chains):
        addresses = (one.ip if name == "nodes4" else one.ip6 for one in plan.nodes.values())
        state.members.update({(plan.name, one): name for one in addresses if one})
    return state


def _guard(plan: Plan) -> tuple[Chain, ...]:
    rules = BACKENDS[plan.backend].guard(plan) if plan.guard else ()
    return (Chain(GUARD, GUARD_HOOK, rules),) if rules else ()


def _masquerade(plan: Plan, node: Node) -> tuple[Chain, ...]:
    if not plan.masquerade:
        return ()
    rules: list[Rule] = []
    for family, subnet, cluster, multicast in (
        ("ip", node.subnet, plan.cluster_cidr, MULTICAST[4]),
        ("ip6", node.subnet6, plan.cluster_cidr6, MULTICAST[6]),
    ):
        if subnet:
            pods = f"{family} saddr {subnet}"
            to = f"{pods} {family} daddr"
            rules.append(make_rule(f"{to} {cluster} return", "pod to pod keeps its address"))
            for cidr in plan.masquerade_exclude:
                if (":" in cidr) == (family == "ip6"):
                    text = f"{pods}{_destination(family, cidr)} return"
                    rules.append(make_rule(text, "excluded from masquerade"))
            rules.append(
                make_rule(f"{to} != {multicast} masquerade fully-random", "pod to outside")
            )
    hook = "type nat hook postrouting priority 100"
    return (Chain("postrouting", hook, tuple(rules)),)


def _destination(family: str, cidr: str) -> str:
    """Return the match of a destination as nft prints it back: no prefix of all bits or none."""
    address, length = split_cidr(cidr)
    if length == 0:
        return ""
    return f" {family} daddr {address if length == len(pack(address)) * 8 else cidr}"

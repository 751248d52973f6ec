"""Routes to pods for a router outside: pure, from a plan to lines that are pasted there.

Without masquerade, and for destinations that are excluded from it, answers to pods come back by
these. Each node's subnet is behind the node's own address.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

from ..core.model import Plan


class _Form(NamedTuple):
    """How one kind of router wants its routes.

    `route` makes a line from subnet and next hop, "" where it has no word for the pair. Lines of a
    family stand between `head` and `tail`, if it has them.
    """

    comment: str
    route: Callable[[str, str], str]
    head: str = ""
    tail: str = ""


def _ip(subnet: str, hop: str) -> str:
    # IPv4 by an IPv6 next hop: Linux 5.2 and later.
    via = f"via {hop}" if (":" in subnet) == (":" in hop) else f"via inet6 {hop}"
    return f"ip -6 route add {subnet} {via}" if ":" in subnet else f"ip route add {subnet} {via}"


def _frr(subnet: str, hop: str) -> str:
    # FRR takes an IPv6 next hop of IPv4 for the name of an interface.
    if (":" in subnet) != (":" in hop):
        return ""
    return f"{'ipv6' if ':' in subnet else 'ip'} route {subnet} {hop}"


def _bird(subnet: str, hop: str) -> str:
    return f"route {subnet} via {hop};"


#: The forms that `podnet_plan_routes` names: iproute2, FRR's configuration, BIRD 2's.
FORMS = {
    "ip": _Form("#", _ip),
    "frr": _Form("!", _frr),
    "bird": _Form("#", _bird, "protocol static {name} {{ {table};", "}"),
}


def needed(plan: Plan) -> str:
    """Return why answers to pods need routes outside, "" if they come back without."""
    if not plan.masquerade:
        return "podnet_masquerade is off"
    if plan.masquerade_exclude:
        return "podnet_masquerade_exclude is set"
    return ""


def lines(plan: Plan, form: str) -> list[str]:
    """Return the routes to all nodes' subnets, IPv4 first, in one of FORMS.

    A subnet that the router cannot be given a next hop for is a comment.
    """
    shape = FORMS[form]
    result: list[str] = []
    for family in (4, 6):
        found = []
        for node in plan.nodes.values():
            subnet = node.subnet if family == 4 else node.subnet6
            hops = (node.ip, node.ip6) if family == 4 else (node.ip6,)
            if not subnet:
                continue
            made = [shape.route(subnet, hop) for hop in hops if hop]
            variable = "podnet_node_ip" + ("" if family == 4 else "6")
            found.append(
                next(filter(None, made), "")
                or f"{shape.comment} {subnet}: {node.name} has no IPv{family} address ({variable})"
            )
        if found and shape.head:
            name = f"{plan.name.replace('-', '_')}{family}"
            found = [shape.head.format(name=name, table=f"ipv{family}"), *found, shape.tail]
        result += found
    return result

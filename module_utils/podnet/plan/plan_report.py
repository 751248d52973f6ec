"""A plan for people: a row for each node, a table of text, a few sentences."""

from __future__ import annotations

from typing import Any, Sequence

from ..backends.planners import PLANNERS
from ..backends.registry import BACKENDS
from ..core.model import Node, Plan
from ..core.segments import network
from . import routes
from .planning import PlanningResult

_TITLES = {
    "name": "NODE",
    "subnet": "SUBNET",
    "subnet6": "SUBNET6",
    "ip": "ADDRESS",
    "ip6": "ADDRESS6",
    "mac": "VTEP MAC",
    "segment": "SEGMENT",
    "state": "STATE",
}

#: `PlanningResult.states` in words.
_STATES = {
    "new": "new",
    "kept": "kept",
    "left": "left, reserved",
    "released": "released",
}


def rows(outcome: PlanningResult) -> list[dict[str, str]]:
    """Return a row for each node in inventory order, then those that left and were released."""
    plan = outcome.plan
    found = [_row(plan, node, _STATES[outcome.states[name]]) for name, node in plan.nodes.items()]
    for name, state in outcome.states.items():
        if name in plan.nodes:
            continue
        subnet, subnet6 = outcome.allocations.nodes.get(name, ("", ""))
        found.append(
            dict(
                dict.fromkeys(_TITLES, ""),
                name=name,
                subnet=subnet,
                subnet6=subnet6,
                state=_STATES[state],
            )
        )
    return found


def _row(plan: Plan, node: Node, state: str) -> dict[str, str]:
    four = plan.underlay == 4
    segment = network(node.ip, node.ip_prefix) if four else network(node.ip6, node.ip6_prefix)
    return {
        "name": node.name,
        "subnet": node.subnet,
        "subnet6": node.subnet6,
        "ip": node.ip,
        "ip6": node.ip6,
        "mac": node.mac,
        "segment": segment or "not given",
        "state": state,
    }


def table(found: Sequence[dict[str, str]]) -> list[str]:
    """Return the rows as lines of text; columns that are empty everywhere are left out."""
    keys = [key for key in _TITLES if any(row[key] for row in found)]
    widths = {key: max(len(_TITLES[key]), *(len(row[key]) for row in found)) for key in keys}
    line = "  ".join(f"{{{key}:<{widths[key]}}}" for key in keys)
    return [line.format_map(row).rstrip() for row in (_TITLES, *found)]


def summary(outcome: PlanningResult) -> list[str]:
    """Return sentences: the network, subnets in use, pairs that need no tunnel, notes."""
    plan = outcome.plan
    backend = PLANNERS[plan.backend]
    lines = [f"network {plan.name}: {len(plan.nodes)} nodes, {backend.described(plan)}"]
    for variable, counts in outcome.free.items():
        cidr = plan.cluster_cidr6 if variable.endswith("6") else plan.cluster_cidr
        lines.append(
            f"{cidr}: {counts['used']} of {counts['total']} subnets used,"
            f" {counts['free']} more nodes fit"
        )
    for entry in direct_pairs(outcome):
        lines.append(
            f"IPv{entry['family']}: {entry['direct']} pairs of nodes are on one segment,"
            f" {entry['tunnelled']} use {backend.tunnel}"
        )
    why = routes.needed(plan)
    if why:
        lines.append(
            f"{why}: routers outside need a route to each node's subnet; -e podnet_plan_routes=ip"
            " (or frr, bird) prints them"
        )
    return lines + [f"note: {note}" for note in outcome.notes]


def direct_pairs(outcome: PlanningResult) -> list[dict[str, Any]]:
    """Return for each family of plain routes how many pairs of nodes are on one segment.

    Hosts without a prefix length are in no pair but in "unknown_hosts". Shape: {"family": 4,
    "direct": n, "tunnelled": n, "unknown_hosts": n, "segments": {CIDR: number of hosts}}; empty
    without podnet_direct_routing.
    """
    backend = BACKENDS[outcome.plan.backend]
    if not (backend.has_plain_routes(outcome.plan) and backend.own_devices(outcome.plan)):
        return []
    found = []
    for group in outcome.segments:
        direct, tunnelled = group.pairs()
        found.append(
            {
                "family": group.family,
                "direct": direct,
                "tunnelled": tunnelled,
                "unknown_hosts": len(group.unknown),
                "segments": {cidr: len(members) for cidr, members in group.members.items()},
            }
        )
    return found

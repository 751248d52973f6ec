"""Judge what was read on one host: the hops of both directions."""

from __future__ import annotations

from typing import Any, Mapping

from ..core.host_view import view_from_plain
from ..core.model import Node, Plan, is_inside
from ..state.planned_way import wanted
from .arrive import arrive
from .hop import Scene
from .leave import leave


def legs(plan: Plan, node: Node, facts: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return ``{out, in}``: the hops of packets from the pod, and of those to it."""
    view = view_from_plain(facts["view"]) if facts["view"] else None
    final = wanted(plan, node, view)
    peer = owner(plan, str(facts["remote"]))
    found = {}
    for key, judged in (("out", leave), ("in", arrive)):
        hops = judged(Scene(plan, node, final, facts, peer))
        found[key] = [{name: value for name, value in one._asdict().items() if value} for one in hops]
    return found


def owner(plan: Plan, address: str) -> Node | None:
    """Return the node in whose subnet an address is, None for none."""
    single = f"{address}/{128 if ':' in address else 32}"
    for node in plan.nodes.values():
        for subnet in (node.subnet, node.subnet6):
            if subnet and is_inside(single, subnet):
                return node
    return None

"""What hosts know of the network that the allocations file may have forgotten.

A second admin's copy and a restored backup are good files, only not the newest. Hosts remember
which edition of the allocations they have seen, and whose subnets (`record`). Each compares that
with the plan when it is looked at; `run.objections` judges what all of them say.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..core.edition import NONE, Edition
from ..core.model import Plan
from .record import Record

#: Subnets a host names at most; one is enough to refuse a plan.
_MOST = 20


class Noted(NamedTuple):
    """What goes into a record: an edition, and node -> its subnets with a space between."""

    edition: Edition
    nodes: dict[str, str]


def note(plan: Plan, known: Record | None) -> Noted:
    """Return what a host's record says of the allocations when the plan is applied.

    A newer edition that says the same of all nodes is noted with the next change, not as one: a
    host that knows the older one can refuse no less.
    """
    if not plan.edition.id:
        return Noted(NONE, {})
    nodes = {node.name: f"{node.subnet} {node.subnet6}".strip() for node in plan.nodes.values()}
    if (
        known is not None
        and known.nodes == nodes
        and known.network == plan.edition.id
        and known.generation < plan.edition.generation
    ):
        return Noted(known.edition, nodes)
    return Noted(plan.edition, nodes)


def testify(plan: Plan, known: Record | None) -> dict[str, Any] | None:
    """Return what this host knows, as JSON types; None where it knows of no edition.

    "node" is its own name by its record, "edition" what it has seen, and "taken" the subnets that
    it knows as another node's than the plan does: {"subnet", "owner", "to"}.
    """
    if known is None or not known.network:
        return None
    owners = {
        subnet: name for name, subnets in known.nodes.items() for subnet in subnets.split(" ")
    }
    taken = [
        {"subnet": subnet, "owner": owners[subnet], "to": node.name}
        for node in plan.nodes.values()
        for subnet in (node.subnet, node.subnet6)
        if owners.get(subnet, node.name) != node.name
    ]
    return {"node": known.node, "edition": known.edition._asdict(), "taken": taken[:_MOST]}

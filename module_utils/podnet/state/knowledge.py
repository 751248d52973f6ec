"""What a host has recorded of the allocations, so that a plan from an old file is recognised.

Another admin's copy and a restored backup are valid files, only not the newest. Each host records
which edition of the allocations it has seen last, and which node had which subnet (record.py).
podnet_info compares that with the plan; run/objections.py judges what all hosts say.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..core.edition import NONE, Edition
from ..core.model import Plan
from .record import Record

#: The most subnets that a host reports as taken; one is enough to refuse a plan.
_MOST = 20


class Noted(NamedTuple):
    """What a record holds of the allocations: the edition, and node -> subnets ("IPv4 IPv6")."""

    edition: Edition
    nodes: dict[str, str]


def note(plan: Plan, known: Record | None) -> Noted:
    """Return what the record of a host must hold of the allocations after `plan` is applied.

    A newer edition in which all nodes have the same subnets leaves the record as it is, so that it
    alone is no change of the host: an old file is recognised by the older edition just as well.
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
    """Return what this host's record says, as JSON types; None where it has no edition.

    "node" is the host's name and "edition" the edition in the record. "taken" are the subnets that
    the plan gives to another node than the record does: {"subnet", "owner" by the record, "to" by
    the plan}.
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

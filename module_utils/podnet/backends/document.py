"""The plan document, read back from its text and trusted in nothing."""

from __future__ import annotations

from ..core.document import unpack_plan
from ..core.model import Plan
from .registry import demand_known


def plan_from_text(text: str) -> Plan:
    """Return the plan that a document describes; raise PodnetError if it is not JSON or no plan."""
    plan = Plan.from_document(unpack_plan(text))
    demand_known(plan)
    return plan

"""The plan document, read back from its text and trusted in nothing."""

from __future__ import annotations

from typing import Any

from ..core.document import unpack_plan
from ..core.model import Plan
from .registry import demand_known


def plan_from(document: Any) -> Plan:
    """Return the plan that a document describes; raise PodnetError if it describes none."""
    plan = Plan.from_document(document)
    demand_known(plan)
    return plan


def plan_from_text(text: str) -> Plan:
    """Return the plan that a document describes; raise PodnetError if it is not JSON or no plan."""
    return plan_from(unpack_plan(text))

"""The plan document, read back from JSON text and trusted in nothing."""

from __future__ import annotations

import json

from ..core.errors import PodnetError
from ..core.model import Plan
from .registry import demand_known


def plan_from_text(text: str) -> Plan:
    """Return the plan that a document describes; raise PodnetError if it is not JSON or no plan."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PodnetError(f"plan: no JSON ({error}); pass what podnet_plan returned") from error
    plan = Plan.from_document(document)
    demand_known(plan)
    return plan

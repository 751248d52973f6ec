"""The plan document as modules receive it: JSON text."""

from __future__ import annotations

import json

from .errors import PodnetError
from .model import Plan


def plan_from_text(text: str) -> Plan:
    """Return the plan that a document describes; raise PodnetError if it is not JSON or no plan."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PodnetError(f"plan: no JSON ({error}); pass what podnet_plan returned") from error
    return Plan.from_document(document)

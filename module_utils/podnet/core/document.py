"""What modules receive as JSON text: the plan document, and what other hosts returned."""

from __future__ import annotations

import json
from typing import Any

from .errors import PodnetError
from .model import Plan


def plan_from_text(text: str) -> Plan:
    """Return the plan that a document describes; raise PodnetError if it is not JSON or no plan."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PodnetError(f"plan: no JSON ({error}); pass what podnet_plan returned") from error
    return Plan.from_document(document)


def by_host(option: str, text: str, returned: str) -> dict[str, dict[str, Any]]:
    """Return what an option tells of each host: host name -> what its call returned.

    `returned` says what that is, for people. Raises PodnetError.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PodnetError(f"{option}: no JSON ({error})") from error
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise PodnetError(f"{option}: not what the hosts' calls with {returned}")
    return found

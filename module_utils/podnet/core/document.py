"""What modules receive as JSON text of what other hosts returned."""

from __future__ import annotations

import json
from typing import Any

from .errors import PodnetError


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

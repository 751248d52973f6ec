"""What modules receive as text: the plan, and what other hosts returned."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any, Mapping

from .errors import PodnetError

#: What the text of a compressed plan begins with; what follows is zlib's (RFC 1950) in base64.
PACKED = "zlib:"

#: Characters from which on a plan is compressed: every call on every host is sent the whole of it.
_MANY = 8192


def pack_plan(document: Mapping[str, Any]) -> str:
    """Return the text of a plan's document."""
    text = json.dumps(document, separators=(",", ":"))
    if len(text) < _MANY:
        return text
    return PACKED + base64.b64encode(zlib.compress(text.encode())).decode()


def unpack_plan(text: str) -> Any:
    """Return the document that `pack_plan` made the text of; raise PodnetError for other text."""
    try:
        if text.startswith(PACKED):
            packed = base64.b64decode(text[len(PACKED) :], validate=True)
            return json.loads(zlib.decompress(packed).decode())
        return json.loads(text)
    except (ValueError, RecursionError, zlib.error) as error:
        raise PodnetError(
            f"plan: cannot be read ({error}); pass what podnet_plan returned"
        ) from error


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

"""podnet's version: the only place that holds it.

The collection is built with it, a plan names it, and a host's record says which one has changed the
host last. CHANGELOG.md begins with it, or with [Unreleased] while it ends in -dev.
"""

from __future__ import annotations

import re

VERSION = "0.9.0-dev"

# Semantic Versioning 2.0.0, with limits: it ends up in messages.
_FORM = re.compile(
    r"(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})"
    r"(-[0-9A-Za-z.-]{1,40})?(\+[0-9A-Za-z.-]{1,40})?\Z",
    re.ASCII,
)


def is_version(text: object) -> bool:
    """Whether `text` is a version as podnet's are: three numbers, then perhaps -WORD and +WORD."""
    return isinstance(text, str) and _FORM.match(text) is not None


def numbers(version: str) -> tuple[int, int, int]:
    """Return the three numbers of a version; those of "", from before there were some, are 0."""
    found = _FORM.match(version)
    return (int(found[1]), int(found[2]), int(found[3])) if found else (0, 0, 0)


def is_newer(version: str, than: str = VERSION) -> bool:
    """Whether one version is newer than another. A pre-release counts as its release."""
    return numbers(version) > numbers(than)

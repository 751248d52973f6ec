"""Words for messages."""

from __future__ import annotations

from typing import Iterable


def listed(items: Iterable[str], most: int = 10, between: str = ", ") -> str:
    """Return the first `most` of `items`, and how many more there are."""
    every = list(items)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return between.join(every[:most]) + more

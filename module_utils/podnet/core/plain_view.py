"""A host's view of the underlay as JSON types, for what is recorded of a host."""

from __future__ import annotations

from typing import Any, Mapping

from .host_view import HostView, Underlay, Way


def view_to_plain(view: HostView) -> dict[str, Any]:
    """Return a view as JSON types."""
    return {
        "underlay": {str(family): list(one) for family, one in view.underlay.items()},
        "ways": {address: list(way) for address, way in view.ways.items()},
        "facts": dict(view.facts),
    }


def view_from_plain(plain: Mapping[str, Any]) -> HostView:
    """Return the view that `view_to_plain` made JSON of."""
    return HostView(
        {int(family): Underlay(*one) for family, one in plain["underlay"].items()},
        {address: Way(*way) for address, way in plain["ways"].items()},
        dict(plain["facts"]),
    )

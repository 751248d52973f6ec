"""Which of the ways that fail are traced for the page: a few, each with a fault of its own."""

from __future__ import annotations

from typing import Any, Mapping

from ..core.errors import PodnetError
from ..run import matrix, trace_way

#: A trace asks two hosts two or three times, one trace after the other.
MOST = 3


def ways(
    document: Mapping[str, Any], made: Mapping[str, Any], probed: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return what `trace_way.way` does for at most MOST ways; arguments as of `matrix.report`.

    Those with different faults come first, and of a host that fails with many, one.
    """
    seen = matrix.Gathered.of(document, made, probed)
    family = 4 if document["cluster_cidr"] else 6
    first: list[tuple[str, str]] = []
    rest: list[tuple[str, str]] = []
    known: set[tuple[str, str]] = set()
    for (source, kind, node), those in seen.cells.items():
        # A trace that is given two hosts is about this family.
        faults = {(source, str(one["word"])) for one in those if one["family"] == family}
        if kind not in ("pod", "host") or not faults or node in seen.absent:
            continue
        if (source, node) not in (*first, *rest):
            # A trace goes there and back.
            told = faults <= known or (node, source) in first
            (rest if told else first).append((source, node))
        known |= faults
    found = []
    for source, node in [*first, *rest][:MOST]:
        try:
            found.append(trace_way.way(document, source, node))
        except PodnetError:
            continue
    return found

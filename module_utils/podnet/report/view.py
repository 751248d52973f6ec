"""The report's data as the page shows them: the matrix, the ways that fail."""

from __future__ import annotations

from collections import Counter
from typing import Any, Iterator, Mapping, Sequence

from ..core import verdict
from .data import MOST_LISTED, asked, by_way, trace_command

#: More segments than this make no table.
_MOST_SEGMENTS = 40

#: More ways than this that fail are counted, not shown.
MOST_FAILING = 200


def matrix(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the matrix of pairs: of hosts where they are few, else of segments.

    ``{by, names, rows}``; a row is ``{name, cells}``, a cell ``{text, look, title, way}``. `way`
    names what `failing` has of it. None where nothing was probed, or even segments are too many.
    """
    pairs = found["pairs"]
    if not pairs:
        return None
    ways = {way: (number, those) for number, (way, those) in enumerate(by_way(pairs).items())}
    names = [host["name"] for host in found["hosts"]]
    if len(names) <= MOST_LISTED:
        rows = [
            {
                "name": source,
                "cells": [_cell(pairs, ways.get((source, node)), source, node) for node in names],
            }
            for source in names
        ]
        return {"by": "host", "names": names, "rows": rows}
    if len(found["segments"]) <= _MOST_SEGMENTS:
        return {"by": "segment", **_of_segments(found)}
    return None


def _cell(
    pairs: Mapping[str, Any],
    failed: tuple[int, Sequence[Mapping[str, Any]]] | None,
    source: str,
    node: str,
) -> dict[str, Any]:
    if source == node:
        return {"text": "-", "look": "self", "title": "", "way": None}
    if failed:
        number, those = failed
        return {
            "text": str(those[0]["word"]),
            "look": "bad",
            "title": f"{source} -> {node}: {those[0]['what']}",
            "way": number if number < MOST_FAILING else None,
        }
    if asked(pairs, source, node):
        return {"text": verdict.OK, "look": "ok", "title": "", "way": None}
    return {"text": "?", "look": "unknown", "title": "", "way": None}


def _of_segments(found: Mapping[str, Any]) -> dict[str, Any]:
    pairs = found["pairs"]
    home = {host["name"]: host["segment"] for host in found["hosts"]}
    pods = [name for name in pairs["pods"] if name in home]
    total: Counter[tuple[str, str]] = Counter()
    if pairs["peers"]:
        for source, peers in pairs["peers"].items():
            total.update((home[source], home[node]) for node in peers if node in home)
    else:
        there = Counter(home[name] for name in pods)
        ask = Counter(home[name] for name in pods if name not in pairs["not_probed"])
        own = Counter({(cidr, cidr): number for cidr, number in ask.items()})
        for source, number in ask.items():
            for node, others in there.items():
                total[source, node] = number * others - own[source, node] * (source == node)
    failed = Counter((home[source], home[node]) for source, node in by_way(pairs) if node in home)
    names = [one["cidr"] for one in found["segments"]]
    rows = []
    for source in names:
        cells = []
        for node in names:
            of, bad = total[source, node], failed[source, node]
            look = "unknown" if not of else "bad" if bad else "ok"
            text = "?" if not of else f"{bad} of {of} fail" if bad else f"{of} ok"
            cells.append({"text": text, "look": look, "title": "", "way": None})
        rows.append({"name": source or "not given", "cells": cells})
    return {"names": [name or "not given" for name in names], "rows": rows}


def failing(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the first MOST_FAILING of the ways that fail: ``{source, node, failures, ...}``."""
    traces = {(one["from"], one["to"]): one["lines"] for one in found["traces"]}
    segments = {host["name"]: host["segment"] for host in found["hosts"]}
    for number, ((source, node), those) in enumerate(by_way(found["pairs"]).items()):
        if number == MOST_FAILING:
            return
        own = segments.get(source)
        where = "unknown" if not own or not segments.get(node) else "between"
        yield {
            "source": source,
            "node": node,
            "between": node in segments,
            "way": found["ways"]["inside" if own and own == segments.get(node) else where],
            "failures": those,
            "trace": traces.get((source, node), []),
            "command": trace_command(source, node),
        }

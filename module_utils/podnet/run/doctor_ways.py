"""Which of the pairs that fail doctor.yml follows packets of, and what hosts are asked for that."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ..core.errors import PodnetError
from . import trace_way

#: Ways that are followed: each costs the two hosts on it a few seconds.
MOST = 8

#: As many are followed where there are so many, also if they tell of no other host.
FEW = 3


def choose(
    document: Mapping[str, Any],
    failed: Sequence[Mapping[str, Any]],
    targets: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return ``{ways, asked}``: a few ways of those that failed, and what each host is asked.

    `failed` are results of verify.yml (exports.results), `targets` the pods that asked
    (matrix.pods). A question's `way` is the way's place in `ways`.
    """
    ways: list[dict[str, Any]] = []
    asked: dict[str, list[dict[str, Any]]] = {}
    for one in _chosen(failed):
        begin, end = _ends(document, one, targets)
        try:
            found = trace_way.way(document, begin, end)
            questions = trace_way.questions(found, {})
        except PodnetError:
            continue
        for host, those in questions.items():
            asked.setdefault(host, []).extend({**it, "way": len(ways)} for it in those)
        ways.append(found)
    return {"ways": ways, "asked": asked}


def _chosen(failed: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return failed results to follow: first those that tell of a host that no other tells of.

    A way is followed there and back, so the direction does not count; nor does the family, where
    both fail alike.
    """
    # Ways between pods say most; those of a host itself are left out where its pod's fail.
    order = {"pod": 0, "host": 1, "gateway": 2, "outside": 3}
    told: set[tuple[str, str]] = set()
    pairs: dict[tuple[frozenset[str], str], Mapping[str, Any]] = {}
    for one in sorted(failed, key=lambda it: order[str(it["kind"])]):
        pairs.setdefault((_pair(one), str(one["word"])), one)
    first: list[Mapping[str, Any]] = []
    rest: list[Mapping[str, Any]] = []
    for (ends, word), one in pairs.items():
        signs = {(end, word) for end in ends}
        (first if signs - told else rest).append(one)
        told |= signs
    return [*first[:MOST], *rest[: max(0, FEW - len(first))]]


def _pair(one: Mapping[str, Any]) -> frozenset[str]:
    if one["kind"] in ("gateway", "outside"):
        return frozenset({f"{one['from']} {one['kind']}"})
    return frozenset({str(one["from"]), str(one["to"])})


def _ends(
    document: Mapping[str, Any],
    one: Mapping[str, Any],
    targets: Mapping[str, Mapping[str, Any]],
) -> tuple[str, str]:
    six = one["family"] == 6
    pod = {host: str(it["address6" if six else "address"]) for host, it in targets.items()}
    source, to = str(one["from"]), str(one["to"])
    if one["kind"] == "host":
        # A way begins at a pod: it is the way back of this one that is asked about.
        node = trace_way.node_of(document, source)
        return pod.get(to, ""), str(node.get("ip6" if six else "ip") or "")
    if one["kind"] == "gateway":
        subnet = str(trace_way.node_of(document, to).get("subnet6" if six else "subnet"))
        return pod.get(source, ""), trace_way.gateway(subnet)
    return pod.get(source, ""), to if one["kind"] == "outside" else pod.get(to, "")

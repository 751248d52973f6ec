"""Read a host's policy rules (ip-rule(8)), and the routing tables that they lead to."""

from __future__ import annotations

import json
from functools import lru_cache, partial
from typing import Any, Iterator

from ..core.model import ROUTE_PROTOCOL, Node, Plan
from ..firewall.policy import LOCAL, MAIN, Capture, Traffic, captures
from ..firewall.walk import addresses
from .run import run

#: The rules that every host has: priority and table.
_USUAL = {(0, LOCAL), (32766, MAIN), (32767, "253")}


def read(plan: Plan, node: Node) -> list[tuple[str, Capture]]:
    """Return pairs of (the cluster CIDR, a rule that takes or may take packets between pods).

    A host with none but the usual rules costs one command for each family.
    """
    found: list[tuple[str, Capture]] = []
    for family, cluster in ((4, plan.cluster_cidr), (6, plan.cluster_cidr6)):
        rules = listed(family, "rule", "show") if cluster else []
        rules = [one for one in rules if str(one.get("protocol", "")) != str(ROUTE_PROTOCOL)]
        if all(_is_usual(one) for one in rules):
            continue
        routes = lru_cache(None)(partial(table, family))
        for way in _ways(plan, node, family, cluster):
            found += [(cluster, one) for one in captures(rules, way, routes)]
    return list(dict.fromkeys(found))


def _ways(plan: Plan, node: Node, family: int, cluster: str) -> Iterator[Traffic]:
    """Yield the traffic of this host's pods to each other node, and the traffic to them."""
    mine = node.subnet if family == 4 else node.subnet6
    for one in plan.nodes.values():
        subnet = one.subnet if family == 4 else one.subnet6
        if subnet and subnet != mine:
            yield Traffic(addresses(mine or cluster), addresses(subnet), plan.bridge)
    if mine:
        yield Traffic(addresses(cluster), addresses(mine), "")


def table(family: int, table: str) -> list[dict[str, Any]]:
    """Return the routes of a table, by its number."""
    return listed(family, "route", "show", "table", table)


def _is_usual(rule: dict[str, Any]) -> bool:
    return (rule.get("priority"), str(rule.get("table"))) in _USUAL and rule.get("src") == "all"


def listed(family: int, *what: str) -> list[dict[str, Any]]:
    """Return what `ip` lists, [] if it fails: for ip a table without routes does not exist."""
    result = run(["ip", "-j", "-N", f"-{family}", *what])
    try:
        entries = json.loads(result.output or "[]", strict=False) if result.code == 0 else []
    except (ValueError, RecursionError):
        return []
    return [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []

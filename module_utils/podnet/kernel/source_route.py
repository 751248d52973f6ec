"""A way of its own for one address: a routing table, and the rule that leads to it (ip-rule(8)).

Packets of the proof's pod take the routes that a switch is about to move to, while those of all
other pods still take the old ones. They are told apart by their source address: a mark does not
outlast the way out of the pod's namespace. The rule comes just before that of the main table, so
rules of others count for the proof as they will count for pods.
"""

from __future__ import annotations

from typing import Mapping, Sequence

from ..core.errors import PodnetError
from ..core.model import ROUTE_PROTOCOL as PROTOCOL
from .apply import batch
from .run import read_json, run

#: Just before the main table's rule, 32766.
PREFERENCE = 32765

#: Tables that may be taken: the first that nobody uses.
TABLES = range(11200, 11300)


def free_table(families: Sequence[int]) -> int:
    """Return the number of a table that no rule names and that holds no route."""
    used = {str(rule.get("table")) for family in families for rule in _rules(family)}
    for table in TABLES:
        if str(table) not in used and not any(_routes(family, table) for family in families):
            return table
    raise PodnetError(f"no routing table from {TABLES[0]} to {TABLES[-1]} is free for the proof")


def add(table: int, addresses: Sequence[str], routes: Mapping[str, str]) -> None:
    """Lead packets from `addresses` over `routes` (destination -> the rest of an ip-route line).

    IPv6 looks up the gateway of an `onlink` route in the main table, where it may still be behind
    another device; of any other route in the route's own (ip6_route_check_nh in the kernel). So the
    gateways' own routes come first here, and `onlink` is not needed.
    """
    for address in addresses:
        family = 6 if ":" in address else 4
        lines = [
            f"route replace {destination} {body} table {table} proto {PROTOCOL}"
            for destination, body in sorted(routes.items(), key=_length, reverse=True)
            if (":" in destination) == (family == 6)
        ]
        if family == 6:
            lines = [line.replace(" onlink ", " ") for line in lines]
        lines.append(
            f"rule add from {address} lookup {table} pref {PREFERENCE} protocol {PROTOCOL}"
        )
        batch(["ip", f"-{family}", "-batch", "-"], lines)


def drop(table: int) -> None:
    """Take rules and routes of ours in `table` away, rules first; nothing there is no error."""
    if table not in TABLES:
        return
    for family in (4, 6):
        lines = [
            f"rule delete from {rule['src']} lookup {table} pref {PREFERENCE} protocol {PROTOCOL}"
            for rule in _rules(family)
            if str(rule.get("table")) == str(table)
            and rule.get("priority") == PREFERENCE
            and str(rule.get("protocol")) == str(PROTOCOL)
        ]
        lines += [f"route delete {one} table {table}" for one in _routes(family, table)]
        if lines:
            batch(["ip", f"-{family}", "-batch", "-"], lines)


def _length(route: tuple[str, str]) -> int:
    return int(route[0].partition("/")[2])


def _rules(family: int) -> list[dict[str, object]]:
    try:
        return read_json(["ip", "-N", f"-{family}", "-json", "rule", "show"], _any)
    except PodnetError:
        if family == 6:
            return []  # a kernel without it
        raise


def _routes(family: int, table: int) -> list[str]:
    """Return the destinations of our routes in a table; one that never was is empty."""
    argv = ["ip", "-N", f"-{family}", "-json", "route", "show", "table", str(table)]
    if run(argv).code != 0:
        return []
    return [
        str(one["dst"])
        for one in read_json(argv, _any)
        if str(one.get("protocol")) == str(PROTOCOL)
    ]


def _any(_entry: object) -> None:
    """Take whatever is there: rules of others have fields of all kinds."""

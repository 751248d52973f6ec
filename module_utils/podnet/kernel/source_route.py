"""Route packets from single addresses by a table of their own (source routing, ip-rule(8)).

While a switch is being proven, packets of the probe pod take the routes that the switch will
install, and those of all other pods still take the old ones. The rule selects them by their source
address, because a mark is lost when a packet leaves the pod's namespace. It comes just before the
rule of table main, so other policy rules apply to the probe as they will apply to pods.
"""

from __future__ import annotations

from typing import Mapping, Sequence

from ..core.errors import PodnetError
from ..core.model import ROUTE_PROTOCOL as PROTOCOL
from .apply import batch
from .run import read_json

#: Priority of the rule: just before 32766, that of table main.
PREFERENCE = 32765

#: Numbers of tables to choose from: `free_table` takes the first that is free.
TABLES = range(11200, 11300)


def free_table(families: Sequence[int]) -> int:
    """Return the number of a table that no rule names and that holds no route.

    `families` are 4, 6 or both. Raises PodnetError if none of TABLES is free.
    """
    used = {str(rule.get("table")) for family in families for rule in _rules(family)}
    for table in TABLES:
        if str(table) not in used and not any(_entries(family, table) for family in families):
            return table
    raise PodnetError(f"no routing table from {TABLES[0]} to {TABLES[-1]} is free for the proof")


def add(table: int, addresses: Sequence[str], routes: Mapping[str, str]) -> None:
    """Route packets from `addresses` by `routes` (destination -> the rest of an ip-route line).

    IPv6 looks up the gateway of an `onlink` route in table main, where it may still be behind
    another device, but that of any other route in the table of the route itself
    (ip6_route_check_nh in the kernel). So IPv6 routes are added without `onlink`, those to the
    gateways first. Raises PodnetError.
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
    """Remove podnet's rules and routes of `table`, rules first; if there are none, do nothing."""
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
            return []  # a kernel without IPv6
        raise


def _routes(family: int, table: int) -> list[str]:
    """Return the destinations of podnet's routes in a table."""
    return [
        str(one["dst"])
        for one in _entries(family, table)
        if str(one.get("protocol")) == str(PROTOCOL)
    ]


def _entries(family: int, table: int) -> list[dict[str, object]]:
    """Return all routes in a table, [] if the table does not exist."""

    argv = ["ip", "-N", f"-{family}", "-json", "route", "show", "table", str(table)]
    return read_json(argv, _any, may_fail=True)


def _any(_entry: object) -> None:
    """Accept any entry: rules that are not podnet's may have any fields."""

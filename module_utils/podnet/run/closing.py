"""What a run did, or a check would do, as the one table that it ends with. Pure.

Each call of podnet_network says how many objects of which kind it has changed. Here they are kept
by phase and host, and hosts with equal numbers share a row: fifty that were built alike are one
line. A host that is not known to have ended a phase is in no row of that phase, but named.
"""

from __future__ import annotations

from typing import Any, Iterable, Mapping, NamedTuple, Sequence

from ..core.text import listed
from .course import SWITCH
from .results import why_not

#: Kind of objects, as podnet_network names it in `tally` -> the column. Others are named as they
#: are, and come after these.
_COLUMNS = {
    "link": "DEVICES",
    "addr": "ADDRESSES",
    "neigh": "NEIGHBOURS",
    "route": "ROUTES",
    "sysctl": "SYSCTLS",
    "module": "MODULES",
    "firewall": "FIREWALL",
    "pod": "PODS",
    "netns": "NAMESPACES",
    "file": "FILES",
}

#: A row for what follows the last phase where plugins have to be installed first.
_ATTACH = "attach"

#: So many hosts stand in a row before the others are only counted.
_MOST = 8


class Told(NamedTuple):
    """What a run knows when it ends.

    `done` is what `noted` has collected: phase -> host -> tally. `course` is that of `decide`.
    `attach` maps a host to the number of changes of endpoints and CNI configuration, where these
    are made by tasks of their own. `stopped` is the phase after which the run stops, "" if it ends
    well. `check`: nothing was changed.
    """

    course: Mapping[str, Any]
    hosts: Sequence[str]
    done: Mapping[str, Mapping[str, Any]]
    attach: Mapping[str, int]
    stopped: str = ""
    check: bool = False


def noted(
    registered: Mapping[str, Mapping[str, Any]],
    hosts: Sequence[str],
    phase: str,
    done: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, Any]]:
    """Return `done`, phase -> host -> tally, with what `hosts` have done in `phase`.

    `registered` is as in `results.unfinished`. Each host that has ended the phase is in the result,
    also one that had nothing to do in it.
    """
    result = {name: dict(those) for name, those in done.items()}
    now = result.setdefault(phase, {})
    for host in hosts:
        variables = registered.get(host, {})
        if why_not(variables, phase):
            continue
        for name in ("_podnet_changed", "_podnet_confirmed"):
            one = variables.get(name)
            # The confirmation of an earlier phase may still be registered.
            if isinstance(one, Mapping) and one.get("phase") == phase and not one.get("skipped"):
                now[host] = _sum(now.get(host, {}), one.get("tally") or {})
    return result


def lines(told: Told) -> list[str]:
    """Return the closing table and what stands below it, a line of text each."""
    rows = _rows(told)
    changed = {host for hosts, _phase, _tally in rows for host in hosts}
    verb, signs = ("Changed", "+ added, ~ replaced, - removed")
    if told.check:
        verb, signs = ("Would change", "+ to add, ~ to replace, - to remove")
    found = []
    if changed:
        found.append(f"{verb} {len(changed)} of {_number(told.hosts)} ({signs}):")
        found += _table(rows)
    busy = [*changed, *_unfinished(told), *told.course["unreachable"]]
    idle = [host for host in told.hosts if host not in busy]
    # Where the run stops, hosts may have more to change in a later phase.
    if idle and not told.stopped:
        found.append(f"Nothing to change on {_named(idle)}")
    return [*found, *_traffic(told, rows), *_left(told, bool(changed))]


def _rows(told: Told) -> list[tuple[list[str], str, dict[str, Any]]]:
    """Return (hosts, phase, tally) for hosts with equal tallies in a phase."""
    groups: dict[tuple[str, str], tuple[list[str], str, dict[str, Any]]] = {}
    done: dict[str, Mapping[str, Any]] = dict(told.done)
    done[_ATTACH] = {host: {"changes": [number]} for host, number in told.attach.items() if number}
    for phase, those in done.items():
        for host in sorted(those, key=_place(told.hosts)):
            if those[host]:
                key = phase, repr(sorted(those[host].items()))
                groups.setdefault(key, ([], phase, dict(those[host])))[0].append(host)
    return list(groups.values())


def _table(rows: Sequence[tuple[list[str], str, Mapping[str, Any]]]) -> list[str]:
    kinds = dict.fromkeys(kind for _hosts, _phase, tally in rows for kind in tally)
    shown = [kind for kind in _COLUMNS if kind in kinds] + [
        kind for kind in kinds if kind not in _COLUMNS
    ]
    # Where each host is changed by itself there is one phase, and its name says nothing.
    phased = len({phase for _hosts, phase, _tally in rows}) > 1
    cells = [
        [
            *(["PHASE"] if phased else []),
            "HOSTS",
            *(_COLUMNS.get(one, one.upper()) for one in shown),
        ]
    ]
    for hosts, phase, tally in rows:
        start = [phase, listed(hosts, _MOST)] if phased else [listed(hosts, _MOST)]
        cells.append([*start, *(_cell(tally.get(kind, ())) for kind in shown)])
    widths = [max(len(row[at]) for row in cells) for at in range(len(cells[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells
    ]


def _cell(counts: Sequence[int]) -> str:
    if len(counts) == 1:
        return str(counts[0])
    return " ".join(f"{sign}{number}" for sign, number in zip("+~-", counts) if number)


def _traffic(told: Told, rows: Sequence[tuple[list[str], str, Mapping[str, Any]]]) -> list[str]:
    """Return a line about whether pods' packets take another way, in a list."""
    if told.course["mode"] == SWITCH:
        if told.check:
            return [
                "Traffic will shift: a switch, on all hosts together, in three phases (prepare, "
                "shift, commit)"
            ]
        return []
    moved = [
        host for hosts, _phase, tally in rows if tally.get("route", (0, 0))[1] for host in hosts
    ]
    if not told.check or not rows:
        return []
    if moved:
        return [f"No switch; traffic will shift where routes are replaced: {listed(moved)}"]
    return ["No switch, and no route is replaced"]


def _unfinished(told: Told) -> list[str]:
    if not told.stopped:
        return []
    ended = told.done.get(told.stopped, {})
    return [host for host in told.course["hosts"] if host not in ended]


def _left(told: Told, changed: bool) -> list[str]:
    """Return a line for each thing that is left to do."""
    found = []
    unfinished, unreachable = _unfinished(told), told.course["unreachable"]
    if unfinished:
        found.append(f"Not known to have ended {told.stopped!r}: {', '.join(unfinished)}")
    elif told.stopped:
        found.append(f"Stopped after {told.stopped!r}")
    if unreachable:
        found.append(f"Not reached, so without this run's changes: {', '.join(unreachable)}")
    left_out = told.course.get("left_out") or []
    if left_out and changed and not told.check:
        found.append(
            f"Not in this run, so perhaps without its change: {listed(left_out)}. "
            "Run again without --limit when they can be reached"
        )
    elif left_out:
        found.append(f"Not in this run: {listed(left_out)}")
    return found + list(told.course["notes"])


def _named(hosts: Sequence[str]) -> str:
    shown = listed(hosts, _MOST)
    return shown if len(hosts) < 2 else f"{_number(hosts)}: {shown}"


def _number(hosts: Sequence[str]) -> str:
    return f"{len(hosts)} host{'s' if len(hosts) != 1 else ''}"


def _place(hosts: Sequence[str]) -> Any:
    places = {host: number for number, host in enumerate(hosts)}
    return lambda host: places.get(host, len(places))


def _sum(one: Mapping[str, Iterable[int]], other: Mapping[str, Iterable[int]]) -> dict[str, Any]:
    none = (0, 0, 0)
    return {
        kind: [first + second for first, second in zip(one.get(kind, none), other.get(kind, none))]
        for kind in dict.fromkeys([*one, *other])
    }

"""The report of verify.yml: a matrix that people read, from the results of all hosts' probes.

Runs on the controller, in a filter. Hosts return failed probes only, so a probe that is not in
their results was answered, and the cost grows with the number of hosts and of failures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import (
    Any,
    Container,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Sequence,
    Tuple,
)

from ..core import verdict
from ..core.text import listed

#: A table of more hosts than this does not fit a screen: then only failing pairs are listed.
MOST_IN_TABLE = 20

#: More lines than this about failures are counted, not printed.
MOST_LINES = 100

#: What other hosts need to know of a probe pod: keys of podnet_probe's `pod`.
TARGET = ("address", "address6", "mtu", "udp", "tcp")

#: What to do about a fault, by its word.
_CURES = {
    verdict.SMALL: (
        "Where small is ok and full size is not, the path carries less than the pods' MTU: lower "
        "podnet_mtu, or raise the MTU of the underlay."
    ),
    verdict.SLOW: (
        "Where TCP must send much again, packets are lost on the way: a full queue, a bad link, a "
        "rate limit. Compare with the hosts themselves (iperf3 between their own addresses)."
    ),
}


@dataclass(frozen=True)
class Report:
    """The `lines` to print, and the `failures`, a line each; without any the network is proven."""

    lines: list[str]
    failures: list[str]


def pods(made: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the pods that every host is to probe: node -> the values of the keys in TARGET.

    `made` is host -> result of ``podnet_probe state=present`` (None where there is none).
    """
    targets: dict[str, dict[str, Any]] = {}
    for node, result in made.items():
        pod = _pod(result)
        if pod:
            targets[node] = {key: pod[key] for key in TARGET}
    return targets


def report(
    document: Mapping[str, Any],
    made: Mapping[str, Any],
    probed: Mapping[str, Any],
    suspect: str = "",
) -> Report:
    """Return the report on the hosts that `made` names, in its order.

    `document` is the plan, `made` and `probed` are host -> result of ``podnet_probe`` with
    ``state=present`` and ``state=probed`` (None where a host gave none). `suspect` is what to say
    where ICMP passes and TCP does not (Planner.suspect).
    """
    seen = Gathered.of(document, made, probed)
    hosts, targets, absent, cells = seen.hosts, seen.targets, seen.absent, seen.cells
    lines = [_headline(document, hosts, targets)]
    if any("peers" in (probed.get(host) or {}) for host in hosts):
        asked_ways, most = len(seen.ways()), len(targets) * (len(targets) - 1)
        if asked_ways < most:
            lines.append(
                f"{asked_ways} of {most} ways between hosts were asked (podnet_probe_pairs)"
            )
    left_out = [name for name in _names(document) if name not in made]
    if left_out:
        lines.append(
            f"Not in this run, so not probed: {listed(left_out)} (the plan has "
            f"{len(_names(document))} hosts)"
        )
    if len(hosts) <= MOST_IN_TABLE:
        lines += _table(hosts, seen)
    failures = [f"{host}: not probed: {reason}" for host, reason in absent.items()]
    failures += _sentences(seen)
    asked = sum(int(probed[host]["asked"]) for host in hosts if host not in absent)
    answered = sum(int(probed[host]["answered"]) for host in hosts if host not in absent)
    lines += _notes(hosts, absent, probed)
    lines.append(f"{answered} of {asked} probes were answered.")
    if len(failures) > MOST_LINES:
        rest = len(failures) - MOST_LINES
        failures = [*failures[:MOST_LINES], f"... and {rest} more"]
    failures += cures({one["word"] for failed in cells.values() for one in failed}, suspect)
    return Report(lines, failures)


def cures(words: Container[str], suspect: str) -> list[str]:
    """Return what may mend the faults that have these words."""
    found = [cure for word, cure in _CURES.items() if word in words]
    if suspect and (verdict.PING in words or verdict.NO_TCP in words or verdict.BULK in words):
        found.append(suspect)
    return found


def _names(document: Mapping[str, Any]) -> list[str]:
    return [str(node["name"]) for node in document["nodes"]]


def _pod(result: Any) -> Mapping[str, Any]:
    found = result.get("pod") if isinstance(result, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _why_not(made: Any, probed: Any) -> str:
    """Return why a host has no results; "" if it has."""
    for result in (made, probed):
        if not isinstance(result, Mapping):
            return "it did not take part (unreachable, or an earlier step failed)"
        if result.get("unreachable"):
            return "unreachable"
        if result.get("failed"):
            return str(result.get("msg", "the probe failed"))
    return "" if isinstance(probed, Mapping) and "asked" in probed else "it gave no results"


@dataclass(frozen=True)
class Gathered:
    """All results, sorted.

    `hosts` are those of the run that are in the plan. `targets` is what `pods` returns. `absent`
    maps hosts without results to the reason. `cells` are the failures, `probed` the raw results by
    host.
    """

    hosts: Sequence[str]
    targets: Mapping[str, Mapping[str, Any]]
    absent: Mapping[str, str]
    cells: _Cells
    probed: Mapping[str, Any]

    @classmethod
    def of(
        cls, document: Mapping[str, Any], made: Mapping[str, Any], probed: Mapping[str, Any]
    ) -> Gathered:
        """Sort the results of all hosts; the arguments are those of `report`."""
        hosts = [host for host in made if host in _names(document)]
        absent = {one: reason for one in hosts if (reason := _why_not(made[one], probed.get(one)))}
        return cls(hosts, pods(made), absent, _failed_cells(hosts, absent, probed), probed)

    def has_asked(self, source: str, node: str) -> bool:
        """Whether `source` asked `node`; one without results counts as if it had."""
        peers = (self.probed.get(source) or {}).get("peers")
        return source in self.absent or peers is None or node in peers

    def ways(self) -> list[_Way]:
        """Return all ways that were asked."""
        return [
            (source, node)
            for source in self.targets
            for node in self.targets
            if node != source and self.answers(source, node)
        ]

    def answers(self, source: str, node: str) -> bool:
        """Whether `source` has results, and asked `node`."""
        return source in self.targets and source not in self.absent and self.has_asked(source, node)


_Cells = Dict[Tuple[str, str, str], List[Mapping[str, Any]]]

#: (host that sends, host that is to receive).
_Way = Tuple[str, str]


def _failed_cells(
    hosts: Iterable[str], absent: Mapping[str, str], probed: Mapping[str, Any]
) -> _Cells:
    """Group the failures by (host that sent, kind, host that was to receive).

    The kind is "pod" or "host" (who sent), "gateway" or "outside" (where to). A failure is about
    one address family.
    """
    cells: _Cells = {}
    for host in hosts:
        if host not in absent:
            for failed in probed[host]["failures"]:
                cells.setdefault((host, failed["kind"], failed["node"]), []).append(failed)
    return cells


def _headline(document: Mapping[str, Any], hosts: Sequence[str], targets: Mapping[str, Any]) -> str:
    families = [
        label
        for label, key in (("IPv4", "address"), ("IPv6", "address6"))
        if any(target[key] for target in targets.values())
    ]
    sizes = sorted({int(target["mtu"]) for target in targets.values()})
    return (
        f"Network {document['name']} ({document['backend']}), {len(hosts)} "
        f"{'host' if len(hosts) == 1 else 'hosts'}: probed by ICMP, UDP and TCP over "
        f"{' and '.join(families) or 'nothing'} at 84 bytes (small) and at the pods' MTU (full: "
        f"{', '.join(map(str, sizes)) or 'unknown'}), fragmentation forbidden"
    )


def _table(hosts: Sequence[str], seen: Gathered) -> list[str]:
    rows = [["from", "to:", *hosts, "gateway", "outside"]]
    for source in hosts:
        for kind in ("pod", "host"):
            row = [source, kind]
            for node in hosts:
                if node == source:
                    row.append("-")
                elif source in seen.absent or node not in seen.targets:
                    row.append("?")
                elif not seen.has_asked(source, node):
                    row.append("-")
                else:
                    families = common_families(seen.targets[source], seen.targets[node])
                    row.append(_word(seen.cells.get((source, kind, node), ()), families))
            row += _edge(source, kind, seen)
            rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in rows
    ]
    words = {word for row in rows[1:] for cell in row[2:] for word in cell.split()}
    words = {word.rpartition(":")[2] for word in words}
    if words - {"ok", "-", ""}:
        meant = [meaning for word, meaning in verdict.MEANINGS.items() if word in words]
        lines.append(f"({'; '.join(['ok: all arrives', *meant, '?: not probed; -: not asked'])})")
    return lines


def _edge(source: str, kind: str, seen: Gathered) -> list[str]:
    """Return the cells for the pod's gateway and the outside."""
    if kind == "host":
        return ["-", "-"]
    if source in seen.absent:
        return ["?", "?"]
    families = common_families(seen.targets[source], seen.targets[source])
    gateway = _word(seen.cells.get((source, "gateway", source), ()), families)
    outside = "no" if (source, "outside", "") in seen.cells else "ok"
    return [gateway, outside if seen.probed[source].get("outside") else "-"]


def common_families(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[int]:
    """Return the families (4, 6) in which both pods have an address."""
    keys = {4: "address", 6: "address6"}
    return [family for family, key in keys.items() if one[key] and other[key]]


def _word(failed: Sequence[Mapping[str, Any]], families: Sequence[int]) -> str:
    """Return a cell: one word, or one for each family where they differ."""
    found = {one["family"]: str(one["word"]) for one in failed}
    words = [found.get(family, verdict.OK) for family in families]
    if len(set(words)) <= 1:
        return words[0] if words else "-"
    return " ".join(f"{family}:{word}" for family, word in zip(families, words))


class _Fault(NamedTuple):
    """What fails in one direction: who sends (pod, host, with the family), and what."""

    who: str
    what: str


def _sentences(seen: Gathered) -> list[str]:
    """Return a line for each direction and reason; senders and families that fail alike share it.

    A line names the direction, who sends (pod, host), and the family. A host that fails alike with
    all others gets one line.
    """
    cells = seen.cells
    between: dict[_Fault, dict[_Way, bool]] = {}
    others: list[str] = []
    for (source, kind, node), failed in cells.items():
        back = {one["family"] for one in cells.get((node, kind, source), ())}
        # The inner dicts serve as sets that keep their order.
        told: dict[tuple[str, bool], dict[str, None]] = {}
        for one in failed:
            who = _SENDERS.get(kind, "") + f"IPv{one['family']}"
            if kind == "outside":
                who += f" {one['address']}"
            works = kind == "pod" and one["family"] not in back and seen.answers(node, source)
            told.setdefault((str(one["what"]), works), {})[who] = None
        for (what, works), who_all in told.items():
            fault = _Fault(", ".join(who_all), what)
            if kind in _DIRECTIONS:
                others.append(f"{_DIRECTIONS[kind].format(source=source)} ({fault.who}): {what}")
            else:
                between.setdefault(fault, {})[source, node] = works
    asked: dict[str, tuple[list[_Way], list[_Way]]] = {host: ([], []) for host in seen.targets}
    for way in seen.ways():
        asked[way[0]][0].append(way)
        asked[way[1]][1].append(way)
    lines = []
    for fault, ways in _merged(between).items():
        for direction, back_too in _directions(ways, asked):
            lines.append(f"{direction} ({fault.who}): {fault.what}{back_too}")
    return lines + others


def _merged(between: Mapping[_Fault, Mapping[_Way, bool]]) -> dict[_Fault, dict[_Way, bool]]:
    """Join the faults of pod and host of the same ways and with the same reason."""
    by_way: dict[tuple[_Way, str, bool], list[str]] = {}
    for fault, ways in between.items():
        for way, works in ways.items():
            by_way.setdefault((way, fault.what, works), []).append(fault.who)
    result: dict[_Fault, dict[_Way, bool]] = {}
    for (way, what, works), who in by_way.items():
        result.setdefault(_Fault(", ".join(who), what), {})[way] = works
    return result


def _directions(
    ways: Mapping[_Way, bool], asked: Mapping[str, tuple[list[_Way], list[_Way]]]
) -> Iterator[tuple[str, str]]:
    """Yield (direction, what to say of the way back) for all `ways` that fail alike.

    `ways` maps (source, node) to whether the way back works; `asked` maps each host to the ways
    from it and to it that were asked.
    """
    if len(ways) == sum(len(out) for out, _into in asked.values()) > 2:
        yield "every host -> every other", ""
        return
    left = dict(ways)
    for host in dict.fromkeys(host for way in ways for host in way):
        out, into = asked.get(host, ([], []))
        fails_into = len(into) > 1 and all(way in ways for way in into)
        fails_out = len(out) > 1 and all(way in ways for way in out)
        covered = (into if fails_into else []) + (out if fails_out else [])
        if not any(way in left for way in covered):
            continue
        works = all(ways[way] for way in covered)
        arrow = "<->" if fails_into and fails_out else "<-" if fails_into else "->"
        yield f"{host} {arrow} every other host", "; the other direction works" if works else ""
        for way in covered:
            left.pop(way, None)
    for (source, node), works in left.items():
        yield f"{source} -> {node}", f"; {node} -> {source} works" if works else ""


#: By kind, for what is asked of no other host.
_DIRECTIONS = {"gateway": "{source} -> its own gateway", "outside": "{source} -> outside"}
_SENDERS = {"pod": "pod ", "host": "host "}


def _notes(hosts: Iterable[str], absent: Mapping[str, str], probed: Mapping[str, Any]) -> list[str]:
    """Return the hosts' notes on what was not probed, each once with the hosts that have it."""
    by_note: dict[str, list[str]] = {}
    for host in hosts:
        if host not in absent:
            for note in probed[host].get("notes", ()):
                by_note.setdefault(note, []).append(host)
    return [f"{note} [{listed(those)}]" for note, those in by_note.items()]

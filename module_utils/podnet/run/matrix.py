"""The report of verify.yml: a matrix that people read, from the results of all hosts' probes.

Runs on the controller, in a filter. Hosts return failed probes only, so a probe that is not in
their results was answered, and the cost grows with the number of hosts and of failures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Container, Dict, Iterable, List, Mapping, Sequence, Tuple

from ..core import verdict
from ..core.text import listed

#: A table of more hosts than this does not fit a screen: then only failing pairs are listed.
MOST_IN_TABLE = 20

#: More lines than this about failures are counted, not printed.
MOST_LINES = 100

#: What other hosts need to know of a probe pod: keys of podnet_probe's `pod`.
TARGET = ("address", "address6", "mtu", "udp", "tcp")

_SMALLER_PATH = (
    "Where small is ok and full size is not, the path carries less than the pods' MTU: lower "
    "podnet_mtu, or raise the MTU of the underlay."
)


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
) -> Report:
    """Return the report on the hosts that `made` names, in its order.

    `document` is the plan, `made` and `probed` are host -> result of ``podnet_probe`` with
    ``state=present`` and ``state=probed`` (None where a host gave none).
    """
    hosts = [host for host in made if host in _names(document)]
    targets = pods(made)
    absent = {host: reason for host in hosts if (reason := _why_not(made[host], probed.get(host)))}
    cells = _failed_cells(hosts, absent, probed)
    lines = [_headline(document, hosts, targets)]
    left_out = [name for name in _names(document) if name not in made]
    if left_out:
        lines.append(
            f"Not in this run, so not probed: {listed(left_out)} (the plan has "
            f"{len(_names(document))} hosts)"
        )
    if len(hosts) <= MOST_IN_TABLE:
        lines += _table(hosts, _Seen(targets, absent, cells, probed))
    failures = [f"{host}: not probed: {reason}" for host, reason in absent.items()]
    failures += _sentences(cells, {host for host in hosts if host not in absent})
    asked = sum(int(probed[host]["asked"]) for host in hosts if host not in absent)
    answered = sum(int(probed[host]["answered"]) for host in hosts if host not in absent)
    lines += _notes(hosts, absent, probed)
    lines.append(f"{answered} of {asked} probes were answered.")
    if len(failures) > MOST_LINES:
        rest = len(failures) - MOST_LINES
        failures = [*failures[:MOST_LINES], f"... and {rest} more"]
    if any(one["word"] == verdict.SMALL for failed in cells.values() for one in failed):
        failures.append(_SMALLER_PATH)
    return Report(lines, failures)


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
class _Seen:
    """All results, sorted.

    `targets` is what `pods` returns. `absent` maps hosts without results to the reason. `cells` are
    the failures, `probed` the raw results by host.
    """

    targets: Mapping[str, Mapping[str, Any]]
    absent: Mapping[str, str]
    cells: _Cells
    probed: Mapping[str, Any]


_Cells = Dict[Tuple[str, str, str], List[Mapping[str, Any]]]


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


def _table(hosts: Sequence[str], seen: _Seen) -> list[str]:
    rows = [["from", "to:", *hosts, "gateway", "outside"]]
    for source in hosts:
        for kind in ("pod", "host"):
            row = [source, kind]
            for node in hosts:
                if node == source:
                    row.append("-")
                elif source in seen.absent or node not in seen.targets:
                    row.append("?")
                else:
                    families = _families(seen.targets[source], seen.targets[node])
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


def _edge(source: str, kind: str, seen: _Seen) -> list[str]:
    """Return the cells for the pod's gateway and the outside."""
    if kind == "host":
        return ["-", "-"]
    if source in seen.absent:
        return ["?", "?"]
    families = _families(seen.targets[source], seen.targets[source])
    gateway = _word(seen.cells.get((source, "gateway", source), ()), families)
    outside = "no" if (source, "outside", "") in seen.cells else "ok"
    return [gateway, outside if seen.probed[source].get("outside") else "-"]


def _families(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[int]:
    keys = {4: "address", 6: "address6"}
    return [family for family, key in keys.items() if one[key] and other[key]]


def _word(failed: Sequence[Mapping[str, Any]], families: Sequence[int]) -> str:
    """Return a cell: one word, or one for each family where they differ."""
    found = {one["family"]: str(one["word"]) for one in failed}
    words = [found.get(family, verdict.OK) for family in families]
    if len(set(words)) <= 1:
        return words[0] if words else "-"
    return " ".join(f"{family}:{word}" for family, word in zip(families, words))


def _sentences(cells: _Cells, seen: Container[str]) -> list[str]:
    """Return a line for each direction and reason; senders and families that fail alike share it.

    A line names the direction, who sends (pod, host), and the family. `seen` are the hosts that
    have results: what they send works unless it is in `cells`.
    """
    # The inner dicts serve as sets that keep their order.
    lines: dict[tuple[str, str], dict[str, None]] = {}
    for (source, kind, node), failed in cells.items():
        direction = _DIRECTIONS.get(kind, "{source} -> {node}").format(source=source, node=node)
        back = {one["family"] for one in cells.get((node, kind, source), ())}
        for one in failed:
            who = _SENDERS.get(kind, "") + f"IPv{one['family']}"
            what = str(one["what"])
            if kind == "outside":
                who += f" {one['address']}"
            if kind == "pod" and one["family"] not in back and node in seen:
                what += f"; {node} -> {source} works"
            lines.setdefault((direction, what), {})[who] = None
    return [f"{direction} ({', '.join(who)}): {what}" for (direction, what), who in lines.items()]


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

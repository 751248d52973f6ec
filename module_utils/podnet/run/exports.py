"""The results of verify.yml for machines: JSON, JUnit, and the text format of Prometheus.

All three come from one dict, `results`, which the JSON file holds as it is. docs/results.md
describes it; what is added to it leaves SCHEMA as it is, and what is taken away or gets another
meaning raises it.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections import Counter
from typing import Any, Mapping, Sequence

from ..core import verdict
from . import matrix

SCHEMA = 1

#: Gauges for Prometheus, after `podnet_verify_`, and what they mean.
METRICS = {
    "ok": "1 if every host was probed and nothing failed.",
    "time_seconds": "When the network was proven, in seconds since 1970.",
    "results": "What was asked of whom, by its result.",
    "failed": "What does not work.",
    "not_probed": "A host that gave no results.",
}


def results(
    document: Mapping[str, Any],
    made: Mapping[str, Any],
    probed: Mapping[str, Any],
    moment: int,
) -> dict[str, Any]:
    """Return all results; the arguments are those of `matrix.report`.

    `moment` is the time of the run in seconds since 1970.
    """
    seen = matrix.Gathered.of(document, made, probed)
    asked = [one for one in _asked(seen) if one["word"] != "?"]
    failed = [one for one in asked if one["word"] != verdict.OK]
    return {
        "schema": SCHEMA,
        "kind": "verify",
        "time": moment,
        "network": str(document["name"]),
        "backend": str(document["backend"]),
        "ok": not failed and not seen.absent,
        "hosts": list(seen.hosts),
        "not_probed": dict(seen.absent),
        "probes": {
            key: sum(int(probed[host][key]) for host in seen.hosts if host not in seen.absent)
            for key in ("asked", "answered")
        },
        "results": asked,
        "notes": {
            host: list(probed[host].get("notes", ()))
            for host in seen.hosts
            if host not in seen.absent
        },
    }


def _asked(seen: matrix.Gathered) -> list[dict[str, Any]]:
    """Return what was asked, an entry for each sender, receiver and family."""
    found = []
    for source in seen.hosts:
        if source in seen.absent:
            continue
        own = seen.targets[source]
        kinds = [("pod", node) for node in seen.targets] + [("host", node) for node in seen.targets]
        asked = [
            (kind, node, family)
            for kind, node in kinds
            if node != source and seen.has_asked(source, node)
            for family in matrix.common_families(own, seen.targets[node])
        ]
        asked += [("gateway", source, family) for family in matrix.common_families(own, own)]
        asked += [
            ("outside", address, 6 if ":" in address else 4)
            for address in seen.probed[source].get("outside", ())
        ]
        for kind, node, family in asked:
            failed = [
                one
                for one in seen.cells.get((source, kind, "" if kind == "outside" else node), ())
                if one["family"] == family and (kind != "outside" or one["address"] == node)
            ]
            found.append(
                {
                    "from": source,
                    "to": node,
                    "kind": kind,
                    "family": family,
                    "word": str(failed[0]["word"]) if failed else verdict.OK,
                    "what": str(failed[0]["what"]) if failed else "",
                }
            )
    return found


def as_json(found: Mapping[str, Any]) -> str:
    """Return the results as JSON."""
    return json.dumps(found, indent=1, sort_keys=False) + "\n"


def as_junit(found: Mapping[str, Any]) -> str:
    """Return the results as JUnit's XML: a case for each entry, a suite for each host that asked.

    A host that was not probed is a suite with one case, which is an error.
    """
    root = ET.Element("testsuites", name=f"podnet {found['network']} {found['kind']}")
    for host in found["hosts"]:
        mine = [one for one in found["results"] if one["from"] == host]
        reason = found["not_probed"].get(host)
        failures = [one for one in mine if one["what"]]
        suite = ET.SubElement(
            root,
            "testsuite",
            name=host,
            tests=str(len(mine) + (reason is not None)),
            failures=str(len(failures)),
            errors=str(int(reason is not None)),
            skipped="0",
        )
        for one in mine:
            name = f"{_title(one)} IPv{one['family']}"
            case = ET.SubElement(suite, "testcase", classname=f"podnet.{host}", name=name)
            if one["what"]:
                ET.SubElement(case, "failure", type=one["word"], message=printable(one["what"]))
        if reason is not None:
            case = ET.SubElement(suite, "testcase", classname=f"podnet.{host}", name="is probed")
            ET.SubElement(case, "error", type="not probed", message=printable(reason))
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def printable(text: str) -> str:
    """Return `text` without what XML 1.0 cannot hold."""
    return "".join(one if one.isprintable() or one in "\n\t" else "?" for one in text)


def _title(one: Mapping[str, Any]) -> str:
    if one["kind"] == "gateway":
        return "pod -> its gateway"
    if one["kind"] == "outside":
        return f"pod -> outside {one['to']}"
    return f"{one['kind']} -> pod of {one['to']}"


def as_prometheus(found: Mapping[str, Any]) -> str:
    """Return the results for node_exporter's textfile collector.

    What failed has a series each, what is ok is counted: the numbers of pairs grow with the square
    of that of the hosts.
    """
    counts: Counter[tuple[str, str]] = Counter(
        (one["kind"], "failed" if one["what"] else "ok") for one in found["results"]
    )
    failed = [
        (
            {key: str(one[key]) for key in ("from", "to", "kind", "family", "word")},
            1,
        )
        for one in found["results"]
        if one["what"]
    ]
    counted = [
        ({"kind": kind, "result": result}, number)
        for (kind, result), number in sorted(counts.items())
    ]
    values: dict[str, list[tuple[dict[str, str], int]]] = {
        "ok": [({}, int(found["ok"]))],
        "time_seconds": [({}, found["time"])],
        "results": counted,
        "failed": failed,
        "not_probed": [({"host": host}, 1) for host in found["not_probed"]],
    }
    return gauges("podnet_verify_", METRICS, found["network"], values)


def gauges(
    prefix: str,
    meanings: Mapping[str, str],
    network: str,
    values: Mapping[str, Sequence[tuple[Mapping[str, str], int]]],
) -> str:
    """Return gauges in Prometheus's text format, each with the label `network`.

    `meanings` maps their names without `prefix` to what they tell, `values` to (labels, value).
    """
    lines: list[str] = []
    for name, meaning in meanings.items():
        lines += [f"# HELP {prefix}{name} {meaning}", f"# TYPE {prefix}{name} gauge"]
        lines += [
            f"{prefix}{name}{_labels({'network': network, **those})} {value}"
            for those, value in values[name]
        ]
    return "\n".join(lines) + "\n"


def _labels(values: Mapping[str, str]) -> str:
    escaped = (
        (key, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n"))
        for key, value in values.items()
    )
    return "{" + ",".join(f'{key}="{value}"' for key, value in escaped) + "}"


def files(found: Mapping[str, Any]) -> Sequence[dict[str, str]]:
    """Return the files to write, as ``{name, content}``."""
    stem = f"{found['network']}-{found['kind']}"
    return [
        {"name": f"{stem}.json", "content": as_json(found)},
        {"name": f"{stem}.xml", "content": as_junit(found)},
        {"name": f"{stem}.prom", "content": as_prometheus(found)},
    ]

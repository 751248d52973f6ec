"""The results of doctor.yml for machines: JSON, JUnit, and the text format of Prometheus.

docs/results.md describes them.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from typing import Any, Mapping, Sequence

from .doctor import Diagnosis
from .doctor_cause import BROKEN, DEGRADED, HEALTHY
from .exports import as_json, gauges, printable

SCHEMA = 1

#: Gauges for Prometheus, after `podnet_doctor_`, and what they mean.
METRICS = {
    "status": "1 for the status that the network has.",
    "time_seconds": "When the network was looked at, in seconds since 1970.",
    "causes": "How many causes there are, by status and kind.",
    "cause": "A host that a cause is about.",
}


def results(
    document: Mapping[str, Any], hosts: Sequence[str], found: Diagnosis, moment: int
) -> dict[str, Any]:
    """Return all that was found; `moment` is the time of the run in seconds since 1970."""
    return {
        "schema": SCHEMA,
        "kind": "doctor",
        "time": moment,
        "network": str(document["name"]),
        "backend": str(document["backend"]),
        "status": found.status,
        "hosts": list(hosts),
        "causes": [
            {
                "kind": one.kind,
                "status": one.status,
                "hosts": list(one.hosts),
                "what": one.what,
                "evidence": list(one.evidence),
                "cure": one.cure,
                "failed_probes": one.pairs,
            }
            for one in found.causes
        ],
        "notes": list(found.notes),
    }


def files(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the files to write, as ``{name, content}``."""
    stem = f"{found['network']}-doctor"
    return [
        {"name": f"{stem}.json", "content": as_json(found)},
        {"name": f"{stem}.xml", "content": _junit(found)},
        {"name": f"{stem}.prom", "content": _prometheus(found)},
    ]


def _junit(found: Mapping[str, Any]) -> str:
    """Return a suite of one case for each host, which fails for the causes that name it.

    Causes that name no host of the run are a case of their own.
    """
    name = f"podnet {found['network']} doctor"
    cases = {
        host: [one for one in found["causes"] if host in one["hosts"]] for host in found["hosts"]
    }
    cases["network"] = [one for one in found["causes"] if not set(one["hosts"]) & set(cases)]
    failures = sum(1 for those in cases.values() if those)
    root = ET.Element("testsuites", name=name)
    suite = ET.SubElement(
        root,
        "testsuite",
        name=name,
        tests=str(len(cases)),
        failures=str(failures),
        errors="0",
        skipped="0",
    )
    for host, those in cases.items():
        case = ET.SubElement(
            suite, "testcase", classname="podnet.doctor", name=f"{host} is healthy"
        )
        if those:
            said = "\n".join(f"{one['what']}\nTo mend it: {one['cure']}" for one in those)
            worst = BROKEN if any(one["status"] == BROKEN for one in those) else DEGRADED
            ET.SubElement(case, "failure", type=worst, message=printable(said))
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _prometheus(found: Mapping[str, Any]) -> str:
    counts = Counter((str(one["status"]), str(one["kind"])) for one in found["causes"])
    told = dict.fromkeys(
        (str(one["status"]), str(one["kind"]), str(host))
        for one in found["causes"]
        for host in one["hosts"]
    )
    values: dict[str, list[tuple[dict[str, str], int]]] = {
        "status": [
            ({"status": one}, int(one == found["status"])) for one in (HEALTHY, DEGRADED, BROKEN)
        ],
        "time_seconds": [({}, found["time"])],
        "causes": [
            ({"status": status, "kind": kind}, number)
            for (status, kind), number in sorted(counts.items())
        ],
        "cause": [
            ({"status": status, "kind": kind, "host": host}, 1) for status, kind, host in told
        ],
    }
    return gauges("podnet_doctor_", METRICS, found["network"], values)

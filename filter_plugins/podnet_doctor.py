# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters for the role podnet_doctor: which packets are followed, and what all of it means."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# Ansible lets modules import module_utils, but not filters.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "module_utils"))

from podnet.backends import planners
from podnet.core.edition import Edition
from podnet.run import (
    doctor,
    doctor_exports,
    doctor_ways,
    exports,
    matrix,
    objections,
    results,
    trace,
)

#: Variables in which hosts' answers are registered.
_SEEN, _TRACED = "_podnet_doctor_seen", "_podnet_trace_seen"
_MADE, _ASKED = "_podnet_probe_made", "_podnet_probe_asked"


def questions(hostvars: Mapping[str, Any], hosts: Sequence[str], document: Any) -> dict[str, Any]:
    """Return ``{ways, asked}`` of doctor_ways.choose, after the hosts have asked each other."""
    plan = results.document(document)
    made, asked = (
        results.registered(hostvars, hosts, _MADE),
        results.registered(hostvars, hosts, _ASKED),
    )
    found = exports.results(plan, made, asked, 0)
    failed = [one for one in found["results"] if one["what"]]
    return doctor_ways.choose(plan, failed, matrix.pods(made))


def report(
    hostvars: Mapping[str, Any],
    hosts: Sequence[str],
    planned: Mapping[str, Any],
    followed: Mapping[str, Any],
) -> dict[str, Any]:
    """Return ``{status, verdict, lines, files}`` about `hosts`.

    `planned` is what podnet_plan returned, `followed` what `questions` did; {} where no packets
    were sent.
    """
    document = planned["document"]
    plan = results.document(document)
    seen = results.registered(hostvars, hosts, _SEEN)
    moment = int(time.time())
    proof = doctor.Probed(asked=False)
    if followed:
        made, asked = (
            results.registered(hostvars, hosts, _MADE),
            results.registered(hostvars, hosts, _ASKED),
        )
        probed = exports.results(plan, made, asked, moment)
        words = {str(one["word"]) for one in probed["results"] if one["what"]}
        proof = doctor.Probed(
            probed["results"],
            probed["not_probed"],
            matrix.report(plan, made, asked).failures,
            matrix.cures(words, planners.suspect(plan)),
        )
    against = objections.objections(
        Edition(**planned["edition"]),
        planned["allocations_file"],
        planned["release"],
        {host: ((one or {}).get("health") or {}).get("knowledge") for host, one in seen.items()},
    )
    found = doctor.judge(seen, proof, _traces(hostvars, plan, followed), against)
    left_out = [str(one["name"]) for one in plan["nodes"] if str(one["name"]) not in seen]
    headline = doctor.headline(plan, list(seen), left_out)
    exported = doctor_exports.results(plan, list(seen), found, moment)
    return {
        "status": found.status,
        "verdict": doctor.sentence(found),
        "lines": doctor.lines(found, headline),
        "files": doctor_exports.files(exported),
    }


def _traces(
    hostvars: Mapping[str, Any], plan: Mapping[str, Any], followed: Mapping[str, Any]
) -> list[dict[str, Any]]:
    found = []
    for number, way in enumerate(followed.get("ways", ())):
        asked: dict[str, list[Any]] = {}
        answers: dict[str, list[Any]] = {}
        for host in way["hosts"]:
            result = hostvars[host].get(_TRACED) if host in hostvars else None
            told = result.get("results") or [] if isinstance(result, Mapping) else []
            for place, one in enumerate(followed["asked"].get(host, ())):
                if one["way"] == number:
                    asked.setdefault(host, []).append(one)
                    answers.setdefault(host, []).append(
                        told[place] if place < len(told) else result
                    )
        one = trace.report(plan, way, asked, answers)
        ends = f"{way['source']['address']} -> {way['target']['address']}"
        found.append({**one, "hosts": way["hosts"], "way": ends})
    return found


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"podnet_doctor_questions": questions, "podnet_doctor_report": report}

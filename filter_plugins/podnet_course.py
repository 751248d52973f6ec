# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters for the role podnet_network: decide from all hosts' results how the run goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

# Ansible lets modules import module_utils, but not filters.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "module_utils"))

from podnet.backends.document import plan_from_text
from podnet.backends.planners import PLANNERS
from podnet.core.document import pack_plan
from podnet.core.edition import Edition
from podnet.run import closing, course, objections, results, run_id


def decide(
    hostvars: Mapping[str, Any],
    nodes: Sequence[str],
    hosts: Sequence[str],
    forced: object,
    older: object = False,
) -> dict[str, Any]:
    """Return how the run goes on: a `podnet.run.course.Course` as a dict.

    `nodes` are all hosts of the group, `hosts` those of this run; each of these has the registered
    variables `_podnet_seen` and `_podnet_plan`. With `older` (podnet_force_allocations), hosts'
    objections to the allocations file become notes instead of a refusal. Raises AnsibleFilterError
    if nothing is planned.
    """
    looked = {str(host): hostvars[host].get("_podnet_seen") or {} for host in hosts}
    limited = len(looked) < len(nodes)
    names = [str(node) for node in nodes]
    plan = hostvars[hosts[0]].get("_podnet_plan")
    if not isinstance(plan, Mapping) or "edition" not in plan:
        raise AnsibleFilterError(
            "nothing is planned and nothing was changed: the role podnet_plan comes before this "
            "one, and a run begins at the beginning, not with --start-at-task"
        )
    against = objections.objections(
        Edition(**plan["edition"]),
        plan["allocations_file"],
        plan["release"],
        {host: (seen.get("pending") or {}).get("knowledge") for host, seen in looked.items()},
    )
    unkept = [plan["unkept"]] if plan.get("unkept") else []
    result = course.decide(
        names,
        looked,
        limited,
        bool(forced),
        run_id.has_ended,
        objections=[*unkept, *([] if older else against)],
        alone=bool(plan.get("alone")),
    )._asdict()
    if older:
        result["notes"] += [
            f"podnet_force_allocations is set, so not heeded: {it}" for it in against
        ]
    return result


def unfinished(hostvars: Mapping[str, Any], decided: Mapping[str, Any], phase: str) -> list[str]:
    """Return "host: reason" for each host of the run that is not known to have ended `phase`.

    `decided` is what `podnet_course` returned. The hosts are taken from there, because Ansible's
    own lists drop hosts that failed or became unreachable.
    """
    return results.unfinished(hostvars, decided["hosts"], phase)


def done(
    hostvars: Mapping[str, Any],
    decided: Mapping[str, Any],
    phase: str,
    before: Mapping[str, Any],
    run: str,
) -> dict[str, Any]:
    """Return ``{run, phases}``: `before`, if it is of this run, and what hosts did in `phase`."""
    phases = closing.noted(hostvars, decided["hosts"], phase, _phases(before, run))
    return {"run": run, "phases": phases}


def _phases(before: Mapping[str, Any], run: str) -> Mapping[str, Any]:
    """Return the phases of what `done` returned last, {} if that was for an earlier run."""
    return before.get("phases", {}) if before.get("run") == run else {}


def closing_lines(
    hostvars: Mapping[str, Any],
    hosts: Sequence[str],
    decided: Mapping[str, Any],
    before: Mapping[str, Any],
    run: str,
    *,
    check: object,
    stopped: str = "",
    install: str = "none",
) -> list[str]:
    """Return the table that a run ends with.

    `before` is what `podnet_done` returned last, perhaps for an earlier run of the same play;
    `stopped` the phase that the run stops after, and `install` is podnet_cni_install: if plugins
    are installed, what follows from them is counted by the look.
    """
    attach = {}
    if install != "none" and not stopped and decided["mode"] in (course.CONVERGE, course.SWITCH):
        for host in decided["hosts"]:
            counts = (hostvars[host].get("_podnet_seen") or {}).get("pending") or {}
            attach[str(host)] = counts.get("cni", 0) + counts.get("endpoints", 0)
    names = [str(host) for host in hosts]
    told = closing.Told(decided, names, _phases(before, run), attach, stopped, check=bool(check))
    return closing.lines(told)


def at_work(hostvars: Mapping[str, Any], hosts: Sequence[str]) -> dict[str, Any]:
    """Return ``{refusal, over}`` for hosts that this run tried to claim, as in a `Course`.

    Reads their registered variable `_podnet_asked`, which names the run that holds the host, and
    says whether a newer podnet has changed it.
    """
    asked = {str(host): hostvars[host].get("_podnet_asked") for host in hosts}
    told = [
        f"{host}: {one['refused']}" for host, one in asked.items() if one and one.get("refused")
    ]
    if told:
        return {"refusal": "\n".join(["Nothing was removed, because of:", *told]), "over": []}
    held = {host: one["held"] for host, one in asked.items() if one and one.get("held")}
    refusal, over = course.others(held, run_id.has_ended)
    return {"refusal": refusal, "over": over}


def keys(hostvars: Mapping[str, Any], hosts: Sequence[str]) -> dict[str, str]:
    """Return host -> public key, for those of `hosts` that podnet_key was asked on in this run."""
    told = {str(host): hostvars[host].get("_podnet_key") or {} for host in hosts}
    return {host: str(one["key"]) for host, one in told.items() if one.get("key")}


def detour(document: str) -> str:
    """Return the plan document over which hosts switch that cannot switch to this one at once."""
    plan = plan_from_text(document)
    settings = PLANNERS[plan.backend].detour(plan.settings)
    changed = replace(plan, settings=settings)
    return pack_plan(changed.to_document())


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "podnet_at_work": at_work,
            "podnet_closing": closing_lines,
            "podnet_course": decide,
            "podnet_detour": detour,
            "podnet_done": done,
            "podnet_keys": keys,
            "podnet_unfinished": unfinished,
            "podnet_settled": run_id.settled,
        }

# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters for the role podnet_network: from what all hosts said to how the run goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# Ansible puts module_utils on modules' path, not on that of filters.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "module_utils"))

from podnet import course, knowledge, this_run
from podnet.edition import Edition


def decide(
    hostvars: Mapping[str, Any],
    nodes: Sequence[str],
    hosts: Sequence[str],
    forced: object,
    older: object = False,
) -> dict[str, Any]:
    """Return a `podnet.course.Course` as a dict.

    `nodes` is the whole group, `hosts` those of this run; each holds a registered
    `_podnet_seen` and `_podnet_plan`. With `older`, the allocations file goes before what hosts
    have seen.
    """
    looked = {str(host): hostvars[host].get("_podnet_seen") or {} for host in hosts}
    limited = len(looked) < len(nodes)
    names = [str(node) for node in nodes]
    plan = hostvars[hosts[0]]["_podnet_plan"]
    against = knowledge.objections(
        Edition(**plan["edition"]),
        plan["allocations_file"],
        plan["release"],
        {host: (seen.get("pending") or {}).get("knowledge") for host, seen in looked.items()},
    )
    result = course.decide(
        names,
        looked,
        limited,
        bool(forced),
        this_run.has_ended,
        objections=() if older else against,
    )._asdict()
    if older:
        result["notes"] += [
            f"podnet_force_allocations is set, so not heeded: {it}" for it in against
        ]
    return result


def failures(hostvars: Mapping[str, Any], hosts: Sequence[str]) -> list[str]:
    """Return "host: message" for each of `hosts` whose phase failed or was not confirmed.

    Reads the registered `_podnet_changed` and `_podnet_confirmed`.
    """
    lines: list[str] = []
    for host in hosts:
        seen = hostvars[host]
        changed = seen.get("_podnet_changed") or {}
        # A host that was lost answers with its confirmation, or not at all.
        result = seen.get("_podnet_confirmed") if _is_open(changed) else changed
        if result is None:
            lines.append(f"{host}: lost during the change, and it did not come back")
        else:
            lines += course.failures({str(host): result})
    return lines


def _is_open(changed: Mapping[str, Any]) -> bool:
    return bool(changed.get("unreachable") or changed.get("armed"))


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "podnet_course": decide,
            "podnet_failures": failures,
            "podnet_settled": this_run.settled,
        }

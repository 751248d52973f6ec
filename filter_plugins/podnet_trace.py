# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters for trace.yml: who is on the way, what they are asked, and what they say together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# Ansible lets modules import module_utils, but not filters.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "module_utils"))

from podnet.core.errors import PodnetError
from podnet.run import results, trace, trace_way


def hosts_on_the_way(document: Any, begin: Any, end: Any) -> dict[str, Any]:
    """Return what `run.trace_way.way` does, or ``{problem}``."""
    return _told(lambda: trace_way.way(results.document(document), begin, end))


def trace_questions(way: Mapping[str, Any], hostvars: Any, found: str) -> dict[str, Any]:
    """Return ``{asked}``, what `run.trace_way.questions` returns, or ``{problem}``.

    `found` names the variable in which the hosts' pods were registered.
    """
    pods = {}
    for key, one in way["finds"].items():
        result = _registered(hostvars, one["host"], found)
        pods[key] = next((it for it in _results(result) if _item(it) == key), result)
    return _told(lambda: {"asked": trace_way.questions(way, pods)})


def trace_report(
    way: Mapping[str, Any], asked: Mapping[str, Any], hostvars: Any, document: Any, seen: str
) -> dict[str, Any]:
    """Return what `run.trace.report` does; `seen` names the variable with hosts' answers."""
    answers = {}
    for host in way["hosts"]:
        result = _registered(hostvars, host, seen)
        answers[host] = _results(result) or [result] * len(asked[host])
    return trace.report(results.document(document), way, asked, answers)


def _told(made: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return made()
    except PodnetError as error:
        return {"problem": str(error)}


def _registered(hostvars: Any, host: str, name: str) -> Any:
    return hostvars[host].get(name) if host in hostvars else None


def _results(result: Any) -> list[Any]:
    found = result.get("results") if isinstance(result, Mapping) else None
    return list(found) if isinstance(found, list | tuple) else []


def _item(result: Any) -> Any:
    return result.get("item") if isinstance(result, Mapping) else None


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "podnet_trace_way": hosts_on_the_way,
            "podnet_trace_questions": trace_questions,
            "podnet_trace_report": trace_report,
        }

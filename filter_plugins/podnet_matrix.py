# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters for the role podnet_verify: combine all hosts' results, once for the whole run."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# Ansible lets modules import module_utils, but not filters.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "module_utils"))

from podnet.backends import planners
from podnet.run import exports, matrix, results


def probe_targets(hostvars: Mapping[str, Any], hosts: Sequence[str], made: str) -> str:
    """Return the probe pods of `hosts` as one JSON string.

    `made` names the variable in which each host's pod was registered.
    """
    return json.dumps(matrix.pods(results.registered(hostvars, hosts, made)))


def probe_report(
    hostvars: Mapping[str, Any], hosts: Sequence[str], document: Any, made: str, probed: str
) -> dict[str, list[str]]:
    """Return the report about `hosts` as ``{lines, failures}``; `document` is the plan.

    `made` and `probed` name the registered variables with each host's pod and what it probed.
    """
    plan = results.document(document)
    made_by, probed_by = (results.registered(hostvars, hosts, name) for name in (made, probed))
    found = matrix.report(plan, made_by, probed_by, planners.suspect(plan))
    return {"lines": found.lines, "failures": found.failures}


def probe_files(
    hostvars: Mapping[str, Any], hosts: Sequence[str], document: Any, made: str, probed: str
) -> list[dict[str, str]]:
    """Return the results for machines as ``{name, content}``; arguments as of `probe_report`."""
    plan = results.document(document)
    made_by, probed_by = (results.registered(hostvars, hosts, name) for name in (made, probed))
    return list(exports.files(exports.results(plan, made_by, probed_by, int(time.time()))))


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "podnet_probe_targets": probe_targets,
            "podnet_probe_report": probe_report,
            "podnet_probe_files": probe_files,
        }

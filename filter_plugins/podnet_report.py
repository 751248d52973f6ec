# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter for the role podnet_report: which of the ways that fail are explained on the page."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# Ansible lets modules import module_utils, but not filters.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "module_utils"))

from podnet.report import explain
from podnet.run import results


def ways_to_explain(
    hostvars: Mapping[str, Any], hosts: Sequence[str], document: Any, made: str, probed: str
) -> list[dict[str, Any]]:
    """Return for a few ways that fail what `podnet.run.trace_way.way` does.

    `made` and `probed` name the registered variables with each host's pod and what it probed.
    """
    plan = results.document(document)
    made_by, probed_by = (results.registered(hostvars, hosts, name) for name in (made, probed))
    return explain.ways(plan, made_by, probed_by)


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"podnet_report_ways": ways_to_explain}

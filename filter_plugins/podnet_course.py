# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter for the role podnet_network: from what all hosts said to how the run goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# Ansible puts module_utils on modules' path, not on that of filters.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "module_utils"))

from podnet import course


def decide(
    hostvars: Mapping[str, Any],
    nodes: Sequence[str],
    hosts: Sequence[str],
    forced: object,
) -> dict[str, Any]:
    """Return a `podnet.course.Course` as a dict.

    `nodes` is the whole group, `hosts` those of this run; each holds a registered
    `_podnet_seen`.
    """
    looked = {str(host): hostvars[host].get("_podnet_seen") or {} for host in hosts}
    limited = len(looked) < len(nodes)
    return course.decide([str(node) for node in nodes], looked, limited, bool(forced))._asdict()


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"podnet_course": decide}

# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action plugin of `podnet_plan`: makes the plan in Ansible's own process.

library/podnet_plan.py documents its options. Planning asks no host: as a module it would spend most
of its time on being packed and on starting a Python interpreter.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

# Ansible lets modules import module_utils, but not other plugins.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "module_utils"))

from podnet.core.errors import PodnetError, message
from podnet.plan.checks import host_names, show
from podnet.plan.keeping import Alone
from podnet.plan.kubernetes import NodesFile
from podnet.plan.plan_run import forget, keep, run
from podnet.run.run_id import name as run_name

#: Only types are checked here; the planner checks the values that come from the inventory.
ARGUMENTS = {
    "hosts": {"type": "list", "elements": "dict"},
    "keep": {"type": "dict"},
    "allocations_file": {"type": "path"},
    "release": {"type": "raw", "default": []},
    "write": {"type": "bool", "default": True},
    "keys": {"type": "dict", "default": {}},
    "kubernetes_nodes": {"type": "path"},
    "patches": {"type": "bool", "default": False},
    "forget": {"type": "list", "elements": "str", "default": []},
}


def plan(options: dict[str, Any], check_mode: bool, alone: Alone | None = None) -> dict[str, Any]:
    """Make a plan, or write the allocations of an earlier one; return the task's result.

    `alone` is as in `plan_run.run`. Raises PodnetError.
    """
    if options["keep"] is not None:
        return keep(options["keep"], write=options["write"] and not check_mode)
    if options["hosts"] is None:
        raise PodnetError("hosts: missing; the filter podnet_inventory collects them")
    if options["forget"]:
        return forget(
            options["hosts"],
            options["forget"],
            options["allocations_file"] or "",
            write=options["write"] and not check_mode,
        )
    try:
        release = host_names(options["release"])
    except ValueError as error:
        raise PodnetError(f"release: {show(options['release'])} {error}") from error
    result: dict[str, Any] = run(
        options["hosts"],
        options["allocations_file"] or "",
        release,
        write=options["write"] and not check_mode,
        keys=options["keys"],
        alone=alone,
        kubernetes_nodes=_nodes_file(options["kubernetes_nodes"]),
        patches=options["patches"],
    )
    result["alone"] = alone is not None
    result["pending"] = result["changed"]
    # Ansible runs each task in a child process; its parent is ansible-playbook itself.
    result["run"] = run_name(os.getppid())
    if not options["write"]:
        result["changed"] = False
    return result


def _nodes_file(path: str | None) -> NodesFile | None:
    """Read what kubectl said of the cluster's nodes, if it is asked for."""
    if path == "":
        raise PodnetError(
            "podnet_kubernetes_nodes: empty; kubectl get nodes --output json >nodes.json, then"
            " -e podnet_kubernetes_nodes=nodes.json"
        )
    try:
        return NodesFile(path, Path(path).read_text(encoding="utf-8")) if path else None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.reason
        raise PodnetError(
            f"podnet_kubernetes_nodes: {path}: cannot be read ({reason}); it is a file on the"
            " controller"
        ) from error


class ActionModule(ActionBase):  # type: ignore[misc]
    """What Ansible loads."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Return the result of `plan`, or a failed one whose message names all that is wrong."""
        super().run(tmp, task_vars)
        _other, options = self.validate_argument_spec(ARGUMENTS)
        # Ansible's strings carry a tag that says where they come from, and a YAML dump would
        # contain it. A round trip through JSON, as for modules' arguments, leaves plain values.
        options = json.loads(json.dumps(options, default=str))
        try:
            alone = self._alone(options["hosts"] or [], task_vars or {})
            result = plan(options, self._task.check_mode, alone)
        except Exception as error:  # also a bug is reported in one line
            result = {"failed": True, "msg": message(error)}
        # The controller stores this result once for each host: leave out the large arguments.
        shown = {key: options[key] for key in ("release", "write")}
        return result | {"invocation": {"module_args": shown}}

    def _alone(self, nodes: list[dict[str, Any]], known: Mapping[str, Any]) -> Alone | None:
        """Return the run's nodes if it is on those themselves and leaves out others."""
        names = [str(node.get("name")) for node in nodes]
        taking_part = {str(one) for one in known.get("ansible_play_hosts_all", [])}
        here = [name for name in names if name in taking_part]
        left_out = [name for name in names if name not in taking_part]
        if not here or not left_out:
            return None
        # What an inventory says goes before `connection` of a play or the command line.
        usual = str(self._task.connection or "")
        variables = known.get("hostvars", {})
        ways = {str(variables[name].get("ansible_connection") or usual) for name in here}
        local = all(way.rpartition(".")[2] == "local" for way in ways)
        return Alone(here, left_out) if local else None

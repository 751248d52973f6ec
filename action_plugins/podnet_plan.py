# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action `podnet_plan`: plans in Ansible's own process; library/podnet_plan.py describes it.

No host is asked, so packing a module and starting a Python for it would be most of the time.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

# Ansible puts module_utils on modules' path, not on that of other plugins.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "module_utils"))

from podnet.core.errors import PodnetError, message
from podnet.plan.checks import host_names, show
from podnet.plan.plan_run import keep, run
from podnet.run.run_id import name as run_name

#: The inventory's values are checked by the planner itself.
ARGUMENTS = {
    "hosts": {"type": "list", "elements": "dict"},
    "keep": {"type": "dict"},
    "allocations_file": {"type": "path"},
    "release": {"type": "raw", "default": []},
    "write": {"type": "bool", "default": True},
}


def plan(options: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Do what the options ask; return the result."""
    if options["keep"] is not None:
        return keep(options["keep"], write=options["write"] and not check_mode)
    if options["hosts"] is None:
        raise PodnetError("hosts: missing; the filter podnet_inventory collects them")
    try:
        release = host_names(options["release"])
    except ValueError as error:
        raise PodnetError(f"release: {show(options['release'])} {error}") from error
    result: dict[str, Any] = run(
        options["hosts"],
        options["allocations_file"] or "",
        release,
        write=options["write"] and not check_mode,
    )
    result["pending"] = result["changed"]
    # Ansible runs a task in a process of its own; its parent is the whole run.
    result["run"] = run_name(os.getppid())
    if not options["write"]:
        result["changed"] = False
    return result


class ActionModule(ActionBase):  # type: ignore[misc]
    """What Ansible loads."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Plan, or fail with everything that is wrong."""
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(ARGUMENTS)
        # Ansible's strings know where they come from, and YAML would write that down, too. The
        # way through JSON, which modules' arguments take as well, leaves plain values.
        options = json.loads(json.dumps(options, default=str))
        try:
            result = plan(options, self._task.check_mode)
        except Exception as error:  # a bug is told in one line, too
            result = {"failed": True, "msg": message(error)}
        # The controller keeps a result for every host: the arguments must not come back in it.
        shown = {key: options[key] for key in ("release", "write")}
        return result | {"invocation": {"module_args": shown}}

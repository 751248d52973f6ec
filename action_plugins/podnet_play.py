# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action plugin of `podnet_play`: checks how the play that contains it is run.

library/podnet_play.py documents its options.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.action import ActionBase

# Ansible lets modules import module_utils, but not other plugins.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "module_utils"))

from podnet.run.play import Play, no_hosts, problems
from podnet.run.run_id import name as run_name

ARGUMENTS = {"group": {"type": "str"}}


class ActionModule(ActionBase):  # type: ignore[misc]
    """What Ansible loads."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Return the run's name, or a failed result that says all that is wrong with the run."""
        super().run(tmp, task_vars)
        _other, options = self.validate_argument_spec(ARGUMENTS)
        known = task_vars or {}
        found = problems(self._play(known))
        if options["group"]:
            group = known.get("groups", {}).get(options["group"], [])
            found.append(no_hosts(options["group"], group, known.get("ansible_play_hosts_all", [])))
        found = [one for one in found if one]
        if found:
            return {"failed": True, "msg": "\n".join(["Nothing was changed on any host.", *found])}
        # Ansible runs each task in a child process; its parent is ansible-playbook itself.
        return {"changed": False, "run": run_name(os.getppid())}

    def _play(self, known: dict[str, Any]) -> Play:
        parent = getattr(self._task, "_parent", None)
        # This task has the tag `always` of its own. The tags left are inherited, so the other
        # tasks of its role or play have them, too.
        tags: Collection[str] = set(self._task.tags or ()) - {"always"}
        while parent is not None and not getattr(parent, "_play", None):
            parent = getattr(parent, "_parent", None)
        play = getattr(parent, "_play", None)
        return Play(
            strategy=str(getattr(play, "strategy", "") or "linear"),
            hosts=[str(one) for one in known.get("ansible_play_hosts", [])],
            batch=[str(one) for one in known.get("ansible_play_batch", [])],
            tags=[str(one) for one in tags],
            only=[str(one) for one in known.get("ansible_run_tags", [])],
            skip=[str(one) for one in known.get("ansible_skip_tags", [])],
            start_at=str(context.CLIARGS.get("start_at_task") or ""),
        )

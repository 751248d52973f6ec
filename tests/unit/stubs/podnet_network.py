# The action `podnet_network` without a host: each host's variable `script` says what comes of it.
from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc]
    """What Ansible loads in place of the module's own way to the host."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Do what `script` says: phase, or "confirm PHASE" -> done, fail, armed or lost."""
        super().run(tmp, task_vars)
        arguments = self._task.args
        key = f"confirm {arguments['phase']}" if arguments.get("confirm") else arguments["phase"]
        what = (task_vars or {}).get("script", {}).get(key, "done")
        if what == "lost":
            raise AnsibleConnectionFailure("the wire is cut")
        if what == "fail":
            return {"failed": True, "msg": f"no {key} today"}
        return {
            "changed": True,
            "armed": what == "armed",
            "network": "podnet",
            "phase": arguments["phase"],
            "tally": {"route": [1, 0, 0]},
        }

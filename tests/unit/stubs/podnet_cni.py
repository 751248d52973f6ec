# The action `podnet_cni` without a host: no plugin is there until somebody has installed it.
from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc]
    """What Ansible loads in place of the module's own way to the host."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Answer as the module does where plugins are missing."""
        super().run(tmp, task_vars)
        if self._task.args.get("state") == "queried":
            return {"changed": False, "path": "/etc/cni/net.d/x", "missing": ["bridge"]}
        return {"failed": True, "msg": "CNI plugin bridge not found"}

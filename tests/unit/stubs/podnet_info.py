# The action `podnet_info` without a host: each host's variable `look` is what it answers.
from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc]
    """What Ansible loads in place of the module's own way to the host."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Return the host's `look`; "lost" is one that cannot be reached."""
        super().run(tmp, task_vars)
        look = (task_vars or {}).get("look", {})
        if look == "lost":
            raise AnsibleConnectionFailure("no route to host")
        pending = {"total": 1, "switching": False, "cni": 0, "endpoints": 0} | look
        return {"changed": False, "claimed": True, "pending": pending}

"""A connection to this machine whose cable can be pulled: a file says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection.local import Connection as Local

DOCUMENTATION = """
name: cable
short_description: a local connection that can be lost
description: For tests.
author: podnet contributors
extends_documentation_fragment: [connection_pipelining]
options:
  remote_addr:
    description: the host's name
    vars: [{name: inventory_hostname}]
  directory:
    description: where the test's files lie
    vars: [{name: test_directory}]
"""


class Connection(Local):  # type: ignore[misc]
    """Fails as ssh does while HOST.lost is there, and once where HOST.back is."""

    transport = "cable"

    def exec_command(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command, unless the cable is out before or after it."""
        self._demand_cable()
        answer = super().exec_command(*args, **kwargs)
        self._demand_cable()
        return answer

    def reset(self) -> None:
        """Nothing is kept open."""

    def _demand_cable(self) -> None:
        path = Path(self.get_option("directory"), self.get_option("remote_addr"))
        once = path.with_suffix(".back")
        if once.exists():
            once.unlink()
            raise AnsibleConnectionFailure("lost for a moment")
        if path.with_suffix(".lost").exists():
            raise AnsibleConnectionFailure("lost")

"""A connection to no host: every module gets an answer at once, in the controller's own process.

So a run costs what the controller does, and nothing of SSH, the network and the hosts.
"""

from __future__ import annotations

import json
import re
from typing import Any

from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: podnet_silent
short_description: Answer for hosts that are not there
description: For benchmarks of the controller alone.
author: podnet
extends_documentation_fragment: connection_pipelining
"""

_PENDING = {
    "network": 0, "cni": 0, "endpoints": 0, "total": 0, "switching": False, "detour": False,
    "moving": [], "mtu": 1450, "timed": False, "knowledge": None,
}  # fmt: skip
_ANSWERS: dict[str, dict[str, Any]] = {
    "ping": {"ping": "pong"},
    "podnet_info": {"changed": False, "pending": _PENDING, "claimed": False},
}
_NAME = re.compile(rb"ansible\.legacy\.(\w+)|ansible\.modules\.(\w+)")


class Connection(ConnectionBase):  # type: ignore[misc]
    """What Ansible loads."""

    transport = "podnet_silent"
    has_pipelining = True

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def exec_command(
        self, cmd: str, in_data: bytes | None = None, sudoable: bool = True
    ) -> tuple[int, bytes, bytes]:
        """Return (status, output, errors) of a module, by its name in what is sent."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        found = _NAME.search(in_data or b"")
        name = next(one for one in found.groups() if one).decode() if found else ""
        if name not in _ANSWERS:
            return 1, b"", f"podnet_silent: no answer for {name or cmd!r}".encode()
        return 0, json.dumps(_ANSWERS[name]).encode(), b""

    def put_file(self, in_path: str, out_path: str) -> None:
        """Refuse: with pipelining nothing is copied."""
        raise NotImplementedError(f"{in_path}: pipelining is off")

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Refuse: nothing is there."""
        raise NotImplementedError(in_path)

    def close(self) -> None:
        """Do nothing."""
        self._connected = False

"""Do something at the exact moment when a task of a playbook is about to begin.

PODNET_AT_TASK maps titles of tasks to lists of commands, as JSON; the command `["KILL"]` ends
Ansible's whole process group as a crash would.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

_PROJECT = Path(__file__).resolve().parents[3]


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Run the commands in order before the task starts anywhere; one that fails ends the run."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "at_task"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        """Read what to do."""
        super().__init__()
        self._todo: dict[str, list[list[str]]] = json.loads(os.environ.get("PODNET_AT_TASK", "{}"))

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Do what is to be done at this task, once."""
        title = task.get_name().rpartition(" : ")[2]
        for command in self._todo.pop(title, []):
            if command == ["KILL"]:
                os.killpg(os.getpgrp(), signal.SIGKILL)
            done = subprocess.run(
                command,
                cwd=_PROJECT,
                # Ansible has closed its own.
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            self._display.display(f"at {title}: {command}: {done.returncode} {done.stdout}")
            if done.returncode:
                # A test must not go on as if this had happened; an error raised here is ignored.
                os.killpg(os.getpgrp(), signal.SIGKILL)

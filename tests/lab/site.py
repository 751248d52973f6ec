"""A lab with an inventory of its own, and the project's playbooks run on it as a user runs them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lab import Lab

PROJECT = Path(__file__).resolve().parents[2]
_BIN = Path(sys.executable).parent

_RECAP = re.compile(r"^(\S+)\s+: (ok=\d+.*)$", re.MULTILINE)
_TASK = re.compile(r"^(?:TASK|PLAY) \[?(.*?)\]? \*+$")


@dataclass
class Run:
    """One run of a playbook: its status, output, and when (seconds from its start) tasks began."""

    status: int
    output: str
    seconds: float
    tasks: list[tuple[str, float]] = field(default_factory=list)

    @property
    def recap(self) -> dict[str, dict[str, int]]:
        """Host -> counts of ok, changed, unreachable, failed."""
        return {
            host: {key: int(value) for key, value in (one.split("=") for one in counts.split())}
            for host, counts in _RECAP.findall(self.output)
        }

    @property
    def changed(self) -> dict[str, int]:
        """Host -> number of tasks that changed it; hosts without a change are left out."""
        return {host: one["changed"] for host, one in self.recap.items() if one["changed"]}

    def began(self, name: str) -> float:
        """Return when the first task began whose title contains `name`."""
        return next(at for title, at in self.tasks if name in title)


class Started:
    """A playbook that runs in a process group of its own."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it."""
        self.tasks: list[tuple[str, float]] = []
        self._lines: list[str] = []
        self.at = time.time()
        self._process = subprocess.Popen(
            argv,
            cwd=PROJECT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.append(line)
            title = _TASK.match(line)
            if title:
                self.tasks.append((title[1], time.time() - self.at))

    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def wait_for(self, task: str, timeout: float = 60.0) -> None:
        """Wait until a task begins whose title contains `task`."""
        deadline = time.monotonic() + timeout
        while not any(task in title for title, _at in list(self.tasks)):
            if not self.running() or time.monotonic() > deadline:
                raise AssertionError(f"no task {task!r} began:\n{''.join(self._lines)}")
            time.sleep(0.005)

    def kill(self) -> None:
        """End the whole process group at once, as a crash of the controller would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(timeout=1.0)

    def wait(self, timeout: float = 120.0) -> Run:
        """Wait for its end."""
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        # SSH's masters hold the output open for a minute, so its end is not waited for.
        self._reader.join(timeout=0.5)
        return Run(status, "".join(self._lines), time.time() - self.at, self.tasks)


class Site:
    """A lab and the variables in its inventory's group_vars."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        """Take a lab that is up, whose inventory is in `directory`."""
        self.lab = lab
        self.directory = directory
        self.variables: dict[str, Any] = {}

    def set(self, **variables: Any) -> None:
        """Edit group_vars: set variables, without their `podnet_`; None removes one."""
        for name, value in variables.items():
            self.variables.pop(f"podnet_{name}", None)
            if value is not None:
                self.variables[f"podnet_{name}"] = value
        file = self.directory / "group_vars" / "podnet_nodes.yml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump(self.variables, explicit_start=True))

    def start(self, playbook: str, *options: str) -> Started:
        """Start a playbook of the project (a name), or any (a path)."""
        path = playbook if "/" in playbook else f"playbooks/{playbook}.yml"
        argv = [str(_BIN / "ansible-playbook"), "-i", str(self.directory), path, *options]
        return Started(argv, {"ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"})

    def play(self, playbook: str, *options: str) -> Run:
        """Run a playbook; whether it succeeds is in the result."""
        return self.start(playbook, *options).wait()

    def done(self, playbook: str, *options: str) -> Run:
        """Run a playbook that must succeed."""
        run = self.play(playbook, *options)
        assert run.status == 0, run.output
        return run

    def info(self) -> dict[str, dict[str, Any]]:
        """Return what podnet_info says of every host."""
        with tempfile.TemporaryDirectory() as tree:
            subprocess.run(
                [
                    str(_BIN / "ansible"),
                    *("-i", str(self.directory), "-t", tree, "-m", "podnet_info", "podnet_nodes"),
                ],
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                check=True,
            )
            return {
                file.name: json.loads(file.read_text())["state"]
                for file in sorted(Path(tree).iterdir())
            }

    def on_all(self, *argv: str, check: bool = True) -> dict[str, str]:
        """Run a command on every host; return what each printed."""
        return {host: self.lab.run(host, list(argv), check=check).stdout for host in self.lab.hosts}

    def strict(self) -> None:
        """Make every host drop what comes in the wrong way (rp_filter=1), now and after a boot."""
        script = (
            "printf 'net.ipv4.conf.%s.rp_filter = 1\\n' all default '*' "
            "> /etc/sysctl.d/60-strict.conf && /lib/systemd/systemd-sysctl"
        )
        self.on_all("sh", "-ec", script)


@contextlib.contextmanager
def site(name: str, directory: Path, hosts: int = 3) -> Iterator[Site]:
    """Bring a lab up for the time of a with block, with rp_filter=1 on all hosts."""
    lab = Lab(name, directory)
    lab.up(hosts, node_ip6=True)
    try:
        made = Site(lab, directory)
        made.strict()
        yield made
    finally:
        lab.down()

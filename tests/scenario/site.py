"""Hosts whose inventory is edited while they live, and runs that are watched, timed and killed."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab import Lab
from tests.scenario.cluster import PROJECT, Cluster
from tests.traffic.watch import code_archive

_BIN = Path(sys.executable).parent
_TASK = re.compile(r"^TASK \[(.*?)\] \*+$")
_ANSWER = re.compile(r"^(\S+) \| SUCCESS => ", re.MULTILINE)

#: Ports are the pods' own; a watch on them may be under way or not. furnish.py's devices are gone
#: after a reboot, and podnet-online@ has run only on a host that has booted since the first run. The
#: replay's note of what needs no other comes when its timer next elapses.
_OBSERVE = """
import base64, glob, json, subprocess, sys, tempfile
with tempfile.NamedTemporaryFile(suffix=".zip") as archive:
    archive.write(base64.b64decode("ARCHIVE"))
    archive.flush()
    sys.path.insert(0, archive.name)
    from podnet.host import info
    state = info.observed("podnet")
def said(*argv):
    return subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True).stdout
state.pop("ports")
links = {one["ifname"] for one in json.loads(said("ip", "-j", "link"))}
units = said("systemctl", "list-units", "--all", "--plain", "--no-legend", "podnet*")
print(json.dumps({
    "state": state,
    "links": sorted(name for name in links if not name.startswith("veth")
                    and not name.endswith("-other")),
    "files": sorted(path for top in ("/etc/podnet/**", "/run/podnet/**", "/etc/systemd/**/*podnet*")
                    for path in glob.glob(top, recursive=True) if not path.endswith(".seen")),
    "units": sorted(line.split()[0] for line in units.splitlines()
                    if not line.startswith("podnet-online@")),
}, default=vars))
"""

_STRICT_FILE = "/etc/sysctl.d/60-strict.conf"
_STRICT = (
    "printf 'net.ipv4.conf.%s.rp_filter = 1\\n' all default '*' "
    f"> {_STRICT_FILE} && /lib/systemd/systemd-sysctl"
)


@dataclass(frozen=True)
class Ended:
    """A playbook that ended: its status, output, and when (seconds from its start) tasks began."""

    status: int
    output: str
    seconds: float
    tasks: list[tuple[str, float]]

    @property
    def message(self) -> str:
        """The output on one line, without the breaks that Ansible puts into it."""
        return " ".join(self.output.replace("\\n", " ").split())

    def began(self, name: str) -> float:
        """Return when the first task began whose title contains `name`."""
        return next(at for title, at in self.tasks if name in title)


class Started:
    """A playbook that runs in a process group of its own."""

    def __init__(self, argv: Sequence[str], at: Mapping[str, Sequence[Sequence[str]]]) -> None:
        """Start it; `at` is what callbacks/at_task.py does on the way."""
        self.tasks: list[tuple[str, float]] = []
        self._lines: list[str] = []
        self.at = time.time()
        #: When it told its results, in seconds from its start.
        self.ended: float | None = None
        self._process = subprocess.Popen(
            argv,
            cwd=PROJECT,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_CALLBACK_PLUGINS": str(PROJECT / "tests" / "scenario" / "callbacks"),
                "ANSIBLE_CALLBACKS_ENABLED": "at_task",
                "PODNET_AT_TASK": json.dumps(at),
            },
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
            elif line.startswith("PLAY RECAP"):
                self.ended = time.time() - self.at

    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def wait_for(self, task: str, timeout: float = 60.0) -> float:
        """Wait until a task begins whose title contains `task`; return when, as `tasks` has it."""
        deadline = time.monotonic() + timeout
        while True:
            for title, at in list(self.tasks):
                if task in title:
                    return at
            if not self.running() or time.monotonic() > deadline:
                raise AssertionError(f"no task {task!r} began:\n{''.join(self._lines)}")
            time.sleep(0.005)

    def kill(self) -> None:
        """End the whole process group at once, as a crash of the controller would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def wait(self, timeout: float = 240.0) -> Ended:
        """Wait for its end."""
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise AssertionError(f"not done in {timeout:.0f} s:\n{''.join(self._lines)}") from error
        # SSH's masters hold the output open for a minute, so its end is not waited for.
        self._reader.join(timeout=0.5)
        return Ended(status, "".join(self._lines), time.time() - self.at, self.tasks)


class Site(Cluster):
    """A cluster whose variables a test sets in the inventory's group_vars."""

    def set(self, **variables: Any) -> None:
        """Make these, without their `podnet_`, all the variables that a test sets."""
        file = self.variables_file
        file.parent.mkdir(exist_ok=True)
        text = {f"podnet_{name}": value for name, value in variables.items()}
        file.write_text(yaml.safe_dump(text, explicit_start=True))

    @property
    def variables_file(self) -> Path:
        """The file that `set` writes; a scenario's lasting variables stand in all.yml beside it."""
        return self.inventory / "group_vars" / "podnet_nodes.yml"

    def start(self, at: Mapping[str, Sequence[Sequence[str]]] | None = None) -> Started:
        """Start site.yml; `at` maps a task's title to commands that run just before it."""
        argv = [str(_BIN / "ansible-playbook"), "-i", str(self.inventory), "playbooks/site.yml"]
        return Started(argv, at or {})

    def info(self) -> dict[str, dict[str, Any]]:
        """Return what podnet_info says of every host."""
        argv = [str(_BIN / "ansible"), "-i", str(self.inventory), "-m", "podnet_info"]
        done = subprocess.run(
            [*argv, "podnet_nodes"],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return {
            found[1]: json.JSONDecoder().raw_decode(done.stdout, found.end())[0]["state"]
            for found in _ANSWER.finditer(done.stdout)
        }

    def observed(self) -> dict[str, dict[str, Any]]:
        """Return what `info` does, and what else a run may leave, in a tenth of its time."""
        archive = base64.b64encode(code_archive()).decode()
        script = _OBSERVE.replace("ARCHIVE", archive)
        return {
            host: json.loads(self.lab.run(host, ["python3", "-"], stdin=script).stdout)
            for host in self.hosts
        }

    def on_all(self, *argv: str) -> dict[str, str]:
        """Run a command on every host; return what each printed."""
        return {host: self.on(host, *argv) for host in self.hosts}

    @contextlib.contextmanager
    def strict(self) -> Iterator[None]:
        """Let every host drop what comes in the wrong way (rp_filter=1), also after a boot."""
        before = self.on_all("sysctl", "-a", "--pattern", "ipv4.conf.*rp_filter$")
        self.on_all("sh", "-ec", _STRICT)
        try:
            yield
        finally:
            for host in self.hosts:
                self.on(host, "rm", "-f", _STRICT_FILE)
                # Devices that are gone by now are no error.
                self.on(host, "sysctl", "-q", "-e", "-p", "-", stdin=before[host])

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Take back what `set` set, and bring the hosts to the scenario's own variables."""
        try:
            yield
        finally:
            self.variables_file.unlink(missing_ok=True)
            self.site()


@contextlib.contextmanager
def site(name: str, directory: Path, hosts: int = 3) -> Iterator[Site]:
    """Bring a lab up for the time of a with block, with rp_filter=1 on all hosts."""
    lab = Lab(name, directory)
    lab.up(hosts, node_ip6=True, keep_bytecode=True)
    try:
        made = Site(lab)
        with made.strict():
            yield made
    finally:
        lab.down()

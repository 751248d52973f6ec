"""Which run this is, and whether another one has ended; on the controller."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import Any, Mapping

from ..core import run_name

#: Seconds to wait for another run that has claimed a host. The younger of two gives up first, or
#: each would wait for what the other holds.
WAIT_OLDER, WAIT_YOUNGER = 60, 15


def name(process: int) -> str:
    """Return what the run of an ansible-playbook process is called, the same in all its tasks.

    "BEGUN PROCESS MACHINE USER@HOST": seconds since the epoch, an id, 8 hexadecimal digits.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    who = re.sub(r"[^A-Za-z0-9@._-]", "_", f"{user}@{platform.node()}")[:100]
    return f"{_begun(process):.2f} {process} {_machine()} {who}"


def has_ended(run: str, idle: float) -> bool:
    """Whether a run is over: its claim is too old, or its process here is gone."""
    if idle >= run_name.LASTS or not run_name.is_run(run):
        return True
    begun, process, machine, _who = run.split(" ")
    return machine == _machine() and f"{_begun(int(process)):.2f}" != begun


def settled(seen: Mapping[str, Any], run: str) -> bool:
    """Whether a host's answer can be taken as it is: nobody else holds it, or waiting was enough.

    `seen` is what podnet_info returned; Ansible counts its calls in `attempts`.
    """
    held = seen.get("held") or {}
    if not held or has_ended(held["run"], held["idle"]):
        return True
    most = WAIT_OLDER if run_name.is_older(run, held["run"]) else WAIT_YOUNGER
    return bool(seen.get("attempts", most) >= most)


def _machine() -> str:
    """Return digits that tell this controller, or container, from others."""
    parts = [platform.node()]
    for path in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id"):
        with contextlib.suppress(OSError):
            parts.append(Path(path).read_text().strip())
    with contextlib.suppress(OSError):
        # Where process ids are counted anew, as in a container.
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _begun(process: int) -> float:
    """Return when a process began, in seconds since the epoch; 0 for one that is gone."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
        ticks = int(stat.rpartition(")")[2].split()[19])
        boot = next(
            int(line.split()[1])
            for line in Path("/proc/stat").read_text().splitlines()
            if line.startswith("btime ")
        )
        return boot + ticks / os.sysconf("SC_CLK_TCK")
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return 0.0
    # Not Linux.
    command = ["ps", "-o", "lstart=", "-p", str(process)]
    try:
        shown = subprocess.run(
            command, stdout=subprocess.PIPE, env={**os.environ, "LC_ALL": "C"}, check=False
        ).stdout.decode()
        return time.mktime(time.strptime(shown.strip(), "%a %b %d %H:%M:%S %Y"))
    except (OSError, ValueError):
        return 0.0

"""The name of this run, and whether another run has ended; on the controller."""

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

#: Seconds that a run waits for another one that has claimed a host, if it is the older of the two,
#: and if it is the younger. Where each holds a host that the other needs, the younger gives up.
WAIT_OLDER, WAIT_YOUNGER = 60, 15


def name(process: int) -> str:
    """Return the name of the run of an ansible-playbook process, the same in all its tasks.

    "BEGUN PROCESS MACHINE USER@HOST": when the process began, in seconds since the epoch; its id; 8
    hexadecimal digits for the machine that it runs on.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    who = re.sub(r"[^A-Za-z0-9@._-]", "_", f"{user}@{platform.node()}")[:100]
    return f"{_begun(process):.2f} {process} {_machine()} {who}"


def has_ended(run: str, idle: float) -> bool:
    """Whether a run is over: its claim is too old, or its process on this machine is gone.

    `idle` is the seconds since it last renewed its claim.
    """
    if idle >= run_name.LASTS or not run_name.is_run(run):
        return True
    begun, process, machine, _who = run.split(" ")
    return machine == _machine() and f"{_begun(int(process)):.2f}" != begun


def settled(seen: Mapping[str, Any], run: str) -> bool:
    """Whether not to ask a host again: no other run holds it, or this one has waited long enough.

    `seen` is what podnet_info returned; Ansible calls it once a second and counts in `attempts`.
    """
    held = seen.get("held") or {}
    if not held or has_ended(held["run"], held["idle"]):
        return True
    most = WAIT_OLDER if run_name.is_older(run, held["run"]) else WAIT_YOUNGER
    return bool(seen.get("attempts", most) >= most)


def _machine() -> str:
    """Return 8 hexadecimal digits that tell this machine, or container, from others."""
    parts = [platform.node()]
    for path in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id"):
        with contextlib.suppress(OSError):
            parts.append(Path(path).read_text().strip())
    with contextlib.suppress(OSError):
        # Each PID namespace, such as a container's, has process ids of its own.
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

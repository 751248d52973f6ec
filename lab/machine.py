"""The edge to the machine the lab runs on: commands, locks, mounts, processes, namespaces.

Nothing here knows what a lab is; `lab.lab` and `lab.host` put these together.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from .errors import LabError

_CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def run(argv: Sequence[str], text: str | None = None) -> str:
    """Run a command, `text` on its standard input; return its output, or raise LabError."""
    try:
        done = subprocess.run(
            argv,
            input=text if text is not None else "",
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(
            f"{argv[0]} is not installed; `make venv` installs what the lab needs"
        ) from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise LabError(f"`{' '.join(argv)}` ended with status {done.returncode}: {said}")
    return done.stdout


def require_root() -> None:
    """Raise LabError unless we are root: the lab makes mounts and network namespaces."""
    if os.geteuid() != 0:
        raise LabError("the lab needs root: it makes network namespaces, mounts and containers")


@contextlib.contextmanager
def lock(file: Path) -> Iterator[None]:
    """Hold an exclusive lock, waiting for it if need be. `file` is made for it and goes with it."""
    while True:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # the directory went just now
        fcntl.flock(handle, fcntl.LOCK_EX)
        # Whoever held it before us has removed it: then we hold a file nobody else sees.
        with contextlib.suppress(FileNotFoundError):
            if file.stat().st_ino == os.fstat(handle).st_ino:
                break
        os.close(handle)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(handle)


# Mounts


def _mountinfo() -> list[list[str]]:
    """Return /proc/self/mountinfo (proc_pid_mountinfo(5)) as lists of fields, in mount order."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [[_unescape(field) for field in line.split(" ")] for line in lines]


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def is_mount(directory: Path) -> bool:
    """Whether something is mounted exactly at `directory`."""
    return str(directory) in {fields[4] for fields in _mountinfo()}


def mount_roots() -> set[str]:
    """Return the directories, as paths in their filesystems, that are mounted somewhere."""
    return {fields[3] for fields in _mountinfo()} - {"/"}


def mounts_below(directory: Path) -> list[str]:
    """Return the mount points at and below `directory`, the latest mounted first."""
    top = str(directory)
    points = [fields[4] for fields in _mountinfo()]
    return [point for point in reversed(points) if point == top or point.startswith(f"{top}/")]


def unmount_below(directory: Path) -> None:
    """Unmount all that is mounted at and below `directory`."""
    for point in mounts_below(directory):
        # Lazily where a process still holds it: it goes with that process.
        if subprocess.run(["umount", point], capture_output=True, check=False).returncode:
            run(["umount", "--lazy", point])


def remove_tree(tree: Path) -> None:
    """Remove a directory that was unmounted before; refuse while something is mounted in it."""
    if mounts_below(tree):
        raise LabError(f"{tree} still has mounts below it; not removed")
    if tree.exists():
        shutil.rmtree(tree)


# Control groups: a host's cgroup is the list of its processes, kept by the kernel. No record of
# ours can be stale, and no process that is not in it can be hit.


def cgroup(name: str) -> Path:
    """Return the path of a cgroup `name`, there or not, in the unified hierarchy (cgroups(7))."""
    for fields in _mountinfo():
        if _filesystem(fields) == "cgroup2":
            return Path(fields[4]) / name
    raise LabError("no cgroup2 filesystem is mounted; the lab needs it to keep track of its hosts")


def _filesystem(fields: list[str]) -> str:
    return fields[fields.index("-") + 1]


def make_cgroup(group: Path) -> None:
    """Make a cgroup; hand on to it what controllers there are, for containers on the hosts."""
    group.mkdir(exist_ok=True)
    for controller in (group / "cgroup.controllers").read_text().split():
        # Without it hosts run as well; only limits of containers on them do not work.
        with contextlib.suppress(OSError):
            (group / "cgroup.subtree_control").write_text(f"+{controller}")


def in_cgroup(group: Path, argv: Sequence[str]) -> list[str]:
    """Return the command that runs `argv`, and all it starts, in a cgroup that is there."""
    return ["/bin/sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"', str(group), *argv]


def processes(group: Path) -> list[int]:
    """Return the ids of the processes in a cgroup and below it."""
    result: list[int] = []
    for directory, _names, _files in os.walk(group):
        # A group that goes while we look has no processes.
        with contextlib.suppress(OSError):
            result += map(int, (Path(directory) / "cgroup.procs").read_text().split())
    return result


def end_cgroup(name: str, timeout: float = 20.0) -> None:
    """Kill every process in a cgroup and below it, and remove it. No group is no error."""
    group = cgroup(name)
    deadline = time.monotonic() + timeout
    while group.is_dir():
        with contextlib.suppress(OSError):
            (group / "cgroup.kill").write_text("1")
        _remove_groups(group)
        if group.is_dir() and time.monotonic() > deadline:
            raise LabError(f"{group} does not empty; processes left: {processes(group)}")
        time.sleep(0.01)
    # Beside cgroup v1 systemd-nspawn makes a twin in systemd's own hierarchy.
    for fields in _mountinfo():
        if _filesystem(fields) == "cgroup" and (Path(fields[4]) / name).is_dir():
            _remove_groups(Path(fields[4]) / name)


def _remove_groups(group: Path) -> None:
    for directory, _names, _files in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            Path(directory).rmdir()


# Network namespaces


def netns_path(name: str) -> Path:
    """Return the file that holds a named network namespace (ip-netns(8))."""
    return Path("/run/netns") / name


def in_netns(name: str, argv: Sequence[str]) -> list[str]:
    """Return the command that runs `argv` in a network namespace.

    nsenter and not `ip netns exec`: that one also makes a mount namespace with a new /sys.
    """
    return ["nsenter", f"--net={netns_path(name)}", "--", *argv]


def remove_netns(name: str) -> None:
    """Remove a network namespace; none is no error."""
    if netns_path(name).exists():
        run(["ip", "netns", "delete", name])


def connect(netns: str, address: str, port: int, timeout: float) -> socket.socket:
    """Connect to `address` from within a network namespace; raise OSError where that fails.

    A socket stays in the namespace it was made in, so only its making is done in there, by a
    thread that comes back at once (os.setns came with Python 3.12).
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    away = os.open(netns_path(netns), os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(away)
        try:
            made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        finally:
            _setns(home)
    finally:
        os.close(home)
        os.close(away)
    made.settimeout(timeout)
    try:
        made.connect((address, port))
    except BaseException:
        made.close()
        raise
    return made


def _setns(handle: int) -> None:
    if _libc.setns(handle, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

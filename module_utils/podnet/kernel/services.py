"""Make systemd and running services take up files that changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterable

from ..core.errors import PodnetError
from ..keep import lock
from ..keep.lock import DIRECTORY
from .run import run

_UNITS = "/etc/systemd/system/"
_TEMPLATES = {"podnet@.service", "podnet-wait@.service", "podnet-online@.service"}

#: Directory of drop-ins -> the command that makes their service read them again, and the service.
#: networkd.conf.d is missing: networkd reads it only at its start, and podnet does not restart it.
_RELOADS = {
    "/etc/systemd/network/": ["networkctl", "reload", "systemd-networkd"],
    "/etc/NetworkManager/conf.d/": ["systemctl", "reload", "NetworkManager", "NetworkManager"],
    "/etc/firewalld/policies/": ["firewall-cmd", "--quiet", "--reload", "firewalld"],
}


def runs_systemd() -> bool:
    """Whether systemd is this host's init (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def await_replay(name: str, boot: str) -> None:
    """Wait until the host has rebuilt network `name` after a boot, which SSH does not wait for.

    A run that looked earlier would find nothing and build only what the plan wants. In the middle
    of a switch that is the new backend alone, while peers still use the old one. `boot` is the path
    of the boot files. The lock file lies in /run, and the replay or the first run after a boot
    makes it: if it is there, a replay that holds it is all that is left to wait for.
    """
    replayed = Path(DIRECTORY, f"{name}.lock").exists() or not Path(boot).exists()
    if not replayed and runs_systemd():
        # If the replay fails, the run repairs what is missing.
        run(["systemctl", "start", f"podnet@{name}.service"])
    lock.await_replay(name)


def state(unit: str) -> dict[str, str]:
    """Return ``{load, active}`` of a unit in systemd's words; both "" where there is no systemd."""
    found = {"load": "", "active": ""}
    if not runs_systemd():
        return found
    shown = run(["systemctl", "show", "--property=LoadState,ActiveState", unit]).output
    for line in shown.splitlines():
        key, _equals, value = line.partition("=")
        found[{"LoadState": "load", "ActiveState": "active"}.get(key, key)] = value
    return found


def begin(unit: str) -> list[str]:
    """Start a service and do not wait for it; return what went wrong, a sentence."""
    return _do(["systemctl", "start", "--no-block", f"{unit}.service"]) if runs_systemd() else []


def settle(paths: Iterable[str]) -> list[str]:
    """Make services take up the changed files `paths`; return what went wrong, a sentence each.

    A unit of podnet's whose enabling link was made is started, one whose link or file was removed
    is stopped. Starting does not wait: the unit replays the boot files when this run has released
    its lock, finds nothing to do, and is active from then on.
    """
    if not runs_systemd():
        return []
    changed = list(paths)
    problems = []
    for directory, command in _RELOADS.items():
        if any(path.startswith(directory) for path in changed) and _is_active(command[-1]):
            problems += _do(command[:-1])
    units = [path for path in changed if path.startswith(_UNITS)]
    if not units:
        return problems
    links = [path for path in units if ".wants/" in path]
    # Stopping a unit also ends a repair that it is running.
    gone = {Path(path).name for path in units if not os.path.lexists(path)} - _TEMPLATES
    loaded = [unit for unit in sorted(gone) if _is_loaded(unit)]
    come = [Path(path).name for path in links if Path(path).is_symlink()]
    # Timers and path units take up another interval or path only when they are restarted.
    come += [
        Path(path).name
        for path in units
        if path.endswith((".timer", ".path")) and Path(path).is_file()
    ]
    anew = sorted({unit for unit in come if not unit.endswith(".service")})
    once = sorted({unit for unit in come if unit.endswith(".service")})
    for verb, those in (
        (["stop"], loaded),
        *([] if not loaded and _are_current(come) else [(["daemon-reload"], [])]),
        (["restart"], anew),
        (["start", "--no-block"], once),
    ):
        if those or verb == ["daemon-reload"]:
            problems += _do(["systemctl", *verb, *those])
    if loaded:
        # A failed unit would stay listed after its file is gone. For a unit that has not failed
        # this command fails, which is no error here.
        run(["systemctl", "reset-failed", *loaded])
    return problems


def _are_current(come: list[str]) -> bool:
    """Whether systemd has podnet's units, and those in `come`, loaded as their files are now.

    systemd reads new units without being told, so daemon-reload is often needless. It reads all
    units of the host and runs all generators, which takes longer than the rest of a first run.
    """
    if not come:
        return False
    result = run(["systemctl", "show", "--property=LoadState,NeedDaemonReload", "podnet*", *come])
    return result.code == 0 and all(
        set(answer.split()) == {"LoadState=loaded", "NeedDaemonReload=no"}
        for answer in result.output.strip().split("\n\n")
    )


def _is_loaded(unit: str) -> bool:
    """Whether systemd knows a unit, even without a file: a running unit outlives its file."""
    return state(unit) != {"load": "not-found", "active": "inactive"}


def _is_active(unit: str) -> bool:
    return run(["systemctl", "is-active", "--quiet", unit]).code == 0


def _do(argv: list[str]) -> list[str]:
    try:
        result = run(argv)
    except PodnetError as error:
        return [str(error)]
    if result.code == 0:
        return []
    return [f"{' '.join(argv)}: {result.error or 'failed'} (exit {result.code})"]

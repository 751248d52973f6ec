"""Let running services notice the files that changed: systemd itself, and what it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Iterable

from ..errors import PodnetError
from .run import run

_UNITS = "/etc/systemd/system/"


def runs_systemd() -> bool:
    """Whether systemd is this host's init (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def settle(paths: Iterable[str]) -> list[str]:
    """Make services follow the changed files `paths`; return what went wrong, a sentence each.

    A unit of ours whose enabling link came is started, one whose link went is stopped. Starting
    does not wait: the unit replays the boot files as soon as this run lets go of its lock, finds
    nothing to do, and is active from then on.
    """
    units = [path for path in paths if path.startswith(_UNITS)]
    if not units or not runs_systemd():
        return []
    links = [path for path in units if ".wants/" in path]
    gone = [Path(path).name for path in links if not Path(path).is_symlink()]
    come = [Path(path).name for path in links if Path(path).is_symlink()]
    problems = []
    for argv in (
        ["stop", *gone] if gone else [],
        ["daemon-reload"],
        ["start", "--no-block", *come] if come else [],
    ):
        if argv:
            problems += _systemctl(*argv)
    if gone:
        # A unit that had failed would be listed for ever; one that had not is no error to us.
        run(["systemctl", "reset-failed", *gone])
    return problems


def _systemctl(*argv: str) -> list[str]:
    try:
        result = run(["systemctl", *argv])
    except PodnetError as error:
        return [str(error)]
    if result.code == 0:
        return []
    return [f"systemctl {' '.join(argv)}: {result.error or 'failed'} (exit {result.code})"]

"""Claims: files on the hosts that keep runs from different controllers apart.

`lock` keeps two calls apart on one host, but a run is many calls on many hosts. So a run that has
changes to make leaves a claim on each host when it first looks at the host, and its last call there
removes the claim. Another run that finds a claim waits a little and then stops, naming the holder.
A claim whose run has died is void: at once for a run from the same controller, which can see that
the process is gone, for other runs after LASTS seconds without a call.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Collection, NamedTuple

from ..core.errors import PodnetError
from ..core.run_name import LASTS, by, is_run
from . import bytecode
from .lock import DIRECTORY


class Claim(NamedTuple):
    """The run that holds a host, and seconds since its last call there."""

    run: str
    idle: float


def take(name: str, run: str) -> Claim | None:
    """Claim this host for `run`; return None, or the claim of another run that holds the host.

    Raises PodnetError if `run` is no name of a run.
    """
    path = _path(name)
    _demand_run(run)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        _write(new, run)
        # A link neither replaces an existing claim nor shows a half-written one.
        with contextlib.suppress(FileExistsError):
            os.link(new, path)
            return None
    finally:
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
    holder = _read(path)
    if holder is None:
        # The other run removed its claim just now.
        return take(name, run)
    if holder.run != run:
        return holder
    os.utime(path)
    return None


def renew(name: str, run: str, over: Collection[str]) -> None:
    """Claim this host for `run`, or raise PodnetError naming the run that holds it.

    `over` are runs that have ended, as the controller knows. The caller holds the network's lock.
    """
    path = _path(name)
    _demand_run(run)
    holder = _read(path)
    if holder and holder.run != run and holder.run not in over and holder.idle < LASTS:
        raise PodnetError(
            f"another run of podnet is at work on this host: {by(holder.run)}. Run again when it "
            "has ended"
        )
    new = path.with_name(f"{path.name}.{os.getpid()}")
    _write(new, run)
    new.replace(path)


def release(name: str, run: str = "") -> None:
    """Remove the claim of `run` (default: of any run), and the directory if it is not needed."""
    path = _path(name)
    holder = _read(path)
    if holder and run in ("", holder.run):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
    bytecode.leave(path.parent)


def _demand_run(run: str) -> None:
    if not is_run(run):
        raise PodnetError(f"run: {run!r} is not what podnet_plan returned as run")


def _path(name: str) -> Path:
    return Path(DIRECTORY) / f"{name}.run"


def _write(path: Path, run: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    while True:
        path.parent.mkdir(mode=0o755, exist_ok=True)
        # The removal of a network may remove the directory between these two lines.
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(path, flags, 0o600)
            break
    with os.fdopen(handle, "w") as file:
        file.write(f"{run}\n")


def _read(path: Path) -> Claim | None:
    try:
        text = path.read_text(errors="replace")[:300].strip()
        return Claim(text, max(0.0, time.time() - path.stat().st_mtime))
    except FileNotFoundError:
        return None

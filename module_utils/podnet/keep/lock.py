"""A lock for each network on a host: one run at a time, and an error that names the holder."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Iterator

from ..core import flock
from ..core.errors import PodnetError
from . import bytecode
from .files import STATE

DIRECTORY = bytecode.PARENT

#: How the replay of boot files names itself as holder, followed by its process id. It ends by
#: itself, and is waited for: on a slow host it takes longer than a run waits for another.
REPLAY = "its boot files are being replayed, process"
_REPLAY_WAIT = 180.0

_HELD: list[int] = []


def handles() -> tuple[int, ...]:
    """Return the file descriptors of the locks that this process holds, for commands to inherit.

    If this process is killed, the command that it started goes on for a moment. It holds the lock,
    too, so no other run begins before it has ended.
    """
    return tuple(_HELD)


@contextlib.contextmanager
def held(name: str, wait: float = 20.0) -> Iterator[None]:
    """Hold the lock of network `name` on this host; the kernel releases it when this process dies.

    The lock's file is removed together with the network; only the holder makes or removes the
    network's directory. Raises PodnetError naming the holder after `wait` seconds.
    """
    handle = _take(name, wait)
    try:
        _HELD.append(handle)
        yield
    finally:
        with contextlib.suppress(ValueError):
            _HELD.remove(handle)
        if not Path(STATE, name).exists():
            _forget(name)
        os.close(handle)


def await_replay(name: str) -> None:
    """Wait while the boot files of network `name` are replayed; a run is not waited for."""
    deadline = time.monotonic() + _REPLAY_WAIT
    while _path(name).exists() and time.monotonic() < deadline:
        try:
            os.close(flock.take(_path(name), "", time.monotonic()))
        except flock.Busy as busy:
            if str(busy).startswith(REPLAY):
                time.sleep(0.2)
                continue
        return


def _forget(name: str) -> None:
    """Remove the file of a lock that this process holds, and DIRECTORY if it is empty then.

    A run that waits for the lock notices that its file is gone, and makes a new one.
    """
    with contextlib.suppress(FileNotFoundError):
        _path(name).unlink()
    bytecode.leave(Path(DIRECTORY))


def _path(name: str) -> Path:
    return Path(DIRECTORY) / f"{name}.lock"


def _take(name: str, wait: float) -> int:
    """Return a file descriptor that holds the lock; after `wait` seconds raise PodnetError.

    A replay may take longer.
    """
    path = _path(name)
    begin = time.monotonic()
    deadline = begin + wait
    while True:
        try:
            path.parent.mkdir(mode=0o755, exist_ok=True)
            return flock.take(path, f"process {os.getpid()}{_client()}\n", deadline)
        except flock.Busy as busy:
            if str(busy).startswith(REPLAY) and deadline < begin + _REPLAY_WAIT:
                deadline += 1.0
                continue
            raise PodnetError(
                f"another run of podnet works on network {name} of this host "
                f"({busy}); wait for it to end and run again"
            ) from None
        except FileNotFoundError as error:
            # The removal of another network removed the directory between these two lines.
            if time.monotonic() > deadline:
                raise PodnetError(f"{path}: cannot be made ({error.strerror})") from error
        except OSError as error:
            raise PodnetError(f"{path}: cannot be made ({error.strerror})") from error


def _client() -> str:
    """Return words for who runs this: where the SSH session comes from (SSH_CLIENT of sshd(8)).

    sudo(8) drops that variable and sets one to the user's name; where there is neither, "".
    """
    address, user = os.environ.get("SSH_CLIENT"), os.environ.get("SUDO_USER")
    if address:
        return f", from {address.split(' ')[0]}"
    return f", for {user}" if user else ""

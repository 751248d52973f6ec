"""A lock for each network on a host: one run at a time, and an error that names the holder."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Iterator

from ..core import flock
from ..core.errors import PodnetError
from .files import STATE

DIRECTORY = "/run/podnet"

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
    handle = _take(name, time.monotonic() + wait)
    try:
        _HELD.append(handle)
        yield
    finally:
        with contextlib.suppress(ValueError):
            _HELD.remove(handle)
        if not Path(STATE, name).exists():
            _forget(name)
        os.close(handle)


def _forget(name: str) -> None:
    """Remove the file of a lock that this process holds, and DIRECTORY if it is empty then.

    A run that waits for the lock notices that its file is gone, and makes a new one.
    """
    with contextlib.suppress(FileNotFoundError):
        _path(name).unlink()
    with contextlib.suppress(OSError):
        Path(DIRECTORY).rmdir()


def _path(name: str) -> Path:
    return Path(DIRECTORY) / f"{name}.lock"


def _take(name: str, deadline: float) -> int:
    """Return a file descriptor that holds the lock; at `deadline` raise PodnetError instead."""
    path = _path(name)
    while True:
        try:
            path.parent.mkdir(mode=0o755, exist_ok=True)
            return flock.take(path, f"process {os.getpid()}{_client()}\n", deadline)
        except flock.Busy as busy:
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

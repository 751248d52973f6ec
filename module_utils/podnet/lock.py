"""One run at a time on a host: a lock that says who holds it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import Iterator

from .errors import PodnetError

DIRECTORY = "/run/podnet"

_HELD: list[int] = []


def handles() -> tuple[int, ...]:
    """Return the locks that this process holds, for the commands it starts to inherit.

    Whoever is killed leaves a command that goes on for a moment; no other run may begin before it
    has ended.
    """
    return tuple(_HELD)


@contextlib.contextmanager
def held(name: str, wait: float = 20.0) -> Iterator[None]:
    """Hold the lock of network `name` on this host; the kernel releases it when we die.

    Raises PodnetError naming the holder after `wait` seconds.
    """
    path = Path(DIRECTORY) / f"{name}.lock"
    try:
        path.parent.mkdir(mode=0o755, exist_ok=True)
        # Only root may open it: whoever can open a file can hold its lock (flock(2)).
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        os.fchmod(handle, 0o600)
    except OSError as error:
        raise PodnetError(f"{path}: cannot be made ({error.strerror})") from error
    try:
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    holder = os.pread(handle, 200, 0).decode("utf-8", "replace").strip()
                    raise PodnetError(
                        f"another run of podnet works on network {name} of this host "
                        f"({holder or 'unknown'}); wait for it to end and run again"
                    ) from None
                time.sleep(0.1)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()}, from {_client()}\n".encode(), 0)
        _HELD.append(handle)
        yield
    finally:
        with contextlib.suppress(ValueError):
            _HELD.remove(handle)
        os.close(handle)


def _client() -> str:
    """Return the address that the SSH session comes from, as sshd(8) tells it."""
    return os.environ.get("SSH_CLIENT", "this host").split(" ")[0]

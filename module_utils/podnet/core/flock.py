"""Lock files (flock(2)) that say who holds them. The kernel lets go when their process dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path


class Busy(Exception):
    """Another process holds the lock. Its text is what that wrote there, "unknown" for nothing."""


def take(path: Path, who: str, deadline: float, mode: int = 0o600) -> int:
    """Return a handle that holds the lock at `path`, made where missing, with `who` written there.

    Whoever can open a file can hold its lock, so by default root alone can. A holder may remove
    the file: who waited for it then takes the one that is there instead. Raises Busy at `deadline`
    (time.monotonic()), OSError where the file cannot be made.
    """
    while True:
        handle = _open(path, mode)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(handle, path):
                os.ftruncate(handle, 0)
                os.pwrite(handle, who.encode("utf-8", "replace"), 0)
                return handle
        except BlockingIOError:
            if time.monotonic() >= deadline:
                holder = os.pread(handle, 200, 0).decode("utf-8", "replace")
                os.close(handle)
                shown = "".join(one for one in holder if one.isprintable())
                raise Busy(shown or "unknown") from None
            time.sleep(0.05)
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _open(path: Path, mode: int) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    handle = os.open(path, flags, mode)
    # One that was there may be open to more.
    with contextlib.suppress(PermissionError):
        os.fchmod(handle, mode)
    return handle


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False

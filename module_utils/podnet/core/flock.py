"""Lock files (flock(2)) that name their holder; the kernel frees a lock when the holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path


class Busy(Exception):
    """Another process holds the lock; the text is what it wrote into the file, or "unknown"."""


def take(path: Path, who: str, deadline: float, mode: int = 0o600) -> int:
    """Lock the file at `path`, made where missing, write `who` into it, return its descriptor.

    Closing the descriptor frees the lock. Whoever can open the file can lock it, so the default
    `mode` lets root alone. A holder may remove the file: a process that waits for it then locks the
    new file at `path`. Raises Busy if the lock is not free by `deadline` (time.monotonic()),
    OSError if the file cannot be made.
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
    # A file that exists already may have a wider mode.
    with contextlib.suppress(PermissionError):
        os.fchmod(handle, mode)
    return handle


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False

"""Reading and replacing the allocations file on the controller, one run at a time.

Readers take no lock: the file is replaced by a rename, so they see the old one or the new one.
Only a run that has something to write takes the lock, and then reads again before it plans.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import stat
import tempfile
import time
from pathlib import Path
from typing import Iterator

from ..core import flock
from ..core.errors import PodnetError

#: A larger file is refused; an allocations file of 65,536 dual-stack nodes needs 6 MB.
_MOST_BYTES = 64 * 2**20


def load(path: str) -> str | None:
    """Return the text of the file, None when there is none.

    Raises PodnetError naming the file where it cannot be read.
    """
    if not path.startswith("/"):
        raise PodnetError(
            f"podnet_allocations_file: {path!r} is not an absolute path: begin it with"
            " {{ inventory_dir }} or {{ playbook_dir }}"
        )
    with _explained(path, "read"):
        try:
            found = Path(path).stat()
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST_BYTES:
            raise PodnetError(
                f"{path}: not an allocations file: let podnet_allocations_file name a file"
            )
        try:
            return Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise PodnetError(
                f"{path}: not UTF-8 text ({error.reason} at byte {error.start}): restore it from"
                " version control"
            ) from error


@contextlib.contextmanager
def locked(path: str, wait: float = 10.0) -> Iterator[None]:
    """Hold the lock of the allocations file; raise PodnetError if it is not free in `wait` seconds.

    The lock is a flock(2) on a hidden file beside it, which Ansible skips. That file names the
    holder. The kernel frees the lock when the run ends, however it ends.
    """
    target = Path(os.path.realpath(path))
    lock = target.with_name(f".{target.name}.lock")
    who = f"process {os.getpid()} of {_user()} on {socket.gethostname()}"
    with _explained(path, "lock"):
        try:
            handle = flock.take(lock, who, time.monotonic() + wait, mode=0o644)
        except flock.Busy as busy:
            raise PodnetError(
                f"{path}: another run holds it ({busy}): wait for that run to end"
            ) from None
    try:
        yield
    finally:
        # Removed before the lock is freed: a run that waits for this file then sees that it is gone
        # and locks a new one (flock.take).
        with contextlib.suppress(OSError):
            lock.unlink()
        os.close(handle)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())


def save(path: str, text: str) -> None:
    """Replace the file whole, keeping its mode and owner; call it with the lock held.

    If `path` is a symbolic link, the file that it leads to is replaced.
    """
    target = Path(os.path.realpath(path))
    with _explained(path, "write"):
        handle, beside = tempfile.mkstemp(prefix=f".{target.name}.", dir=str(target.parent))
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text.encode("utf-8"))
                file.flush()
                _dress(file.fileno(), target)
                os.fsync(file.fileno())
            Path(beside).replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(beside).unlink()
            raise
        directory = os.open(str(target.parent), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _dress(handle: int, target: Path) -> None:
    """Give the new file the mode and, where we may, the owner of the old one."""
    try:
        old = target.stat()
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        os.fchmod(handle, 0o666 & ~mask)
        return
    with contextlib.suppress(PermissionError):
        os.fchown(handle, old.st_uid, old.st_gid)
    os.fchmod(handle, stat.S_IMODE(old.st_mode))


@contextlib.contextmanager
def _explained(path: str, verb: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, FileNotFoundError):
            reason = f"its directory {Path(path).parent} does not exist"
        raise PodnetError(
            f"{path}: cannot {verb} it: {reason}: correct that, or let podnet_allocations_file"
            " name another place"
        ) from error

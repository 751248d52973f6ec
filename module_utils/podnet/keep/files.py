"""Files, links and directories on a host: what would change, and the change, safely.

A change is computed first (`text_change`, `link_change`), shown (`diff`), and then applied, so
check mode and a real run cannot differ. A text file is replaced by a rename and never rewritten
in place: a reader (kubelet watches its directory) sees the old content or the new, and a crash
leaves one of them. The temporary file for the new content has a fixed name for each path
(`beside`), so the next change removes one that a killed run left. A symbolic link where a file of
podnet's should be is refused: to follow it would be to write to a path that the user did not name.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Iterator

from ..core import flock
from ..core.errors import PodnetError

#: Where podnet keeps what it knows about a host, in one directory for each network.
STATE = "/etc/podnet"

#: File with the paths, one a line, of directories that did not exist before podnet needed them.
#: All networks of a host share it: the last one removed removes what the first one made.
DIRECTORIES = STATE + "/directories"

_BESIDE = re.compile(r"\..*\.podnet\Z", re.DOTALL)

#: The file that `alone` locks.
LOCK = "/run/podnet.lock"

_HELD: list[int] = []


@dataclass(frozen=True)
class TextChange:
    """A text file that must be written (`after` is text) or removed (`after` is None).

    `before` and `before_mode` are None when there is no file.
    """

    path: str
    before: str | None
    after: str | None
    before_mode: int | None = None
    mode: int = 0o644

    def diff(self) -> dict[str, str]:
        """Return the change the way Ansible's ``--diff`` prints it."""
        return {
            "before_header": self.path + ("" if self.before is not None else " (absent)"),
            "after_header": self.path + ("" if self.after is not None else " (absent)"),
            "before": self._side(self.before, self.before_mode),
            "after": self._side(self.after, self.mode),
        }

    def _side(self, text: str | None, mode: int | None) -> str:
        if text is None:
            return ""
        # The mode is worth a line only when it is what changes.
        if self.before_mode not in (None, self.mode) and self.after is not None:
            return f"# mode {mode:04o}\n{text}"
        return text

    def inverse(self) -> TextChange:
        """Return the change that takes this one back."""
        mode = self.mode if self.before_mode is None else self.before_mode
        return TextChange(self.path, self.after, self.before, self.mode, mode)

    def apply(self) -> None:
        """Do it. Raises PodnetError naming the file."""
        if self.after is None:
            remove_file(self.path)
        else:
            write_text(self.path, self.after, self.mode)


@dataclass(frozen=True)
class LinkChange:
    """A symbolic link that must point to `after`, or go (None)."""

    path: str
    before: str | None
    after: str | None

    def diff(self) -> dict[str, str]:
        """Return the change the way Ansible's ``--diff`` prints it."""
        return {
            "before_header": self.path + ("" if self.before is not None else " (absent)"),
            "after_header": self.path + ("" if self.after is not None else " (absent)"),
            "before": f"{self.path} -> {self.before}\n" if self.before is not None else "",
            "after": f"{self.path} -> {self.after}\n" if self.after is not None else "",
        }

    def inverse(self) -> LinkChange:
        """Return the change that takes this one back."""
        return LinkChange(self.path, self.after, self.before)

    def apply(self) -> None:
        """Do it. Raises PodnetError naming the link."""
        if self.after is None:
            remove_file(self.path)
            return
        write_link(self.path, self.after)


@dataclass(frozen=True)
class MoveChange:
    """A file or link of others that gets another name in its directory; what has it is replaced."""

    path: str
    to: str

    def diff(self) -> dict[str, str]:
        """Return the change the way Ansible's ``--diff`` prints it: the name."""
        return {
            "before_header": self.path,
            "after_header": self.to,
            "before": f"{self.path}\n",
            "after": f"{self.to}\n",
        }

    def inverse(self) -> MoveChange:
        """Return the change that takes this one back."""
        return MoveChange(self.to, self.path)

    def apply(self) -> None:
        """Do it. Raises PodnetError naming the file."""
        with alone(), _explained("rename", self.path):
            Path(self.path).rename(self.to)
            _sync_directory(str(Path(self.to).parent))


@dataclass(frozen=True)
class TreeRemoval:
    """A directory of podnet's that must go with its contents; `entries` are the names in it."""

    path: str
    entries: tuple[str, ...]

    def diff(self) -> dict[str, str]:
        """Return the change the way Ansible's ``--diff`` prints it: the names that go."""
        return {
            "before_header": self.path,
            "after_header": self.path + " (absent)",
            "before": "".join(f"{self.path}/{entry}\n" for entry in self.entries) or self.path,
            "after": "",
        }

    def apply(self) -> None:
        """Do it. Raises PodnetError naming the directory."""
        with _explained("remove", self.path), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.path)


def tree_removal(path: str) -> TreeRemoval | None:
    """Return the change that removes the directory `path`, None if there is none.

    Raises PodnetError when something that is no directory is there.
    """
    found = _lstat(path)
    if found is None:
        return None
    if not stat.S_ISDIR(found.st_mode):
        raise PodnetError(f"{path}: not a directory; podnet leaves it alone, move it away")
    with _explained("read", path):
        return TreeRemoval(path, tuple(sorted(entry.name for entry in Path(path).iterdir())))


def read_text(path: str) -> str | None:
    """Return the text of a regular file, or None when nothing is there.

    Raises PodnetError for anything else at `path`: a directory, a link, a device, bytes that are
    no UTF-8, or a file that cannot be read.
    """
    found = _lstat(path)
    if found is None:
        return None
    _demand_regular(path, found)
    with _explained("read", path):
        try:
            return Path(path).read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise PodnetError(
                f"{path}: not a text file (byte {error.start} is no UTF-8); move it out of the way"
            ) from error


def text_change(path: str, after: str | None, mode: int = 0o644) -> TextChange | None:
    """Return the change after which `path` holds `after` (None: is gone), None if it does already.

    A wrong mode is a change, too. Raises PodnetError when `path` is not a regular file. A file that
    is no UTF-8 text is replaced like any other; the diff shows its bad bytes as escapes.
    """
    found = _lstat(path)
    if found is None:
        if after is not None:
            return TextChange(path, None, after, None, mode)
        # A run may have died before it renamed the temporary file: then that one must go.
        left = beside(path)
        return text_change(left, None) if left and _lstat(left) else None
    _demand_regular(path, found)
    with _explained("read", path):
        before = Path(path).read_bytes().decode("utf-8", "backslashreplace")
    before_mode = stat.S_IMODE(found.st_mode)
    if after is not None and before == after and before_mode == mode:
        return None
    return TextChange(path, before, after, before_mode, mode)


def link_change(path: str, after: str | None) -> LinkChange | None:
    """Return the change after which `path` is a link to `after` (None: is gone), None if it is.

    Raises PodnetError when something that is no link is there.
    """
    found = _lstat(path)
    if found is None:
        return None if after is None else LinkChange(path, None, after)
    if not stat.S_ISLNK(found.st_mode):
        raise PodnetError(f"{path}: a file is where a link of podnet's belongs; move it away")
    with _explained("read", path):
        before = os.readlink(path)
    return None if before == after else LinkChange(path, before, after)


def beside(path: str) -> str:
    """Return the path of the temporary file for new content of `path`.

    For a path that is itself that of a temporary file, return "".
    """
    name = Path(path).name
    return "" if _BESIDE.match(name) else str(Path(path).with_name(f".{name}.podnet"))


def write_text(path: str, text: str, mode: int = 0o644) -> None:
    """Write a text file so that it is there completely or not at all, even after a crash.

    Missing directories are made and remembered (`make_directories`). Raises PodnetError.
    """
    parent = str(Path(path).parent)
    make_directories(parent)
    new = Path(beside(path))
    with alone(), _explained("write", path):
        _unlink(new)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(str(new), flags, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text.encode("utf-8"))
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            new.rename(path)
        except BaseException:
            _unlink(new)
            raise
        _sync_directory(parent)


def write_link(path: str, target: str) -> None:
    """Make or replace the symbolic link `path` so that it exists at every moment of a replacement.

    Missing directories are made and remembered. Raises PodnetError.
    """
    parent = str(Path(path).parent)
    make_directories(parent)
    new = Path(beside(path))
    with alone(), _explained("link", path):
        _unlink(new)
        try:
            new.symlink_to(target)
            new.rename(path)
        except BaseException:
            _unlink(new)
            raise
        _sync_directory(parent)


def _unlink(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def remove_file(path: str) -> None:
    """Remove a file or a link, and its temporary file (`beside`), if they are there."""
    with _explained("remove", path):
        _unlink(Path(path))
        if beside(path):
            _unlink(Path(beside(path)))


@contextlib.contextmanager
def alone(wait: float = 20.0) -> Iterator[None]:
    """Hold the host's lock for replacing files; the kernel releases it when this process dies.

    It keeps runs of different networks apart, which share directories and files. A process that
    holds it may enter again. Raises PodnetError naming the holder after `wait` seconds.
    """
    if _HELD:
        yield
        return
    handle = _lock(time.monotonic() + wait)
    _HELD.append(handle)
    try:
        yield
    finally:
        _HELD.remove(handle)
        os.close(handle)


def _lock(deadline: float) -> int:
    with _explained("lock", LOCK):
        try:
            return flock.take(Path(LOCK), f"process {os.getpid()}\n", deadline)
        except flock.Busy as busy:
            raise PodnetError(
                f"{LOCK}: another run of podnet ({busy}) is writing files on this host; "
                "wait for it to end and run again"
            ) from None


def make_directories(path: str) -> None:
    """Make `path` and what is missing above it (0755); remember what was made.

    `prune_directories` removes what was remembered. Raises PodnetError.
    """
    missing = _missing(path)
    if not missing:
        if not Path(path).is_dir():
            raise PodnetError(f"{path}: not a directory; move it out of the way")
        return
    # Remembered before they are made: a run that dies leaves no unknown directory.
    _remember(missing)
    for one in missing:
        with _explained("make", one), contextlib.suppress(FileExistsError):
            Path(one).mkdir()
            Path(one).chmod(0o755)  # whatever the umask is


def note_missing_directories(path: str) -> None:
    """Remember `path` and what is missing above it, for a program that will make them later."""
    missing = _missing(path)
    if missing:
        _remember(missing)


def prune_directories(own: Iterable[str] = ()) -> list[str]:
    """Remove the remembered directories that are empty now, deepest first; return their paths.

    `own` are further directories that are podnet's by their name. While the host has another
    network, the list of remembered directories stays as it is: that network's pods may cause a
    directory to be made again. With the last network the list goes, too, and `STATE`; a remembered
    directory that is not empty then is left to whoever uses it.
    """
    if _lstat(STATE) is None:
        return _remove_empty(own)
    with alone():
        remembered = _remembered()
        removed = _remove_empty({*remembered, *own} - {STATE})
        if not any(entry.is_dir() for entry in Path(STATE).glob("*")):
            remove_file(DIRECTORIES)
        with contextlib.suppress(OSError):
            Path(STATE).rmdir()
            removed.append(STATE)
        return removed


def _remove_empty(paths: Iterable[str]) -> list[str]:
    """Remove the directories that are empty, deepest first; return their paths."""
    removed: list[str] = []
    for one in sorted(paths, key=lambda path: (-path.count("/"), path)):
        with contextlib.suppress(OSError):
            Path(one).rmdir()
            removed.append(one)
    return removed


def diffs(changes: Iterable[Any]) -> list[dict[str, str]]:
    """Return the diffs of `changes`, in their order."""
    return [change.diff() for change in changes]


def _remembered() -> set[str]:
    return set((read_text(DIRECTORIES) or "").splitlines())


def _remember(paths: list[str]) -> None:
    # STATE and what lies in it are podnet's by their name: they need no entry.
    wanted = {one for one in paths if one != STATE and not one.startswith(STATE + "/")}
    if not wanted - _remembered():
        return
    with alone():
        write_text(DIRECTORIES, "".join(f"{one}\n" for one in sorted(_remembered() | wanted)))


def _missing(path: str) -> list[str]:
    """Return the parts of the directory `path` that do not exist, top first."""
    missing: list[str] = []
    here = Path(path)
    while _lstat(str(here)) is None and here != here.parent:
        missing.insert(0, str(here))
        here = here.parent
    return missing


def _lstat(path: str) -> os.stat_result | None:
    with _explained("read", path):
        try:
            return os.lstat(path)
        except FileNotFoundError:
            return None


def _demand_regular(path: str, found: os.stat_result) -> None:
    if stat.S_ISREG(found.st_mode):
        return
    kind = "something that is no file"
    if stat.S_ISDIR(found.st_mode):
        kind = "a directory"
    elif stat.S_ISLNK(found.st_mode):
        kind = "a symbolic link (podnet does not write through links)"
    raise PodnetError(f"{path}: {kind} is where a file of podnet's belongs; move it out of the way")


def _sync_directory(path: str) -> None:
    # The rename itself is on disk only when the directory is (fsync(2)).
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _explained(verb: str, path: str) -> Iterator[None]:
    """Turn an OSError into a PodnetError: "PATH: cannot VERB it (reason)"."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        needs = "podnet needs root rights and a file system it may write to"
        if isinstance(error, NotADirectoryError):
            needs = "move the file away that is in the place of a directory above it"
        raise PodnetError(f"{path}: cannot {verb} it ({reason}); {needs}") from error

"""Import podnet from the archive that Ansible sends, and keep on the host what was compiled.

A module comes with all that it imports as source, in a zip archive. zipimport compiles each file in
every call, and twice (`get_filename` does it, too): more than half of what a call costs. The finder
here compiles it once, and not at all where an earlier call has kept the code of the same source.
As in PEP 552, a source is known by its hash.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import shutil
import sys
import zipimport
from importlib.machinery import ModuleSpec
from importlib.util import MAGIC_NUMBER, source_hash
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

#: What podnet has in /run; a host on which it has made nothing since the last boot has no such
#: directory, and then nothing is kept.
PARENT = "/run/podnet"
DIRECTORY = f"{PARENT}/.code"  # no network has such a name


class _Finder:
    """Finds and loads the modules of a package that lies in a zip archive."""

    def __init__(self, package: str, archive: Any) -> None:
        self.package = package
        self._archive = archive
        self._sources: dict[str, tuple[str, bytes]] = {}
        self._may_read: bool | None = None
        #: File name -> code that had to be compiled.
        self.fresh: dict[str, CodeType] = {}

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> ModuleSpec | None:
        if not name.startswith(f"{self.package}."):
            return None
        inner = name.replace(".", "/")
        for file, is_package in ((f"{inner}.py", False), (f"{inner}/__init__.py", True)):
            origin = f"{self._archive.archive}/{file}"
            try:
                self._sources[name] = file, self._archive.get_data(origin)
            except OSError:
                continue
            spec = ModuleSpec(name, self, origin=origin, is_package=is_package)  # type: ignore[arg-type]
            if spec.submodule_search_locations is not None:
                spec.submodule_search_locations.append(origin.rpartition("/")[0])
            spec.has_location = True
            return spec
        return None

    def create_module(self, _spec: ModuleSpec) -> None:
        """Return None: Python makes the module."""

    def exec_module(self, module: ModuleType) -> None:
        file, source = self._sources.pop(module.__name__)
        exec(self._code(module.__name__, file, source), module.__dict__)

    def _code(self, name: str, file: str, source: bytes) -> CodeType:
        short = name[len(self.package) + 1 :]
        kept = f"{short}-{source_hash(source).hex()}-{MAGIC_NUMBER.hex()}"
        if self._may_read is None:
            self._may_read = _is_roots(Path(DIRECTORY))
        if self._may_read:
            with contextlib.suppress(OSError, EOFError, ValueError, TypeError):
                found: CodeType = marshal.loads(Path(DIRECTORY, kept).read_bytes())
                return found
        # The archive has another name in each call, so its name is no part of the code.
        code = compile(source, file, "exec", dont_inherit=True)
        self.fresh[kept] = code
        return code


def install(package: str, loader: object) -> None:
    """Find the modules of `package` here if `loader`, which has loaded it, is an archive's."""
    if isinstance(loader, zipimport.zipimporter):
        sys.meta_path.insert(0, _Finder(package, loader))


def keep(check: bool) -> None:
    """Keep what this call has compiled for later ones; not with `check`, which writes nothing."""
    finder = next((one for one in sys.meta_path if isinstance(one, _Finder)), None)
    if check or finder is None or not finder.fresh or not Path(PARENT).is_dir():
        return
    directory = Path(DIRECTORY)
    with contextlib.suppress(OSError):  # Where there is no room, the next call compiles again.
        directory.mkdir(0o700, exist_ok=True)
        if not _is_roots(directory):
            return
        modules = {name.partition("-")[0] for name in finder.fresh}
        for old in directory.iterdir():
            # Of another source, or what a call that was killed has left.
            is_old = old.name.partition("-")[0] in modules and old.name not in finder.fresh
            if is_old or old.name.startswith("."):
                old.unlink()
        for name, code in finder.fresh.items():
            new = directory / f".{name}.{os.getpid()}"
            new.write_bytes(marshal.dumps(code))
            new.replace(directory / name)
        finder.fresh = {}


def leave(parent: Path) -> None:
    """Remove `parent`, which is PARENT, with all that was kept, if nothing else is in it."""
    with contextlib.suppress(OSError):
        kept = parent / Path(DIRECTORY).name
        if [*parent.iterdir()] == [kept]:
            shutil.rmtree(kept)
        parent.rmdir()


def _is_roots(directory: Path) -> bool:
    """Whether `directory` is there, and nobody but root can have written to it."""
    try:
        found = directory.lstat()
    except OSError:
        return False
    return found.st_uid == 0 and found.st_mode & 0o170022 == 0o040000

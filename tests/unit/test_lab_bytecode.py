"""A lab's hosts keep the bytecode of what they import from archives, and never a stale one."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lab import bytecode

HOOK = f"import importlib.util as u; s = u.spec_from_file_location('hook', {bytecode.__file__!r}); "
HOOK += "hook = u.module_from_spec(s); s.loader.exec_module(hook); "

#: Says in the place of the compiler what it was given.
TELL = (
    "import zipimport, sys; real = zipimport._compile_source; "
    "zipimport._compile_source = lambda path, source: (print('compiled'), real(path, source))[1]; "
)


def told(directory: Path, archive: Path, source: str) -> list[str]:
    """Import `source` from an archive in a new process that keeps bytecode; return its lines."""
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("sent.py", source)
    code = f"{TELL}{HOOK}hook.install({str(directory)!r}); sys.path.insert(0, {str(archive)!r}); "
    done = subprocess.run(
        [sys.executable, "-c", f"{code}import sent; sent.say()"],
        capture_output=True,
        text=True,
        check=False,
    )
    return (done.stdout + done.stderr).splitlines()


def test_a_source_is_compiled_once_whatever_its_archive_is_called(tmp_path: Path) -> None:
    source = "def say():\n    print('one')\n"
    assert told(tmp_path, tmp_path / "a.zip", source) == ["compiled", "one"]
    assert told(tmp_path, tmp_path / "b.zip", source) == ["one"]


def test_a_changed_source_is_compiled(tmp_path: Path) -> None:
    assert told(tmp_path, tmp_path / "a.zip", "def say():\n    print(1)\n")[-1] == "1"
    assert told(tmp_path, tmp_path / "a.zip", "def say():\n    print(2)\n") == ["compiled", "2"]


def test_a_traceback_names_the_archive_of_this_call(tmp_path: Path) -> None:
    source = "def say():\n    raise ValueError('here')\n"
    told(tmp_path, tmp_path / "a.zip", source)
    lines = told(tmp_path, tmp_path / "b.zip", source)
    assert "compiled" not in lines
    assert f'  File "{tmp_path}/b.zip/sent.py", line 2, in say' in lines


def test_without_room_it_goes_on(tmp_path: Path) -> None:
    source = "def say():\n    print('one')\n"
    lines = told(tmp_path / "missing", tmp_path / "a.zip", source)
    assert {*lines} == {"compiled", "one"}


@pytest.mark.parametrize("path", [bytecode.MODULE, bytecode.PTH])
def test_site_finds_it_on_a_host(path: str) -> None:
    assert path.startswith("usr/lib/python3/dist-packages/podnet_lab_bytecode.")

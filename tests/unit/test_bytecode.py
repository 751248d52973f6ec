"""What a call compiles is kept for the next one, and no other code is ever taken for it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from podnet.keep import bytecode

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only what root has kept is read")

ROOT = Path(__file__).resolve().parent.parent.parent / "module_utils"

_CALL = """
import sys
sys.path.insert(0, sys.argv[1])
from podnet.keep import bytecode
bytecode.PARENT = sys.argv[2]
bytecode.DIRECTORY = sys.argv[2] + "/.code"
from podnet.core import model, words
finder = next(one for one in sys.meta_path if type(one).__name__ == "_Finder")
compiled = sorted(one.partition("-")[0] for one in finder.fresh)
bytecode.keep(sys.argv[3] == "check")
print(words.SAID, model.__file__.startswith(sys.argv[1]), *compiled)
"""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return sent(tmp_path / "one.zip", "as it was")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    made = tmp_path / "run"
    made.mkdir()
    return made


def sent(path: Path, said: str) -> Path:
    """Write an archive as Ansible sends one, with a module that says something."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for one in (ROOT / "podnet").rglob("*.py"):
            file.write(one, one.relative_to(ROOT))
        file.writestr("podnet/core/words.py", f"SAID = {said!r}\n")
    return path


def call(archive: Path, state: Path, mode: str = "run") -> tuple[str, list[str]]:
    """Return what the module says, and the modules that had to be compiled."""
    argv = [sys.executable, "-c", _CALL, str(archive), str(state), mode]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    said, _mark, compiled = done.stdout.partition(" True")
    assert _mark, done.stdout
    return said, compiled.split()


def test_the_second_call_compiles_nothing(archive: Path, state: Path, tmp_path: Path) -> None:
    said, compiled = call(archive, state)
    assert said == "as it was"
    assert {"core.model", "core.words"} <= set(compiled)
    assert call(archive, state) == ("as it was", [])
    # The archive has another name in each call.
    assert call(archive.rename(tmp_path / "other.zip"), state) == ("as it was", [])
    assert (state / ".code").stat().st_mode & 0o777 == 0o700


def test_a_changed_source_is_compiled_and_replaces_the_old(
    archive: Path, state: Path, tmp_path: Path
) -> None:
    call(archive, state)
    before = {one.name for one in (state / ".code").iterdir()}
    new = sent(tmp_path / "new.zip", "as it is")
    assert call(new, state) == ("as it is", ["core.words"])
    after = {one.name for one in (state / ".code").iterdir()}
    assert len(before) == len(after)
    assert len(before - after) == 1


def test_a_check_and_a_host_without_podnet_keep_nothing(archive: Path, state: Path) -> None:
    call(archive, state, "check")
    assert list(state.iterdir()) == []
    state.rmdir()
    call(archive, state)
    assert not state.exists()


@pytest.mark.parametrize("spoil", ["garbage", "empty", "other", "writable", "link"])
def test_what_root_has_not_kept_is_not_run(archive: Path, state: Path, spoil: str) -> None:
    call(archive, state)
    kept = state / ".code"
    [file] = kept.glob("core.words-*")
    if spoil in ("garbage", "empty"):
        file.write_bytes(b"\xe3nonsense" if spoil == "garbage" else b"")
        assert call(archive, state) == ("as it was", ["core.words"])
    elif spoil == "other":
        os.chown(kept, 65534, 65534)
        assert set(call(archive, state)[1]) > {"core.model", "core.words"}
    elif spoil == "writable":
        kept.chmod(0o777)
        assert set(call(archive, state)[1]) > {"core.model", "core.words"}
    else:
        kept.rename(state / "elsewhere")
        kept.symlink_to(state / "elsewhere")
        assert set(call(archive, state)[1]) > {"core.model", "core.words"}


def test_it_goes_with_the_last_thing_that_podnet_has_in_run(archive: Path, state: Path) -> None:
    call(archive, state)
    (state / "podnet.lock").touch()
    bytecode.leave(state)
    assert (state / ".code").is_dir()
    (state / "podnet.lock").unlink()
    bytecode.leave(state)
    assert not state.exists()

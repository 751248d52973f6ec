from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from podnet.core.errors import PodnetError
from podnet.keep import files


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "STATE", str(tmp_path / "state"))
    monkeypatch.setattr(files, "DIRECTORIES", str(tmp_path / "state" / "directories"))


def test_write_change_and_remove(tmp_path: Path) -> None:
    path = str(tmp_path / "a" / "b" / "file")
    change = files.text_change(path, "one\n")
    assert change is not None
    assert change.diff() == {
        "before_header": path + " (absent)",
        "after_header": path,
        "before": "",
        "after": "one\n",
    }
    assert not (tmp_path / "a").exists()
    change.apply()
    assert files.read_text(path) == "one\n"
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o644
    assert names(tmp_path / "a" / "b") == ["file"]
    assert files.text_change(path, "one\n") is None

    Path(path).chmod(0o600)
    change = files.text_change(path, "one\n")
    assert change is not None
    assert change.diff()["before"] == "# mode 0600\none\n"
    change.apply()
    assert files.text_change(path, "one\n") is None

    gone = files.text_change(path, None)
    assert gone is not None
    gone.apply()
    gone.apply()
    assert files.text_change(path, None) is None
    assert files.prune_directories() == [
        str(tmp_path / "a" / "b"),
        str(tmp_path / "a"),
        str(tmp_path / "state"),
    ]


def test_prune_keeps_what_is_used_and_what_was_there(tmp_path: Path) -> None:
    other = Path(files.STATE) / "other"
    other.mkdir(parents=True)
    (tmp_path / "there").mkdir()
    new = tmp_path / "there" / "new"
    files.write_text(str(new / "ours"), "x")
    (new / "foreign").write_text("y")
    files.remove_file(str(new / "ours"))
    assert files.prune_directories() == []
    (new / "foreign").unlink()
    assert files.prune_directories() == [str(new)]
    assert (tmp_path / "there").is_dir()
    # The other network's pods make it anew: its reset removes it.
    new.mkdir()
    assert files.prune_directories([str(other)]) == [str(other), str(new), files.STATE]
    assert (tmp_path / "there").is_dir()


def test_the_last_network_forgets_what_others_use(tmp_path: Path) -> None:
    files.write_text(str(tmp_path / "new" / "foreign"), "x")
    assert files.prune_directories() == [files.STATE]
    assert (tmp_path / "new" / "foreign").exists()


def test_note_missing_directories(tmp_path: Path) -> None:
    later = tmp_path / "later" / "sub"
    files.note_missing_directories(str(later))
    assert not later.exists()
    later.mkdir(parents=True)
    assert str(later) in files.prune_directories()


@pytest.mark.parametrize("kind", ["directory", "link", "fifo"])
def test_odd_things_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/etc/passwd")
    else:
        os.mkfifo(path)
    for refused in (lambda: files.read_text(str(path)), lambda: files.text_change(str(path), "x")):
        with pytest.raises(PodnetError, match=f"{path}: .* move it out of the way"):
            refused()


def test_parent_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PodnetError, match="Not a directory") as caught:
        files.text_change(str(tmp_path / "file" / "x"), "x")
    assert "move the file away that is in the place of a directory" in str(caught.value)


def test_read_only_or_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def fails(path: Any, flags: int, *rest: Any) -> int:
        if flags & os.O_EXCL:
            raise OSError(30, "Read-only file system")
        return real(path, flags, *rest)

    monkeypatch.setattr(os, "open", fails)
    with pytest.raises(PodnetError, match=r"cannot write it .Read-only file system"):
        files.write_text(str(tmp_path / "x"), "x")


def test_failure_leaves_the_old_file_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_text("old")

    def fails(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(PodnetError, match="No space left"):
        files.write_text(str(path), "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x"]


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(PodnetError, match="not a text file"):
        files.read_text(str(path))
    change = files.text_change(str(path), "new")
    assert change is not None
    assert change.before == "\\xff\\xfe"


def test_links(tmp_path: Path) -> None:
    path = str(tmp_path / "bin" / "bridge")
    for target in ("/one", "/two"):
        change = files.link_change(path, target)
        assert change is not None
        change.apply()
        assert str(Path(path).readlink()) == target
        assert files.link_change(path, target) is None
    gone = files.link_change(path, None)
    assert gone is not None
    assert gone.diff()["before"] == f"{path} -> /two\n"
    gone.apply()
    assert files.link_change(path, None) is None
    (tmp_path / "bin" / "bridge").write_text("real")
    with pytest.raises(PodnetError, match="a file is where a link"):
        files.link_change(path, "/one")


def test_tree_removal(tmp_path: Path) -> None:
    assert files.tree_removal(str(tmp_path / "none")) is None
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    change = files.tree_removal(str(tmp_path / "tree"))
    assert change is not None
    assert change.entries == ("sub",)
    change.apply()
    assert not (tmp_path / "tree").exists()


def test_directories_are_open_whatever_the_umask_is_and_locks_are_not(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        files.write_text(str(tmp_path / "a" / "b"), "x")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a", tmp_path / "a" / "b")]
    assert modes == [0o755, 0o644]
    # Whoever may open a lock file can hold it, and keep podnet out.
    assert stat.S_IMODE(Path(files.LOCK).stat().st_mode) == 0o600


def test_only_one_run_writes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with files.alone():
        files.write_text(str(tmp_path / "x"), "from within")
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(files, "_HELD", [])  # as another process sees it
            with pytest.raises(
                PodnetError, match=r"another run of podnet \(process [0-9]+\) is writing"
            ):
                files.alone(0.1).__enter__()


def test_what_a_dead_run_left_is_taken_away(tmp_path: Path) -> None:
    left = Path(files.beside(str(tmp_path / "x")))
    left.write_text("half a fi")
    gone = files.text_change(str(tmp_path / "x"), None)
    assert gone is not None
    gone.apply()
    assert names(tmp_path) == []
    left.write_text("half a fi")
    files.write_text(str(tmp_path / "x"), "whole")
    assert names(tmp_path) == ["x"]

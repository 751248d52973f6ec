"""The allocations file on disk: whole or untouched, one writer at a time."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from podnet.core.errors import PodnetError
from podnet.plan import allocations_store as store
from podnet.plan.allocations_file import parse
from podnet.plan.plan_run import run


def hosts(directory: Path, *names: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "ansible_host": f"192.0.2.{int(name.strip('nm'))}",
            "inventory_dir": str(directory),
        }
        for name in names
    ]


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "podnet_allocations.yml"


def test_preview_writes_nothing(tmp_path: Path) -> None:
    result = run(hosts(tmp_path, "n1"), write=False)
    assert result["changed"]
    assert "n1: {subnet: 10.244.0.0/24}" in result["diff"]["after"]
    assert list(tmp_path.iterdir()) == []


def test_unchanged_is_not_rewritten(tmp_path: Path, record: Path) -> None:
    run(hosts(tmp_path, "n1"))
    before = record.stat()
    assert not run(hosts(tmp_path, "n1"))["changed"]
    assert record.stat() == before


def test_comments_of_people_stay_while_nothing_changes(tmp_path: Path, record: Path) -> None:
    run(hosts(tmp_path, "n1"))
    record.write_text(record.read_text() + "      # rack 4\n")
    assert not run(hosts(tmp_path, "n1"))["changed"]
    assert "rack 4" in record.read_text()


def test_one_node_more_is_one_line_more_and_another_generation(
    tmp_path: Path, record: Path
) -> None:
    run(hosts(tmp_path, "n1", "n3"))
    before = record.read_text().splitlines()
    run(hosts(tmp_path, "n2", "n1", "n3"))
    after = record.read_text().splitlines()
    changed = [line.partition(":")[0].strip() for line in after if line not in before]
    assert changed == ["generation", "digest", "n2"]
    assert "      n2: {subnet: 10.244.2.0/24}" in after
    assert len(after) == len(before) + 1


def test_mode_stays_and_a_new_file_follows_the_umask(tmp_path: Path, record: Path) -> None:
    mask = os.umask(0o027)
    try:
        run(hosts(tmp_path, "n1"))
    finally:
        os.umask(mask)
    assert stat.S_IMODE(record.stat().st_mode) == 0o640
    record.chmod(0o604)
    run(hosts(tmp_path, "n1", "n2"))
    assert stat.S_IMODE(record.stat().st_mode) == 0o604


def test_a_link_stays_a_link(tmp_path: Path, record: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    record.symlink_to(elsewhere / "record.yml")
    run(hosts(tmp_path, "n1"))
    assert record.is_symlink()
    assert [path.name for path in elsewhere.iterdir()] == ["record.yml"]
    assert not run(hosts(tmp_path, "n1"))["changed"]


def test_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(PodnetError, match=r"its directory .*/no does not exist"):
        run(hosts(tmp_path / "no", "n1"))


def test_a_directory_in_its_place(tmp_path: Path, record: Path) -> None:
    record.mkdir()
    with pytest.raises(PodnetError, match="not an allocations file"):
        run(hosts(tmp_path, "n1"))


def test_not_utf8(tmp_path: Path, record: Path) -> None:
    record.write_bytes(b"\xff\xfe")
    with pytest.raises(PodnetError, match="not UTF-8"):
        run(hosts(tmp_path, "n1"))
    assert record.read_bytes() == b"\xff\xfe"


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(hosts(tmp_path, "n1"))
    before = record.read_text()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PodnetError, match="cannot write it: No space left on device"):
        run(hosts(tmp_path, "n1", "n2"))
    assert record.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == [record.name]


def test_who_holds_it(tmp_path: Path, record: Path) -> None:
    with (
        store.locked(str(record)),
        pytest.raises(PodnetError, match=rf"another run holds it \(process {os.getpid()} of "),
    ):
        run(hosts(tmp_path, "n1"), wait=0.2)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_write_needs_no_lock(tmp_path: Path, record: Path) -> None:
    run(hosts(tmp_path, "n1"))
    with store.locked(str(record)):
        assert not run(hosts(tmp_path, "n1"), wait=0)["changed"]


def test_a_lock_file_left_by_a_dead_run_holds_nobody(tmp_path: Path, record: Path) -> None:
    (tmp_path / f".{record.name}.lock").write_text("process 1 of root on nowhere")
    assert run(hosts(tmp_path, "n1"), wait=0)["changed"]
    assert [path.name for path in tmp_path.iterdir()] == [record.name]


def test_a_link_as_lock_file_is_refused(tmp_path: Path, record: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f".{record.name}.lock").symlink_to(victim)
    with pytest.raises(PodnetError, match="cannot lock it"):
        run(hosts(tmp_path, "n1"))
    assert victim.read_text() == "precious"


def test_what_another_run_carved_meanwhile_counts(
    tmp_path: Path, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = store.load
    looks: list[int] = []

    def racing(path: str) -> str | None:
        text = load(path)
        if not looks:
            looks.append(1)
            run(hosts(tmp_path, "n9"))
        return text

    monkeypatch.setattr(store, "load", racing)
    result = run(hosts(tmp_path, "n1"))
    assert '"subnet":"10.244.1.0/24"' in result["document"]
    assert set(parse(record.read_text(), "x").nodes) == {"n1", "n9"}


def _add(directory: Path, name: str) -> None:
    run(hosts(directory, name))


def test_many_runs_at_once(tmp_path: Path, record: Path) -> None:
    context = multiprocessing.get_context("fork")
    names = [f"n{number}" for number in range(1, 13)]
    workers = [context.Process(target=_add, args=(tmp_path, name)) for name in names]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * len(workers)
    nodes = parse(record.read_text(), "x").nodes
    assert set(nodes) == set(names)
    assert len(set(nodes.values())) == len(names)
    assert [path.name for path in tmp_path.iterdir()] == [record.name]


def test_the_lock_is_a_flock(record: Path) -> None:
    """So it ends with the process, however that ends."""
    lock = record.parent / f".{record.name}.lock"
    with store.locked(str(record)), lock.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_inventories_in_several_places(tmp_path: Path) -> None:
    two = hosts(tmp_path, "n1") + hosts(tmp_path / "other", "n2")
    with pytest.raises(PodnetError, match="podnet_allocations_file: not set, and the hosts come"):
        run(two)
    none = [{"name": "192.0.2.1"}]
    with pytest.raises(PodnetError, match="the inventory has no directory"):
        run(none)
    named = str(tmp_path / "mine.yml")
    assert run(two, named)["allocations_file"] == named
    for host in two:
        host["podnet_allocations_file"] = named
    assert run(two)["allocations_file"] == named

"""The allocations of the plan that hosts were looked at with: those are written, or none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from podnet.core.errors import PodnetError
from podnet.plan.allocations_file import parse
from podnet.plan.plan_run import keep, run

from tests.unit.test_allocations_store import hosts


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "podnet_allocations.yml"


def looked(directory: Path, *names: str) -> dict[str, Any]:
    return run(hosts(directory, *names), write=False)


def test_what_is_kept_is_the_document_s(tmp_path: Path, record: Path) -> None:
    plan = looked(tmp_path, "n1", "n2")
    preview = keep(plan["keep"], write=False)
    assert preview["changed"]
    assert not record.exists()
    kept = keep(plan["keep"])
    assert kept["diff"] == plan["diff"] == preview["diff"]
    assert record.read_text() == plan["diff"]["after"]
    assert json.loads(plan["document"])["edition"] == plan["edition"]
    assert parse(record.read_text(), "x").edition._asdict() == plan["edition"]
    again = looked(tmp_path, "n1", "n2")
    assert again["document"] == plan["document"]
    before = record.stat()
    assert keep(again["keep"]) == {"changed": False, "allocations_file": str(record)}
    assert record.stat() == before
    assert [path.name for path in tmp_path.iterdir()] == [record.name]


def _another_run(directory: Path) -> None:
    run(hosts(directory, "n1", "n9"))


def _another_id(directory: Path) -> None:
    file = directory / "podnet_allocations.yml"
    file.unlink()
    run(hosts(directory, "n2", "n1"))


def _gone(directory: Path) -> None:
    (directory / "podnet_allocations.yml").unlink()


def _edited(directory: Path) -> None:
    file = directory / "podnet_allocations.yml"
    file.write_text(file.read_text() + "# by hand\n")


def _conflict(directory: Path) -> None:
    file = directory / "podnet_allocations.yml"
    file.write_text("<<<<<<< ours\n" + file.read_text())


@pytest.mark.parametrize("names", [("n1",), ("n1", "n2")], ids=["nothing to write", "a node more"])
@pytest.mark.parametrize(
    "meanwhile",
    [_another_run, _another_id, _gone, _edited, _conflict],
    ids=lambda one: one.__name__,
)
def test_a_file_that_changed_meanwhile_is_left_alone(
    tmp_path: Path, record: Path, names: tuple[str, ...], meanwhile: Callable[[Path], None]
) -> None:
    run(hosts(tmp_path, "n1"))
    plan = looked(tmp_path, *names)
    meanwhile(tmp_path)
    before = record.read_text() if record.exists() else None
    for write in (True, False):
        with pytest.raises(PodnetError, match=r"changed since this run has read it.*run again"):
            keep(plan["keep"], write=write)
    assert (record.read_text() if record.exists() else None) == before


def test_a_file_that_came_meanwhile_is_left_alone(tmp_path: Path, record: Path) -> None:
    plan = looked(tmp_path, "n1")
    run(hosts(tmp_path, "n1"))
    before = record.read_text()
    with pytest.raises(PodnetError, match="run again"):
        keep(plan["keep"])
    assert record.read_text() == before


@pytest.mark.parametrize(
    "wrong", [{}, {"path": 1, "found": "", "text": ""}, {"path": "/x", "found": "", "text": None}]
)
def test_only_what_a_plan_returned(wrong: dict[str, Any]) -> None:
    with pytest.raises(PodnetError, match="keep: not what podnet_plan returned"):
        keep(wrong)


def test_the_first_id_is_the_network_s_own_and_the_same_in_check_and_run(tmp_path: Path) -> None:
    def first(*names: str, **extra: Any) -> str:
        given = [one | extra for one in hosts(tmp_path, *names)]
        return str(run(given, write=False)["edition"]["id"])

    others = [
        first("n1", "n2"),
        first("n1", "n3"),
        first("n2", "n1"),
        first("n1", "n2", podnet_name="blue"),
        first("n1", "n2", podnet_cluster_cidr="10.99.0.0/16"),
        first("n1"),
    ]
    assert len(set(others)) == len(others)
    assert first("n1", "n2") == others[0] == run(hosts(tmp_path, "n1", "n2"))["edition"]["id"]


def test_generations(tmp_path: Path, record: Path) -> None:
    """The counter grows with what the file says, and with nothing else."""

    def generation(*names: str, release: tuple[str, ...] = (), **extra: Any) -> int:
        given = [one | extra for one in hosts(tmp_path, *names)]
        number = run(given, release=release)["edition"]["generation"]
        assert isinstance(number, int)
        return number

    assert generation("n1", "n2") == 1
    first = parse(record.read_text(), "x").edition
    assert generation("n1", "n2") == 1
    assert generation("n1", "n2", podnet_backend="host-gw") == 1
    assert generation("n1") == 1  # n2 stays reserved
    assert generation("n1", release=("n2",)) == 2
    assert generation("n1", "n2") == 3
    assert generation("n1", "n2", podnet_cluster_cidr="10.244.0.0/15") == 4
    second = parse(record.read_text(), "x").edition
    # What says the same as before has the digest from before, with another generation.
    assert generation("n1", "n2", podnet_cluster_cidr="10.244.0.0/16") == 5
    third = parse(record.read_text(), "x").edition
    assert (first.id, first.digest) == (third.id, third.digest)
    assert second.digest != third.digest


def test_what_was_merged_or_edited_by_hand_is_another_generation(
    tmp_path: Path, record: Path
) -> None:
    run(hosts(tmp_path, "n1"))
    merged = record.read_text() + "      n7: {subnet: 10.244.7.0/24}\n"
    record.write_text(merged)
    result = run(hosts(tmp_path, "n1"))
    assert result["changed"]
    assert result["edition"]["generation"] == 2
    assert not run(hosts(tmp_path, "n1"))["changed"]


def test_a_file_from_before_editions_gets_one_with_its_next_change(
    tmp_path: Path, record: Path
) -> None:
    run(hosts(tmp_path, "n1"))
    old = "\n".join(
        line
        for line in record.read_text().split("\n")
        if line.strip().split(":")[0] not in ("id", "generation", "digest")
    )
    record.write_text(old)
    result = run(hosts(tmp_path, "n1"))
    assert not result["changed"]
    assert result["edition"]["id"] == ""
    assert "edition" not in json.loads(result["document"])
    result = run(hosts(tmp_path, "n1", "n2"))
    assert result["edition"]["generation"] == 1
    assert len(result["edition"]["id"]) == 16


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("id", '""'),
        ("id", '"../../etc/passwd"'),
        ("generation", "0"),
        ("generation", "1e3"),
        ("generation", "99999999999"),
        ("digest", '"ABCDEFABCDEFABCD"'),
        ("digest", ""),
    ],
)
def test_a_damaged_edition_is_refused(tmp_path: Path, record: Path, line: str, value: str) -> None:
    run(hosts(tmp_path, "n1"))
    text = "\n".join(
        f"    {line}: {value}" if one.startswith(f"    {line}:") else one
        for one in record.read_text().split("\n")
    )
    record.write_text(text)
    with pytest.raises(PodnetError, match="id and digest must be 16 hexadecimal digits"):
        run(hosts(tmp_path, "n1"))
    assert record.read_text() == text

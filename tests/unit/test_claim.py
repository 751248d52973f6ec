"""Which of two runs may change a host, and what is remembered of one that died."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from podnet.core import run_name
from podnet.core.errors import PodnetError
from podnet.keep import claim
from podnet.run import run_id

ONE = "1764036785.25 4711 8f14e45f ops@one"
OTHER = "1764036790.00 12 8f14e45f ops@other"


@pytest.fixture(autouse=True)
def directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(claim, "DIRECTORY", str(tmp_path / "podnet"))
    return tmp_path / "podnet"


def test_the_first_run_has_the_host_until_it_lets_go(directory: Path) -> None:
    assert claim.take("net", ONE) is None
    assert claim.take("net", ONE) is None
    held = claim.take("net", OTHER)
    assert held is not None
    assert (held.run, held.idle < 5) == (ONE, True)
    claim.renew("net", ONE, ())
    with pytest.raises(PodnetError, match=r"ops@one, process 4711, since 2025-11-25 02:13:05 UTC"):
        claim.renew("net", OTHER, ())
    claim.release("net", OTHER)
    assert claim.take("net", OTHER) is not None
    claim.release("net", ONE)
    assert claim.take("net", OTHER) is None
    assert sorted(one.name for one in directory.iterdir()) == ["net.run"]
    assert (directory / "net.run").stat().st_mode & 0o777 == 0o600


def test_a_run_that_has_ended_or_is_long_silent_is_in_nobodys_way(directory: Path) -> None:
    claim.take("net", ONE)
    claim.renew("net", OTHER, [ONE])
    held = claim.take("net", ONE)
    assert held is not None
    assert held.run == OTHER
    long_ago = time.time() - run_name.LASTS - 1
    os.utime(directory / "net.run", (long_ago, long_ago))
    claim.renew("net", ONE, ())
    (directory / "other.lock").touch()
    claim.release("net")
    assert [one.name for one in directory.iterdir()] == ["other.lock"]
    (directory / "other.lock").unlink()
    claim.take("net", ONE)
    claim.release("net")
    assert not directory.exists()


@pytest.mark.parametrize("run", ["", "x", "1.00 2 8f14e45f a@b\n", f"{ONE} more", "../../etc"])
def test_only_what_names_a_run_is_written(directory: Path, run: str) -> None:
    with pytest.raises(PodnetError, match="run: "):
        claim.take("net", run)
    with pytest.raises(PodnetError, match="run: "):
        claim.renew("net", run, ())
    assert not directory.exists()


def test_what_somebody_wrote_into_the_file_is_told_but_not_believed(directory: Path) -> None:
    directory.mkdir()
    (directory / "net.run").write_bytes(b"\xff\x00; rm -rf /\n" * 1000)
    held = claim.take("net", ONE)
    assert held is not None
    assert run_id.has_ended(held.run, held.idle)
    with pytest.raises(PodnetError, match="at work on this host: unknown"):
        claim.renew("net", ONE, ())
    claim.renew("net", ONE, [held.run])


def test_a_run_is_a_process_here_or_nobody_knows() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        run = run_id.name(process.pid)
        assert run == run_id.name(process.pid)
        assert not run_id.has_ended(run, 0)
        begun, pid, machine, who = run.split(" ")
        # Another process of that id, began at another time.
        assert run_id.has_ended(f"{float(begun) - 9:.2f} {pid} {machine} {who}", 0)
        assert not run_id.has_ended(f"{float(begun) - 9:.2f} {pid} 00000000 {who}", 0)
        assert run_id.has_ended(f"{begun} {pid} 00000000 {who}", run_name.LASTS)
        process.kill()
    assert run_id.has_ended(run, 0)
    # What a host says in its place is no run, and no error of ours.
    assert run_id.has_ended(f"when who {machine} {who}", 0)


def test_of_two_that_wait_for_each_other_the_younger_gives_up_first() -> None:
    def waits(run: str, holder: str, attempts: int) -> bool:
        foreign = holder.replace("8f14e45f", "00000000")
        seen = {"held": {"run": foreign, "idle": 1.0}, "attempts": attempts}
        return not run_id.settled(seen, run)

    assert run_name.is_older(ONE, OTHER)
    assert waits(ONE, OTHER, run_id.WAIT_YOUNGER)
    assert not waits(ONE, OTHER, run_id.WAIT_OLDER)
    assert waits(OTHER, ONE, 1)
    assert not waits(OTHER, ONE, run_id.WAIT_YOUNGER)
    assert run_id.settled({"failed": True}, ONE)
    assert run_id.settled({"held": {"run": "gone", "idle": 0.0}, "attempts": 1}, ONE)

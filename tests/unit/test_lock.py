"""The lock of a network on a host: who has it, and that it goes with the network."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest
from podnet.core import flock
from podnet.core.errors import PodnetError
from podnet.keep import lock


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(lock, "DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setattr(lock, "STATE", str(tmp_path / "etc"))
    return tmp_path


def test_it_lasts_as_long_as_the_network_is_there(places: Path) -> None:
    (places / "etc" / "net").mkdir(parents=True)
    with lock.held("net"):
        assert (places / "run" / "net.lock").stat().st_mode & 0o777 == 0o600
    assert (places / "run" / "net.lock").exists()
    (places / "etc" / "net").rmdir()
    with lock.held("net"):
        pass
    assert not (places / "run").exists()


@pytest.mark.parametrize("other", ["other.lock", "net.run", "net.rollback"])
def test_what_others_have_there_stays(places: Path, other: str) -> None:
    with lock.held("net"):
        (places / "run" / other).touch()
    assert [one.name for one in (places / "run").iterdir()] == [other]


def test_who_waited_for_one_that_went_takes_the_one_that_counts(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A waits for B, which removes the network; C comes and makes a lock of the same name."""
    opened, order = threading.Event(), []
    real = flock._open

    def announced(path: Path, mode: int) -> int:
        handle = real(path, mode)
        opened.set()
        return handle

    def wait_for_it() -> None:
        with lock.held("net"):
            order.append("A")

    waiting = threading.Thread(target=wait_for_it)
    with lock.held("net"):
        monkeypatch.setattr(flock, "_open", announced)
        waiting.start()
        assert opened.wait(10)
        lock._forget("net")
        (places / "run").mkdir()
        # C, before A has looked again at the one that it opened.
        third = real(places / "run" / "net.lock", 0o600)
        fcntl.flock(third, fcntl.LOCK_EX)
        (places / "etc" / "net").mkdir(parents=True)
    order.append("C")
    os.close(third)
    waiting.join()
    assert order == ["C", "A"]


def test_a_directory_that_goes_just_now_is_made_again(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open
    left = [3]

    def gone(path: object, *args: object, **kwargs: object) -> int:
        if left[0]:
            left[0] -= 1
            (places / "run").rmdir()
        return real(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", gone)
    with lock.held("net"):
        assert (places / "run" / "net.lock").exists()


def test_the_holder_is_named(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CLIENT", "192.0.2.9 1 22")
    with lock.held("net"), pytest.raises(PodnetError, match=r"from 192\.0\.2\.9"):
        lock.held("net", wait=0.0).__enter__()


@pytest.mark.parametrize(
    ("holder", "waited"), [(f"{lock.REPLAY} 7", True), ("process 7, from 192.0.2.1", False)]
)
def test_a_replay_is_waited_for_and_a_run_is_not(
    places: Path, monkeypatch: pytest.MonkeyPatch, holder: str, waited: bool
) -> None:
    tries: list[float] = []

    def take(_path: Path, _who: str, deadline: float) -> int:
        tries.append(deadline)
        if len(tries) < 30:
            raise flock.Busy(holder)
        return os.open("/dev/null", os.O_RDONLY)

    monkeypatch.setattr(flock, "take", take)
    if waited:
        with lock.held("net", wait=1.0):
            assert tries[-1] - tries[0] > 20
    else:
        with pytest.raises(PodnetError, match="process 7"), lock.held("net", wait=1.0):
            pass


def test_who_only_asks_waits_for_a_replay_too(places: Path) -> None:
    path = places / "run" / "net.lock"
    lock.await_replay("net")
    assert not path.exists()
    (places / "etc" / "net").mkdir(parents=True)
    with lock.held("net"):
        # A run, which may ask hosts itself.
        lock.await_replay("net")
    order = []
    handle = flock.take(path, f"{lock.REPLAY} 7", 0.0)

    def wait_for_it() -> None:
        lock.await_replay("net")
        order.append("asked")

    waiting = threading.Thread(target=wait_for_it)
    waiting.start()
    waiting.join(0.5)
    order.append("replayed")
    os.close(handle)
    waiting.join(10)
    assert order == ["replayed", "asked"]


def test_a_replay_that_does_not_end_is_told(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def take(_path: Path, _who: str, _deadline: float) -> int:
        raise flock.Busy(f"{lock.REPLAY} 7")

    monkeypatch.setattr(flock, "take", take)
    with pytest.raises(PodnetError, match="boot files are being replayed, process 7"):
        lock._take("net", 20.0)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"SSH_CLIENT": "192.0.2.9 1 22"}, ", from 192.0.2.9"),
        # sudo takes SSH's variables away, and leaves a name.
        ({"SUDO_USER": "ops"}, ", for ops"),
        ({"SSH_CLIENT": "192.0.2.9 1 22", "SUDO_USER": "ops"}, ", from 192.0.2.9"),
        ({}, ""),
    ],
)
def test_it_names_nobody_that_it_does_not_know(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], words: str
) -> None:
    for name in ("SSH_CLIENT", "SUDO_USER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with lock.held("net"):
        said = Path(lock.DIRECTORY, "net.lock").read_text()
    assert said == f"process {os.getpid()}{words}\n"

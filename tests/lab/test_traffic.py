"""The watcher itself: it sees what is broken on purpose, and nothing where nothing is broken."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.scenario.site import Site, site
from tests.traffic import Report, Traffic, TrafficError
from tests.traffic.__main__ import main
from tests.traffic.watch import _Watcher

pytestmark = pytest.mark.lab

ROUTE = "10.244.1.0/24"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site("traffic", tmp_path_factory.mktemp("inventory") / "lab") as made:
        made.set(cluster_cidr6="fd00:244::/56")
        made.site()
        yield made


def broken(three: Site, script: str, seconds: float) -> tuple[Report, float, float]:
    """Break something on n1 for so long, under traffic; return the report and from when to when."""
    with Traffic(three.lab, interval=0.005) as traffic:
        time.sleep(0.3)
        start = time.time()
        three.lab.run("n1", ["sh", "-ec", script.format(seconds=seconds)])
        end = time.time()
        time.sleep(0.7)
    return traffic.result, start, end


BLACKHOLE = (
    "was=$(ip route show " + ROUTE + "); ip route replace blackhole " + ROUTE + "; "
    "sleep {seconds}; ip route replace $was"
)


def test_a_route_broken_for_100_ms_is_seen_and_nothing_else(three: Site) -> None:
    report, start, end = broken(three, BLACKHOLE, 0.1)
    for source, target in (("n1", "n2"), ("n2", "n1")):
        for pair in report.between(source, target):
            if pair.family == 6 or pair.source.endswith("/host"):
                assert not pair.failures, report.table()
                continue
            # 20 at 5 ms, give or take what a busy machine adds.
            assert 12 <= pair.lost <= 60, report.table()
            assert start - 0.05 <= pair.lost_at[0] <= pair.lost_at[-1] <= end + 0.05
    for source, target in (("n1", "n3"), ("n3", "n1"), ("n2", "n3"), ("n3", "n2")):
        assert not any(pair.lost for pair in report.between(source, target)), report.table()


def test_a_stream_that_stands_still_is_seen(three: Site) -> None:
    report, start, _end = broken(three, BLACKHOLE, 0.4)
    (pair,) = (
        one
        for one in report.between("n1", "n2")
        if one.stream and one.family == 4 and one.source == "n1/a"
    )
    assert pair.stall > 0.35, report.table()
    assert start - 0.1 < pair.stall_at < start + 0.2
    assert not pair.resets
    assert any("stood still" in line for line in report.failures)


def test_a_connection_that_is_reset_is_seen(three: Site) -> None:
    script = (
        "nft 'table inet breaker {{ chain c {{ type filter hook forward priority -10; "
        "ip daddr " + ROUTE + " tcp dport != 0 reject with tcp reset; }}; }}'; "
        "sleep {seconds}; nft delete table inet breaker"
    )
    report, _start, _end = broken(three, script, 0.1)
    hit = {(pair.source, pair.target) for pair in report.pairs if pair.resets}
    assert ("n1/a", "n2/a") in hit, report.table()
    assert hit <= {("n1/a", "n2/a"), ("n2/a", "n1/a")}
    assert not any(pair.lost for pair in report.pairs), report.table()


def test_a_busy_machine_is_no_loss(three: Site) -> None:
    """Every processor is taken by something else, and nothing is broken."""
    with Traffic(three.lab, interval=0.005) as traffic:
        three.on_all(
            "sh", "-c", "for n in 1 2; do timeout 2 sh -c 'while :; do :; done' & done; wait"
        )
    assert not traffic.result.failures, traffic.result.table()
    pair = traffic.result.between("n1", "n2")[0]
    assert pair.sent > 500


def test_a_watcher_that_is_told_late_to_stop_is_answered(
    three: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine the others have ended long before."""
    tell = _Watcher.tell

    def late(watcher: _Watcher, line: str) -> None:
        if line == "stop" and watcher.host == "n3":
            time.sleep(0.5)
        tell(watcher, line)

    with Traffic(three.lab, interval=0.005) as traffic:
        monkeypatch.setattr(_Watcher, "tell", late)
    traffic.result.demand_none_lost("one watcher goes on")
    assert set(three.on_all("ip", "netns").values()) == {""}


def test_pods_go_with_the_watch_and_the_command_tells(
    three: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--lab", three.lab.name, "--seconds", "0.5"]) == 0
    assert "No ping lost" in capsys.readouterr().out
    assert main(["--lab", three.lab.name, "true"]) == 0
    assert main(["--lab", three.lab.name, "false"]) == 1
    assert set(three.on_all("ip", "netns").values()) == {""}
    assert not any(state["ports"] for state in three.info().values())
    three.lab.run("n1", ["ip", "route", "replace", "blackhole", ROUTE])
    try:
        with pytest.raises(TrafficError, match="n1/a -> n2/a IPv4"):
            Traffic(three.lab, warm_up=1.0).start()
    finally:
        three.site()
    assert set(three.on_all("ip", "netns").values()) == {""}

"""What holds at the end of every scenario; molecule/shared/verify.yml runs it last."""

from __future__ import annotations

from tests.scenario.cluster import Cluster


def test_a_check_run_finds_nothing_to_do(cluster: Cluster) -> None:
    cluster.demand_clean()


def test_reset_returns_every_host_to_the_state_before(cluster: Cluster) -> None:
    cluster.reset()
    left = [f"{host}: {line}" for host in cluster.hosts for line in cluster.left_on(host)]
    assert not left, "\n".join(left)

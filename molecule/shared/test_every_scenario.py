"""What holds at the end of every scenario; molecule/shared/verify.yml runs it last."""

from __future__ import annotations

import json

from tests.scenario.cluster import Cluster, difference, record_file


def test_a_check_run_finds_nothing_to_do(cluster: Cluster) -> None:
    cluster.demand_clean()


def test_reset_returns_every_host_to_the_state_before(cluster: Cluster) -> None:
    cluster.reset()
    assert cluster.reset().changed_hosts == set()
    before = json.loads(record_file(cluster.lab).read_text())
    # A scenario may have added hosts, or made some anew.
    hosts = [host for host in cluster.hosts if host in before]
    left = {host: difference(before[host], cluster.snapshot(host)) for host in hosts}
    assert hosts
    assert left == {host: [] for host in hosts}

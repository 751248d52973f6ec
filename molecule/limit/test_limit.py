"""--limit: repair and growth work on the hosts that are named, a switch is refused."""

from __future__ import annotations

from tests.scenario.cluster import Cluster, difference


def test_a_repair_works_on_the_named_host_and_names_the_others(cluster: Cluster) -> None:
    good = cluster.snapshots()
    for host in ("n1", "n2"):
        cluster.on(host, "ip", "route", "delete", "10.244.2.0/24")
    bad = cluster.snapshot("n2")
    run = cluster.site("--limit", "n1")
    assert run.changed_hosts == {"n1"}
    assert "Changed 1 of 1 host" in run.message
    assert "Not in this run, so perhaps without its change: n2, n3." in run.message
    assert difference(good["n1"], cluster.snapshot("n1")) == []
    assert difference(bad, cluster.snapshot("n2")) == []
    assert cluster.site().changed_hosts == {"n2"}
    cluster.demand_equal(good, cluster.snapshots())


def test_a_switch_is_refused_and_nothing_is_changed(cluster: Cluster) -> None:
    before = cluster.snapshots()
    run = cluster.site("--limit", "n1", "-e", "podnet_backend=host-gw", ok=False)
    assert run.status != 0
    for word in ("n1 must switch", "--limit leaves out n2, n3", "podnet_force_limited"):
        assert word in run.message, run.output
    cluster.demand_equal(before, cluster.snapshots())


def test_a_forced_switch_changes_the_named_host_alone(cluster: Cluster) -> None:
    before = cluster.snapshots()
    options = ("-e", "podnet_backend=host-gw", "-e", "podnet_force_limited=true")
    assert cluster.site("--limit", "n1", *options).changed_hosts == {"n1"}
    after = cluster.snapshots()
    assert {route["dev"] for route in cluster.routes("n1").values()} == {"host0"}
    for host in ("n2", "n3"):
        assert difference(before[host], after[host]) == []
    cluster.site()
    cluster.demand_equal(before, cluster.snapshots())
    cluster.verify()


def test_a_new_host_can_be_built_alone(cluster: Cluster) -> None:
    before = cluster.snapshots()
    cluster.lab.add("n4")
    cluster.remember("n4")
    run = cluster.site("--limit", "n4")
    assert "Not in this run, so perhaps without its change: n1, n2, n3." in run.message
    assert run.changed_hosts == {"n4"}
    cluster.demand_equal(before, {host: cluster.snapshot(host) for host in before})
    assert set(cluster.routes("n4")) == {f"10.244.{number}.0/24" for number in range(3)}
    assert cluster.site().changed_hosts == {"n1", "n2", "n3"}
    cluster.verify()

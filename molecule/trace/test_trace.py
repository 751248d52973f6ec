"""trace.yml names the hop that breaks a packet, whatever somebody has broken; and nothing where
nothing is broken.
"""

from __future__ import annotations

import pytest

from tests.scenario.cluster import Cluster, Run
from tests.scenario.faults import ENDS, FAULTS, OUTSIDE, REPLAY, WEB
from tests.scenario.furnish import furnish
from tests.scenario.tracing import Tracer


@pytest.fixture(scope="module")
def tracer(cluster: Cluster) -> Tracer:
    return Tracer(cluster)


@pytest.mark.parametrize(
    ("family", "end"),
    [
        *[(family, WEB[family][host]) for family in (4, 6) for host in ("n2", "n3")],
        *OUTSIDE.items(),
        # Addresses of hosts themselves: gateways and VTEPs, and those on the underlay.
        *[(4, one) for one in ("10.244.0.1", "10.244.1.1", "10.244.1.0")],
        *[(4, one) for one in ("192.0.2.11", "192.0.2.12")],
        *[(6, one) for one in ("fd00:10:244::1", "fd00:10:244:1::1", "2001:db8:1::12")],
    ],
)
def test_nothing_breaks_on_a_healthy_network(tracer: Tracer, family: int, end: str) -> None:
    found = tracer.trace(WEB[family]["n1"], end)
    assert found["cause"] == {}, "\n".join(found["lines"])
    assert found["verdict"].startswith("Nothing breaks: "), "\n".join(found["lines"])
    notes = [hop["note"] for leg in found["legs"] for hop in leg["hops"] if "note" in hop]
    assert notes == []


@pytest.mark.parametrize("name", FAULTS)
def test_the_first_hop_that_breaks_it_is_named(cluster: Cluster, tracer: Tracer, name: str) -> None:
    fault = FAULTS[name]
    cluster.on(fault.host, "sh", "-ec", fault.command)
    try:
        end = ENDS.get(fault.end) or WEB[fault.family][fault.end]
        found = tracer.trace(WEB[fault.family]["n1"], end)
    finally:
        cluster.on(fault.host, "sh", "-ec", fault.mend.format(replay=REPLAY))
    text = "\n".join(found["lines"])
    cause = found["cause"]
    assert cause, text
    assert (cause["host"], cause["key"]) == (fault.where, fault.key), text
    assert fault.words in cause["fault"], text
    assert cause["mend"] or "Set " in cause["fault"], text
    assert found["broken"]
    if fault.key == "reverse path":
        assert any("TcpExtIPReversePathFilter" in line for line in found["lines"]), text


def test_all_is_as_it_was(cluster: Cluster) -> None:
    for host in cluster.hosts:
        for family in ("ip", "ip6"):
            # Made by iptables when it was first called.
            cluster.on(host, "nft", "delete", "table", family, "filter", ok=False)
    # Its link was down, and took routes of others along.
    cluster.lab.reboot("n2")
    furnish(cluster.lab, "n2")
    cluster.verify()
    cluster.demand_clean()


def play(cluster: Cluster, begin: str, end: str, *more: str, ok: bool = True) -> Run:
    return cluster.play(
        "trace.yml", "-e", f"podnet_from={begin}", "-e", f"podnet_to={end}", *more, ok=ok
    )


def test_the_playbook_changes_nothing_and_asks_nobody_else(cluster: Cluster) -> None:
    before = cluster.snapshots()
    run = play(cluster, "n1", "10.244.1.254")
    assert "Nothing breaks: 10.244.0.254 reaches 10.244.1.254" in run.message
    assert run.changed_hosts == set()
    assert set(run.changed) == {"n1", "n2"}
    cluster.demand_equal(before, cluster.snapshots())


def test_ends_may_be_namespaces_and_share_a_host(cluster: Cluster) -> None:
    run = play(cluster, "n1/web", "10.244.0.1", "--check")
    assert "Nothing breaks: 10.244.0.254 reaches 10.244.0.1" in run.message


@pytest.mark.parametrize(
    ("begin", "end", "more", "words"),
    [
        ("", "n2", (), "podnet_from: missing"),
        ("n1", "10.244.99.7", (), "10.244.99.7 is free: it is in 10.244.0.0/16"),
        ("n1/none", "n2", (), "no network namespace 'none' on the host"),
        ("n1", "10.244.1.77", (), "no pod of n2 has 10.244.1.77"),
        ("n1", "10.244.1.254", ("--limit", "n1,n3"), "n2 is on the way and not in this run"),
        ("n1", "10.244.1.254", ("--limit", "n3"), "--limit leaves out n1 and n2"),
    ],
)
def test_what_cannot_be_traced_is_told(
    cluster: Cluster, begin: str, end: str, more: tuple[str, ...], words: str
) -> None:
    run = play(cluster, begin, end, *more, ok=False)
    assert run.status != 0
    assert words in run.message, run.output


def test_a_node_that_is_off_is_named(cluster: Cluster) -> None:
    cluster.lab.power_cut("n3")
    try:
        run = play(cluster, "n1", "10.244.2.254", ok=False)
    finally:
        cluster.lab.start("n3")
        furnish(cluster.lab, "n3")
    assert run.status != 0
    assert "It breaks on n1, on the way there, at underlay: " in run.message, run.output

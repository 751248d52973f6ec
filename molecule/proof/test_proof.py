"""A switch over an underlay that drops pods' packets is refused before a packet is lost; verify.yml
names what does not pass, and takes nobody's silence to ping for a fault.
"""

from __future__ import annotations

import contextlib
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenario.cluster import Cluster
from tests.scenario.furnish import furnish
from tests.traffic import Traffic

_UNDER = (
    "table netdev under {{ chain c {{ type filter hook ingress device host0 priority -500; "
    "{} drop; }}; }}"
)
_CLOSED = (
    "table inet closed { chain input { type filter hook input priority 0; policy drop; "
    "iif lo accept; tcp dport 22 accept; udp dport 8472 accept; meta l4proto ipv6-icmp accept; }; }"
)
#: What came through the underlay and is broken inside, as a NIC that spoils checksums leaves it.
_NO_TCP_INSIDE = (
    "table inet bug { chain c { type filter hook input priority 0; "
    "udp dport 8472 @th,312,8 6 drop; }; }"
)
_PING = "net.ipv4.icmp_echo_ignore_all"


@contextlib.contextmanager
def ruled(cluster: Cluster, ruleset: str, hosts: tuple[str, ...]) -> Iterator[None]:
    """Give hosts a ruleset for the time of a with block."""
    family, name = ruleset.split()[1:3]
    for host in hosts:
        cluster.on(host, "nft", ruleset)
    try:
        yield
    finally:
        for host in hosts:
            cluster.on(host, "nft", "delete", "table", family, name)


@contextlib.contextmanager
def no_ping(cluster: Cluster) -> Iterator[None]:
    """Let no host answer ping for the time of a with block."""
    for host in cluster.hosts:
        cluster.on(host, "sysctl", "-qw", f"{_PING}=1")
    try:
        yield
    finally:
        for host in cluster.hosts:
            cluster.on(host, "sysctl", "-qw", f"{_PING}=0")


def test_tcp_that_is_broken_inside_vxlan_is_named(cluster: Cluster) -> None:
    # The first: host-local makes its directories for the first pod, and they stay.
    with ruled(cluster, _NO_TCP_INSIDE, ("n2",)):
        run = cluster.verify(ok=False)
    assert run.status != 0
    told = run.message.partition("not proven")[2]
    fault = "(pod IPv4, host IPv4): TCP: no reply; UDP and ICMP pass"
    assert f"n2 <-> every other host {fault}" in told
    assert "n1 -> n3" not in told
    # What it may be besides a firewall, and the variable that keeps the cure.
    assert "ethtool -K flannel.1 tx-checksum-ip-generic off" in told
    assert "podnet_vxlan_tx_checksum: off" in told


def test_a_few_pairs_are_asked_where_there_are_many_hosts(cluster: Cluster) -> None:
    run = cluster.verify("-e", "podnet_probe_pairs=1")
    assert "3 of 6 ways between hosts were asked (podnet_probe_pairs)" in run.message
    cluster.verify("-e", "podnet_probe_pairs=ring")
    run = cluster.verify("-e", "podnet_probe_pairs=some", ok=False)
    assert "podnet_probe_pairs" in run.message
    assert "must be all, ring, or a number of hosts" in run.message


def test_a_way_that_loses_packets_is_slow(cluster: Cluster, tmp_path: Path) -> None:
    # Every third of each sender's packets that are segments in one (GSO), as only a bulk's are.
    nth = "ip saddr 192.0.2.{} meta length > 3000 numgen inc mod 3 == 0"
    lossy = _UNDER.format(f"{nth.format(11)} drop; {nth.format(12)}")
    with ruled(cluster, lossy, ("n3",)):
        run = cluster.verify("-e", f"podnet_report_dir={tmp_path}/results", ok=False)
    told = run.message.partition("not proven")[2]
    # Two lines, or one where both say the same.
    assert "n2 -> n3 (pod IPv4): " in told or "n3 <- every other host (pod IPv4): " in told
    assert "segments again: packets are lost" in told
    assert "n1 -> n2" not in told
    # Machines read the same.
    found = json.loads((tmp_path / "results/podnet-verify.json").read_text())
    assert {one["word"] for one in found["results"]} == {"ok", "slow"}
    slow = {(one["from"], one["to"]) for one in found["results"] if one["word"] == "slow"}
    assert slow == {("n1", "n3"), ("n2", "n3")}
    cases = ET.parse(tmp_path / "results/podnet-verify.xml").getroot().iter("testcase")
    assert len([*cases]) == len(found["results"])
    shown = (tmp_path / "results/podnet-verify.prom").read_text()
    assert 'podnet_verify_ok{network="podnet"} 0' in shown
    cluster.verify("-e", f"podnet_report_dir={tmp_path}/results")
    assert json.loads((tmp_path / "results/podnet-verify.json").read_text())["ok"] is True


def test_silence_to_ping_and_closed_hosts_are_no_fault(cluster: Cluster) -> None:
    """Pods' packets pass no input chain of a host's."""
    before = cluster.snapshots()
    with no_ping(cluster), ruled(cluster, _CLOSED, ("n2",)):
        run = cluster.verify()
    assert "gateway 10.244.0.1: its MAC is known and it does not answer ping" in run.message
    assert "host -> n1, n3: " in run.message
    assert "while pods get answers over the same way" in run.message
    cluster.demand_equal(before, cluster.snapshots())


def feature(cluster: Cluster, host: str) -> str:
    shown = cluster.on(host, "ethtool", "-k", "flannel.1")
    [line] = [one for one in shown.splitlines() if "tx-checksum-ip-generic" in one]
    return line.split()[1]


def test_checksums_are_left_to_processors_where_it_is_said(cluster: Cluster) -> None:
    off = ("-e", "podnet_vxlan_tx_checksum=off")
    assert feature(cluster, "n1") == "on"
    run = cluster.site("--check", "--diff", *off)
    assert "device flannel.1 tx-checksum-ip-generic off" in run.output
    assert feature(cluster, "n1") == "on"
    assert cluster.site(*off).changed_hosts == set(cluster.hosts)
    assert cluster.site(*off).changed_hosts == set()
    cluster.verify(*off)
    # Drift, and a boot without the controller.
    cluster.on("n2", "ethtool", "-K", "flannel.1", "tx-checksum-ip-generic", "on")
    assert cluster.site(*off).changed_hosts == {"n2"}
    cluster.lab.reboot("n3")
    cluster.on("n3", "systemctl", "is-system-running", "--wait", ok=False)
    furnish(cluster.lab, "n3")
    assert {feature(cluster, host) for host in cluster.hosts} == {"off"}
    # By itself nothing is changed back, and `on` is a word, too.
    assert feature(cluster, "n1") == "off"
    cluster.site()
    assert feature(cluster, "n1") == "off"
    assert cluster.site("-e", "podnet_vxlan_tx_checksum=on").changed_hosts == set(cluster.hosts)
    assert {feature(cluster, host) for host in cluster.hosts} == {"on"}
    cluster.site()


@pytest.mark.parametrize(
    ("dropped", "fault"),
    [
        ("ip saddr 10.244.0.0/16", "(IPv4): small and full size: no reply"),
        (
            "ip saddr 10.244.0.0/16 ip protocol { tcp, udp }",
            "(IPv4): ICMP passes, but TCP and UDP: no reply",
        ),
    ],
)
def test_a_switch_is_refused_and_nothing_is_lost(
    cluster: Cluster, dropped: str, fault: str
) -> None:
    before = cluster.snapshots()
    hosts = tuple(cluster.hosts)
    # A check of it asks nobody, and says what would change.
    assert cluster.site("--check", "-e", "podnet_backend=host-gw").changed_hosts == set(hosts)
    with Traffic(cluster.lab) as traffic:
        with no_ping(cluster), ruled(cluster, _UNDER.format(dropped), hosts):
            run = cluster.site("-e", "podnet_backend=host-gw", ok=False)
            assert run.status != 0
            assert "the new way (host-gw) is not proven" in run.message, run.output
            assert fault in run.message, run.output
            assert "podnet_force_unproven" in run.message
            for host in hosts:
                assert {one["dev"] for one in cluster.routes(host).values()} == {"flannel.1"}
                assert cluster.on(host, "ip", "netns").count("podnet-probe-") == 0
                assert "proto 112" not in cluster.on(host, "ip", "rule")
            # The way back to what is there still.
            cluster.site()
        report = traffic.report()
        # Hosts ping each other, too, for comparison, and these hosts do not answer.
        failures = [one for one in report.failures if "/host" not in one]
        assert not failures, report.table()
    cluster.demand_equal(before, cluster.snapshots())


def test_a_page_is_written_whatever_is_broken(cluster: Cluster, tmp_path: Path) -> None:
    before = cluster.snapshots()
    options = ("-e", f"podnet_report_dir={tmp_path}/results")
    run = cluster.play("report.yml", *options)
    page, data = (tmp_path / f"results/podnet-report.{suffix}" for suffix in ("html", "json"))
    assert f"The report is {page}" in run.message
    found = json.loads(data.read_text())
    assert found["ok"] is True
    assert [host["state"] for host in found["hosts"]] == ["ok"] * 3
    assert found["hosts"][0]["addresses"] == {"ipv4": {"size": 253, "used": 0, "free": 253}}
    assert "way-0" not in page.read_text()
    ET.parse(tmp_path / "results/podnet-report.svg")

    # A pair that is broken, drift, and a host that refuses SSH.
    deaf = (
        "table inet deaf { chain c { type filter hook input priority 0; "
        "ip saddr 192.0.2.11 drop; }; }"
    )
    shut = (
        "table inet shut { chain c { type filter hook input priority 0; "
        "tcp dport 22 reject with tcp reset; }; }"
    )
    cluster.on("n1", "ip", "route", "del", "10.244.2.0/24", "proto", "112")
    with ruled(cluster, deaf, ("n2",)), ruled(cluster, shut, ("n3",)):
        run = cluster.play("report.yml", *options)
    assert f"The report is {page}" in run.message
    assert "ways between hosts fail" in run.message
    found = json.loads(data.read_text())
    assert [host["state"] for host in found["hosts"]] == ["differs", "ok", "unreachable"]
    assert {(one["from"], one["to"]) for one in found["pairs"]["failures"]} >= {("n1", "n2")}
    assert list(found["pairs"]["not_probed"]) == ["n3"]
    # What a click on the pair shows.
    traced = {(one["from"], one["to"]): one["lines"] for one in found["traces"]}
    assert "table inet deaf" in "\n".join(traced["n1", "n2"])
    assert {"n1: state: ok -> differs", "n3: state: ok -> unreachable"} <= {
        *found["since"]["lines"]
    }
    text = page.read_text()
    assert "-e podnet_from=n1 -e podnet_to=n2" in text
    assert 'href="#way-0">no</a>' in text
    cluster.site()
    cluster.demand_equal(before, cluster.snapshots())

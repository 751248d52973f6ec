"""Drifts of one host: a check run reports each of them for that host alone, a run repairs all.

Many are made at once, and the check run's diff must name every one by lines that no other causes.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import pytest

from tests.scenario.cluster import Cluster, difference

CONFLIST = "/etc/cni/net.d/10-podnet.conflist"
VXLAN = "ip link add flannel.1 address 02:00:0a:f4:01:00 type vxlan id 1 local 192.0.2.12"
LINK = "link flannel.1 type vxlan"
CHAIN = "table inet podnet chain postrouting"
UNIT = "/etc/systemd/system/multi-user.target.wants/podnet@podnet.service"


class Drift(NamedTuple):
    """A command on the host, and how lines of the check run's diff begin that tell of it."""

    command: str
    lines: tuple[str, ...]


#: What happens to n2, whose peers are n1 (10.244.0.0) and n3 (10.244.2.0). Those that take others
#: along stand apart, as do those of one and the same thing.
DRIFTS: dict[str, dict[str, Drift]] = {
    "entries": {
        "a route is missing": Drift(
            "ip route delete 10.244.2.0/24", ("+route 10.244.2.0/24 via 10.244.2.0",)
        ),
        "a route is wrong": Drift(
            "ip route replace 10.244.0.0/24 via 192.0.2.1",
            ("-route 10.244.0.0/24 via 192.0.2.1", "+route 10.244.0.0/24 via 10.244.0.0"),
        ),
        "a neighbour is missing": Drift(
            "ip neighbour delete 10.244.2.0 dev flannel.1", ("+neigh 10.244.2.0",)
        ),
        "a neighbour is wrong": Drift(
            "ip neighbour replace 10.244.0.0 lladdr 02:00:00:00:00:09 dev flannel.1 nud permanent",
            ("-neigh 10.244.0.0 dev flannel.1 lladdr 02:00:00:00:00:09", "+neigh 10.244.0.0"),
        ),
        "an FDB entry is missing": Drift(
            "bridge fdb delete 02:00:0a:f4:02:00 dev flannel.1 self", ("+fdb 02:00:0a:f4:02:00",)
        ),
        "an FDB entry is wrong": Drift(
            "bridge fdb replace 02:00:0a:f4:00:00 dev flannel.1 dst 192.0.2.77 self permanent",
            ("-fdb 02:00:0a:f4:00:00 dev flannel.1 dst 192.0.2.77", "+fdb 02:00:0a:f4:00:00"),
        ),
        "a stale peer": Drift(
            "ip route add 10.244.9.0/24 via 10.244.9.0 dev flannel.1 onlink proto 112; "
            "ip neighbour add 10.244.9.0 lladdr 02:00:0a:f4:09:00 dev flannel.1 nud permanent; "
            "bridge fdb add 02:00:0a:f4:09:00 dev flannel.1 dst 192.0.2.99 self permanent",
            ("-route 10.244.9.0/24", "-neigh 10.244.9.0", "-fdb 02:00:0a:f4:09:00"),
        ),
        "the device's MTU is wrong": Drift(
            "ip link set flannel.1 mtu 1300", (f"-{LINK} mtu 1300", f"+{LINK} mtu 1450")
        ),
        "the bridge's MTU is wrong": Drift(
            "ip link set cni0 mtu 1300", ("-link cni0 mtu 1300", "+link cni0 mtu 1450")
        ),
        "the bridge does not forward": Drift(
            "sysctl -qw net.ipv4.conf.cni0.forwarding=0",
            ("+sysctl net.ipv4.conf.cni0.forwarding = 1",),
        ),
        "the underlay does not forward": Drift(
            "sysctl -qw net.ipv4.conf.host0.forwarding=0",
            ("+sysctl net.ipv4.conf.host0.forwarding = 1",),
        ),
        "the VXLAN device does not forward": Drift(
            "sysctl -qw net.ipv4.conf.flannel/1.forwarding=0",
            ("+sysctl net.ipv4.conf.flannel/1.forwarding = 1",),
        ),
        "the masquerade is missing": Drift(
            "nft delete table inet podnet", (f"+{CHAIN} {{ type nat",)
        ),
        "the CNI file is changed": Drift(
            f"sed -i s/10.244.1.0/10.244.7.0/ {CONFLIST}",
            (
                '-              "subnet": "10.244.7.0/24"',
                '+              "subnet": "10.244.1.0/24"',
            ),
        ),
        "the boot files are gone": Drift(
            "rm -r /etc/podnet/podnet/boot*", ("+file devices.batch", "+file routes.batch")
        ),
        "the unit is disabled": Drift(
            "systemctl disable podnet@podnet.service", (f"+file {UNIT}",)
        ),
    },
    "what takes entries along": {
        "forwarding is off": Drift(
            "sysctl -qw net.ipv4.ip_forward=0", ("+sysctl net.ipv4.ip_forward = 1",)
        ),
        "the device's MAC is wrong": Drift(
            "ip link set flannel.1 address 02:00:00:00:00:09",
            (f"-{LINK} mtu 1450 address 02:00:00:00:00:09",),
        ),
        "the device's address is missing": Drift(
            "ip address delete 10.244.1.0/32 dev flannel.1", ("+addr 10.244.1.0/32 dev flannel.1",)
        ),
        "the bridge is without address": Drift(
            "ip address delete 10.244.1.1/24 dev cni0", ("+addr 10.244.1.1/24 dev cni0",)
        ),
        "a rule of the masquerade is missing": Drift(
            "nft flush chain inet podnet postrouting",
            (f"+{CHAIN} ip saddr 10.244.1.0/24 ip daddr != 224.0.0.0/4 masquerade",),
        ),
        "a node is missing in the guard": Drift(
            "nft delete element inet podnet nodes4 { 192.0.2.11 }",
            ("+table inet podnet set nodes4 element 192.0.2.11",),
        ),
        "the guard lets somebody in": Drift(
            "nft add element inet podnet nodes4 { 192.0.2.99 }",
            ("-table inet podnet set nodes4 element 192.0.2.99",),
        ),
        "the CNI file is gone": Drift(f"rm {CONFLIST}", (f"--- before: {CONFLIST} (absent)",)),
    },
    "devices that are down": {
        "the device's address is wrong": Drift(
            "ip address delete 10.244.1.0/32 dev flannel.1; "
            "ip address add 10.244.9.9/32 dev flannel.1",
            ("-addr 10.244.9.9/32 dev flannel.1", "+addr 10.244.1.0/32 dev flannel.1"),
        ),
        "the device is down": Drift(
            "ip link set flannel.1 down",
            (
                f"-{LINK} mtu 1450 address 02:00:0a:f4:01:00 id 1 dstport 8472 local 192.0.2.12 "
                "nolearning alias podnet:podnet down",
            ),
        ),
        "the bridge is down": Drift(
            "ip link set cni0 down",
            ("-link cni0 type bridge mtu 1450 address 0a:00:0a:f4:01:00 alias podnet:podnet down",),
        ),
        "the guard has no rules": Drift(
            "nft flush chain inet podnet guard",
            ("+table inet podnet chain guard udp dport 8472 iifname",),
        ),
        "a rule of the masquerade is edited": Drift(
            "nft list table inet podnet | "
            "sed '1i delete table inet podnet' | sed s,10.244.0.0/16,10.244.1.0/24, | nft -f -",
            (f"-{CHAIN} ip saddr 10.244.1.0/24 ip daddr 10.244.1.0/24 return",),
        ),
    },
    "no devices": {
        "the device is missing": Drift("ip link delete flannel.1", (f"+{LINK}",)),
        "the bridge is missing": Drift("ip link delete cni0", ("+link cni0 type bridge",)),
    },
    "another port": {
        "the device's port is wrong": Drift(
            f"ip link delete flannel.1; {VXLAN} dstport 4789 nolearning",
            (
                f"-{LINK} mtu 1500 address 02:00:0a:f4:01:00 id 1 dstport 4789",
                f"+{LINK} mtu 1450 address 02:00:0a:f4:01:00 id 1 dstport 8472",
            ),
        ),
    },
    "learning": {
        "the device learns": Drift(
            f"ip link delete flannel.1; {VXLAN} dstport 8472",
            (
                f"-{LINK} mtu 1500 address 02:00:0a:f4:01:00 id 1 dstport 8472 local 192.0.2.12 "
                "learning",
            ),
        ),
    },
}


@pytest.mark.parametrize("group", DRIFTS)
def test_a_check_run_reports_each_and_a_run_repairs_all(cluster: Cluster, group: str) -> None:
    good = bad = cluster.snapshot("n2")
    for name, drift in DRIFTS[group].items():
        before = bad
        cluster.on("n2", "sh", "-ec", drift.command)
        bad = cluster.snapshot("n2")
        assert difference(before, bad), f"{name}: the drift is none"
    check = cluster.check()
    assert check.changed_hosts == {"n2"}
    shown = check.output.splitlines()
    for name, drift in DRIFTS[group].items():
        for begin in drift.lines:
            assert any(line.startswith(begin) for line in shown), f"{name}: {check.output}"
    assert difference(bad, cluster.snapshot("n2")) == [], "the check run changed something"
    assert cluster.site().changed_hosts == {"n2"}
    assert difference(good, cluster.snapshot("n2")) == []


def test_pods_reach_each_other_after_all_repairs(cluster: Cluster) -> None:
    cluster.demand_clean()
    cluster.verify()


def test_hosts_tell_prometheus_without_a_controller(cluster: Cluster) -> None:
    health = ("-e", "podnet_health_interval=1s", "-e", "podnet_health_dir=/var/lib/metrics/own")
    assert cluster.site(*health).changed_hosts == set(cluster.hosts)
    assert cluster.site(*health).changed_hosts == set()
    file = "/var/lib/metrics/own/podnet-podnet.prom"

    def told(host: str, *lines: str) -> None:
        wanted = [
            f'podnet_host_{one[0]}{{network="podnet"}} {one[1]}' for one in map(str.split, lines)
        ]
        deadline = time.monotonic() + 30
        while not set(wanted) <= set(cluster.on(host, "cat", file, ok=False).splitlines()):
            assert time.monotonic() < deadline, cluster.on(host, "cat", file, ok=False)
            time.sleep(0.3)

    for host in cluster.hosts:
        told(host, "complete 1", "drift_lines 0", "rollback_armed 0")
    cluster.on("n2", "ip", "route", "del", "10.244.0.0/24")
    told("n2", "complete 0", "drift_lines 1")
    cluster.site(*health)
    told("n2", "complete 1", "drift_lines 0")
    # Another directory, and nothing at all.
    elsewhere = ("-e", "podnet_health_interval=1s", "-e", "podnet_health_dir=/var/lib/metrics/else")
    cluster.site(*elsewhere)
    assert cluster.on("n1", "find", "/var/lib/metrics", "-name", "*.prom").split() == [
        "/var/lib/metrics/else/podnet-podnet.prom"
    ]
    cluster.site()
    # The directories go with the network.
    where = ("find", "/var/lib", "/etc/systemd", "/run/podnet")
    left = (*where, "-name", "*health@*", "-o", "-name", "*.prom", "-o", "-name", "*.left")
    assert not cluster.on("n1", *left)

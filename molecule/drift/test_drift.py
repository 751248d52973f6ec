"""Every drift on one host: a check run reports it for that host alone, a run repairs it."""

from __future__ import annotations

import pytest

from tests.scenario.cluster import Cluster, difference

CONFLIST = "/etc/cni/net.d/10-podnet.conflist"
VXLAN = "ip link add flannel.1 type vxlan id 1 local 192.0.2.12"

#: What happens to n2, whose peers are n1 (10.244.0.0) and n3 (10.244.2.0).
DRIFTS = {
    "a route is missing": "ip route delete 10.244.2.0/24",
    "a route is wrong": "ip route replace 10.244.2.0/24 via 192.0.2.1",
    "a neighbour is missing": "ip neighbour delete 10.244.2.0 dev flannel.1",
    "a neighbour is wrong": "ip neighbour replace 10.244.2.0 lladdr 02:00:00:00:00:09 "
    "dev flannel.1 nud permanent",
    "an FDB entry is missing": "bridge fdb delete 02:00:0a:f4:02:00 dev flannel.1 self",
    "an FDB entry is wrong": "bridge fdb replace 02:00:0a:f4:02:00 dev flannel.1 "
    "dst 192.0.2.77 self permanent",
    "the device is missing": "ip link delete flannel.1",
    "the device is down": "ip link set flannel.1 down",
    "the device's MAC is wrong": "ip link set flannel.1 address 02:00:00:00:00:09",
    "the device's MTU is wrong": "ip link set flannel.1 mtu 1300",
    "the device's port is wrong": f"ip link delete flannel.1; {VXLAN} dstport 4789 nolearning",
    "the device learns": f"ip link delete flannel.1; {VXLAN} dstport 8472",
    "the device's address is missing": "ip address delete 10.244.1.0/32 dev flannel.1",
    "the device's address is wrong": "ip address delete 10.244.1.0/32 dev flannel.1; "
    "ip address add 10.244.9.9/32 dev flannel.1",
    "the bridge is missing": "ip link delete cni0",
    "the bridge is without address": "ip address delete 10.244.1.1/24 dev cni0",
    "the bridge is down": "ip link set cni0 down",
    "the bridge's MTU is wrong": "ip link set cni0 mtu 1300",
    "forwarding is off": "sysctl -qw net.ipv4.ip_forward=0",
    "the bridge does not forward": "sysctl -qw net.ipv4.conf.cni0.forwarding=0",
    "the underlay does not forward": "sysctl -qw net.ipv4.conf.host0.forwarding=0",
    "the VXLAN device does not forward": "sysctl -qw net.ipv4.conf.flannel/1.forwarding=0",
    "a stale peer": "ip route add 10.244.9.0/24 via 10.244.9.0 dev flannel.1 onlink proto 112; "
    "ip neighbour add 10.244.9.0 lladdr 02:00:0a:f4:09:00 dev flannel.1 nud permanent; "
    "bridge fdb add 02:00:0a:f4:09:00 dev flannel.1 dst 192.0.2.99 self permanent",
    "the masquerade is missing": "nft delete table inet podnet",
    "a rule of the masquerade is missing": "nft flush chain inet podnet postrouting",
    "a rule of the masquerade is edited": "nft list table inet podnet | "
    "sed '1i delete table inet podnet' | sed s,10.244.0.0/16,10.244.1.0/24, | nft -f -",
    "the CNI file is changed": f"sed -i s/10.244.1.0/10.244.7.0/ {CONFLIST}",
    "the CNI file is gone": f"rm {CONFLIST}",
    "the boot files are gone": "rm -r /etc/podnet/podnet/boot*",
    "the unit is disabled": "systemctl disable podnet@podnet.service",
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_a_check_run_reports_it_and_a_run_repairs_it(cluster: Cluster, drift: str) -> None:
    good = cluster.snapshot("n2")
    cluster.on("n2", "sh", "-ec", DRIFTS[drift])
    bad = cluster.snapshot("n2")
    assert difference(good, bad), "the drift is none"
    assert cluster.check().changed_hosts == {"n2"}
    assert difference(bad, cluster.snapshot("n2")) == [], "the check run changed something"
    assert cluster.site().changed_hosts == {"n2"}
    assert difference(good, cluster.snapshot("n2")) == []


def test_pods_reach_each_other_after_all_repairs(cluster: Cluster) -> None:
    cluster.demand_clean()
    cluster.verify()

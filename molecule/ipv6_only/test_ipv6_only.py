"""IPv6 alone, for pods and between hosts, on an underlay with an MTU of 1600."""

from __future__ import annotations

import json

from tests.scenario.cluster import Cluster


def test_vxlan_travels_over_ipv6_and_leaves_70_bytes(cluster: Cluster) -> None:
    for host in cluster.hosts:
        device = cluster.link(host, "flannel.1")
        assert device["data"]["local6"] == cluster.lab.hosts[host].address6
        assert device["mtu"] == cluster.link(host, "cni0")["mtu"] == 1600 - 70
        remotes = cluster.json_on(host, "bridge", "-json", "fdb", "show", "dev", "flannel.1")
        peers = [other for name, other in cluster.lab.hosts.items() if name != host]
        assert {one["dst"] for one in remotes if "dst" in one} == {p.address6 for p in peers}


def test_there_is_no_ipv4_of_ours(cluster: Cluster) -> None:
    for number, host in enumerate(cluster.hosts):
        assert cluster.routes(host) == {}
        assert len(cluster.routes(host, "-6")) == 2
        for device in ("cni0", "flannel.1"):
            shown = cluster.on(host, "ip", "-4", "address", "show", "dev", device)
            assert shown == ""
        file = cluster.on(host, "cat", "/etc/cni/net.d/10-podnet.conflist")
        ranges = json.loads(file)["plugins"][0]["ipam"]["ranges"]
        subnet = "fd00:10:244::/64" if number == 0 else f"fd00:10:244:{number}::/64"
        assert [one[0]["subnet"] for one in ranges] == [subnet]


def test_the_proof_covers_ipv6_at_the_larger_size(cluster: Cluster) -> None:
    message = cluster.verify().message
    assert "probed by ICMP, UDP and TCP over IPv6 at " in message, message
    assert "(full: 1530)" in message, message

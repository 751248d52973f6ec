"""Pods with both families over an IPv4 underlay."""

from __future__ import annotations

import json

from tests.scenario.cluster import Cluster


def test_routes_of_both_families_go_through_the_same_device(cluster: Cluster) -> None:
    for number, host in enumerate(cluster.hosts):
        peers = [other for other in range(3) if other != number]
        assert set(cluster.routes(host)) == {f"10.244.{other}.0/24" for other in peers}
        routes6 = cluster.routes(host, "-6")
        assert set(routes6) == {
            "fd00:10:244::/64" if other == 0 else f"fd00:10:244:{other}::/64" for other in peers
        }
        assert {route["dev"] for route in routes6.values()} == {"flannel.1"}
        device = cluster.link(host, "flannel.1")
        assert device["data"]["local"] == cluster.lab.hosts[host].address
        assert device["mtu"] == 1450


def test_the_proof_covers_both_families(cluster: Cluster) -> None:
    message = cluster.verify().message
    assert "IPv4 and IPv6" in message, message


def test_both_families_forward_and_are_masqueraded(cluster: Cluster) -> None:
    for host in cluster.hosts:
        for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            assert cluster.on(host, "sysctl", "-n", key) == "1\n"
        rules = cluster.on(host, "nft", "list", "table", "inet", "podnet")
        assert "10.244.0.0/16" in rules
        assert "fd00:10:244::/48" in rules


def test_a_pod_gets_an_address_of_each_family(cluster: Cluster) -> None:
    file = cluster.on("n2", "cat", "/etc/cni/net.d/10-podnet.conflist")
    ranges = json.loads(file)["plugins"][0]["ipam"]["ranges"]
    assert [one[0]["subnet"] for one in ranges] == ["10.244.1.0/24", "fd00:10:244:1::/64"]

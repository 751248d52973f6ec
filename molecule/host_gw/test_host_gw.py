"""host-gw: routes alone, no device, the underlay's MTU."""

from __future__ import annotations

from tests.scenario.cluster import Cluster


def test_routes_lead_to_the_peers_addresses(cluster: Cluster) -> None:
    for number, host in enumerate(cluster.hosts):
        assert {dst: (r["gateway"], r["dev"]) for dst, r in cluster.routes(host).items()} == {
            f"10.244.{other}.0/24": (cluster.lab.hosts[peer].address, "host0")
            for other, peer in enumerate(cluster.hosts)
            if other != number
        }


def test_there_is_no_device_and_no_smaller_mtu(cluster: Cluster) -> None:
    for host in cluster.hosts:
        assert not cluster.has_link(host, "flannel.1")
        assert cluster.link(host, "cni0")["mtu"] == 1500

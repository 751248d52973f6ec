"""Direct routing over two segments: n1 and n3 share one, n2 and n4 the other."""

from __future__ import annotations

from tests.scenario.cluster import Cluster


def test_neighbours_on_the_segment_are_routed_and_others_encapsulated(cluster: Cluster) -> None:
    hosts = cluster.lab.hosts
    numbers = {host: number for number, host in enumerate(hosts)}
    for host, one in hosts.items():
        expected = {}
        for peer, other in hosts.items():
            subnet = f"10.244.{numbers[peer]}.0"
            if peer == host:
                continue
            direct = other.segment == one.segment
            expected[f"{subnet}/24"] = (other.address, "host0") if direct else (subnet, "flannel.1")
        shown = cluster.routes(host)
        assert {dst: (r["gateway"], r["dev"]) for dst, r in shown.items()} == expected


def test_only_peers_behind_the_router_have_entries_on_the_device(cluster: Cluster) -> None:
    hosts = cluster.lab.hosts
    for host, one in hosts.items():
        shown = cluster.json_on(host, "bridge", "-json", "fdb", "show", "dev", "flannel.1")
        far = {other.address for other in hosts.values() if other.segment != one.segment}
        assert {entry["dst"] for entry in shown if "dst" in entry} == far


def test_the_plan_says_which_pairs_are_direct(cluster: Cluster) -> None:
    message = cluster.play("plan.yml").message
    assert "2 pairs of nodes are on one segment, 4 use VXLAN" in message, message


def test_without_direct_routing_all_is_encapsulated_and_back(cluster: Cluster) -> None:
    before = cluster.snapshots()
    cluster.site("-e", "podnet_direct_routing=false")
    for host in cluster.hosts:
        assert {route["dev"] for route in cluster.routes(host).values()} == {"flannel.1"}
    cluster.verify("-e", "podnet_direct_routing=false")
    cluster.site()
    after = cluster.snapshots()
    cluster.demand_equal(before, after)

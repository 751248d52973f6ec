"""CNI configurations of others in podnet's directory: podnet_cni_exclusive on real hosts.

tests/scenario/furnish.py has put one there. That reset puts it back is shown by the tests of all
scenarios.
"""

from __future__ import annotations

import json

from tests.scenario.cluster import Cluster

NET_D = "/etc/cni/net.d"

CILIUM = '{"cniVersion": "0.3.1", "name": "cilium", "type": "cilium-cni"}\n'
MULTUS = '{"name": "multus-cni-network", "type": "multus", "clusterNetwork": "10-podnet"}\n'

OURS = ["10-podnet.conflist"]
THEIRS = ["99-other.conflist"]


def files(cluster: Cluster, host: str = "n1") -> list[str]:
    return cluster.on(host, "ls", NET_D).split()


def aside(*those: str) -> list[str]:
    return [f"{one}.podnet-disabled" for one in those]


def write(cluster: Cluster, name: str, text: str) -> None:
    cluster.on("n1", "tee", f"{NET_D}/{name}", stdin=text)


def test_others_are_aside_and_one_that_comes_is_drift(cluster: Cluster) -> None:
    for host in cluster.hosts:
        assert files(cluster, host) == [*OURS, *aside(*THEIRS)]
    write(cluster, "05-cilium.conf", CILIUM)
    shown = cluster.check()
    assert shown.changed_hosts == {"n1"}
    assert f"+{NET_D}/05-cilium.conf.podnet-disabled" in shown.output
    assert files(cluster) == ["05-cilium.conf", *OURS, *aside(*THEIRS)]
    assert cluster.site().changed_hosts == {"n1"}
    assert files(cluster) == [*aside("05-cilium.conf"), *OURS, *aside(*THEIRS)]
    cluster.demand_clean()


def test_turned_off_they_are_back_and_the_one_that_wins_is_named(cluster: Cluster) -> None:
    off = ("-e", json.dumps({"podnet_cni_exclusive": False}))
    said = cluster.site(*off).message
    assert f"{NET_D}/05-cilium.conf: sorts before 10-podnet.conflist, so container runtimes" in said
    assert "network 'cilium' (cilium-cni). Not podnet's network 'podnet'. Ways out:" in said
    assert files(cluster) == ["05-cilium.conf", *OURS, *THEIRS]
    assert files(cluster, "n2") == [*OURS, *THEIRS]
    cluster.demand_clean(*off)
    cluster.site()
    assert files(cluster) == [*aside("05-cilium.conf"), *OURS, *aside(*THEIRS)]


def test_multus_stays_in_front(cluster: Cluster) -> None:
    write(cluster, "00-multus.conf", MULTUS)
    said = cluster.check()
    assert said.changed_hosts == set()
    assert "Multus" not in said.message
    write(cluster, "00-multus.conf", MULTUS.replace("10-podnet", "10-flannel"))
    assert "hands pods to 10-flannel, not to podnet's network 'podnet'" in cluster.check().message
    cluster.on("n1", "rm", f"{NET_D}/00-multus.conf")


def test_reset_gives_each_its_name_back(cluster: Cluster) -> None:
    cluster.reset()
    assert files(cluster) == ["05-cilium.conf", *THEIRS]
    cluster.on("n1", "rm", f"{NET_D}/05-cilium.conf")
    cluster.site()

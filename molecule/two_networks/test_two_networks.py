"""Two networks on the same hosts: what happens to one, the other does not notice."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenario.cluster import Cluster, Snapshot, difference

#: Words that only the first network's objects hold, in names, addresses and files.
FIRST = ("10.244.", "flannel.1", "cni0", "02:00:0a:f4:", "/podnet/podnet", "10-podnet", "podnet@p")


@pytest.fixture(scope="module")
def second(cluster: Cluster) -> Iterator[Cluster]:
    """The second network on the same hosts, built."""
    inventory = Path(__file__).parent / "second"
    shutil.copy(cluster.inventory / "hosts.yml", inventory)
    other = Cluster(cluster.lab, inventory)
    try:
        yield other
    finally:
        for name in ("hosts.yml", "podnet_allocations.yml"):
            (inventory / name).unlink(missing_ok=True)


def demand_unnoticed(before: dict[str, Snapshot], after: dict[str, Snapshot]) -> None:
    """Fail if anything of the first network changed between two snapshots."""
    for host, old in before.items():
        lines = difference(old, after[host])
        assert [line for line in lines if any(word in line for word in FIRST)] == []


def test_the_second_is_built_changed_and_repaired_unnoticed(
    cluster: Cluster, second: Cluster
) -> None:
    alone = cluster.snapshots()
    second.site()
    demand_unnoticed(alone, cluster.snapshots())
    second.demand_clean()
    cluster.demand_clean()
    second.verify()
    cluster.verify()

    good = cluster.snapshots()
    second.on("n1", "ip", "route", "delete", "10.245.1.0/24")
    second.on("n1", "nft", "delete", "table", "inet", "blue")
    assert cluster.check().changed_hosts == set()
    assert second.site().changed_hosts == {"n1"}
    cluster.demand_equal(good, cluster.snapshots())

    second.site("-e", "podnet_backend=vxlan")
    demand_unnoticed(alone, cluster.snapshots())
    for host in second.hosts:
        assert second.link(host, "flannel.2")["data"]["port"] == 8473
    second.verify("-e", "podnet_backend=vxlan")
    cluster.verify()


def test_a_packet_forced_into_the_other_network_reaches_nobody(
    cluster: Cluster, second: Cluster
) -> None:
    """Both are vxlan now. Targets are the bridges' own addresses on n2."""
    pings = {
        device: {
            address: cluster.lab.run(
                "n1", ["ping", "-n", "-c1", "-W1", "-I", device, address], check=False
            ).returncode
            == 0
            for address in ("10.244.1.1", "10.245.1.1")
        }
        for device in ("flannel.1", "flannel.2")
    }
    assert pings == {
        "flannel.1": {"10.244.1.1": True, "10.245.1.1": False},
        "flannel.2": {"10.244.1.1": False, "10.245.1.1": True},
    }


def test_the_first_is_switched_and_reset_while_the_second_works(
    cluster: Cluster, second: Cluster
) -> None:
    second.site()
    both = cluster.snapshots()
    cluster.site("-e", "podnet_backend=host-gw")
    second.demand_clean()
    second.verify()
    cluster.reset()
    second.demand_clean()
    second.verify()
    cluster.site()
    # The CNI plugins set up their side of a bridge with its first pod.
    cluster.verify()
    after = cluster.snapshots()
    for host in cluster.hosts:
        # What was on the host before either; the networks stand in it in the order they came.
        shared = "~ files /etc/podnet/originals.json"
        lines = difference(both[host], after[host])
        assert [line for line in lines if not line.startswith(shared)] == []


def test_reset_of_the_second_leaves_the_first_as_it_was(cluster: Cluster, second: Cluster) -> None:
    second.reset()
    for host in cluster.hosts:
        assert not cluster.has_link(host, "cni1")
        assert not cluster.has_link(host, "flannel.2")
    cluster.demand_clean()
    cluster.verify()

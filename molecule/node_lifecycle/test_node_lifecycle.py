"""A cluster's life, one test after the other: each begins where the one before ended."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from tests.scenario.cluster import PROJECT, Cluster, Snapshot, difference
from tests.traffic import Traffic


def lines(before: dict[str, Snapshot], after: dict[str, Snapshot]) -> dict[str, list[str]]:
    """What changed on hosts, but for podnet's own files, which tell the same again."""
    return {
        host: [
            line
            for line in difference(before[host], after[host])
            if not line.startswith("~ files /etc/podnet/")
        ]
        for host in before
    }


def about(entries: Iterable[str], *words: str) -> bool:
    """Whether each of some entries holds one of the words."""
    return all(any(word in entry for word in words) for entry in entries)


def demand_unfelt(traffic: Traffic) -> None:
    """Fail if pods lost anything; the lab's own network feels a host that goes for a moment."""
    failures = [one for one in traffic.result.failures if "/host -> " not in one]
    assert not failures, traffic.result.table()


@pytest.fixture(scope="module")
def copy(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second admin's copy of the allocations, from when there were three hosts."""
    file = tmp_path_factory.mktemp("copy") / "podnet_allocations.yml"
    file.write_text((cluster.inventory / file.name).read_text())
    return file


@pytest.mark.usefixtures("copy")
def test_a_new_host_is_nothing_but_new_entries_on_the_others(cluster: Cluster) -> None:
    with Traffic(cluster.lab) as traffic:
        before = cluster.snapshots()
        cluster.lab.add("n4")
        cluster.remember("n4")
        assert cluster.site().changed_hosts == {"n1", "n2", "n3", "n4"}
        assert cluster.allocations()["n4"] == {"subnet": "10.244.3.0/24"}
        changes = lines(before, {host: cluster.snapshot(host) for host in before})
    demand_unfelt(traffic)
    for host, entries in changes.items():
        assert len(entries) == 4, (host, entries)
        assert about(entries, "+ routes: ", "+ neighbours: ", "+ fdb: ", "+ rulesets nft "), entries
        assert about(entries, "10.244.3.0", "02:00:0a:f4:03:00", "element 192.0.2.14"), entries
    cluster.demand_clean()
    cluster.verify()


def test_a_dead_host_is_removed_while_it_is_down(cluster: Cluster) -> None:
    with Traffic(cluster.lab, ["n1", "n2", "n4"]) as traffic:
        before = {host: cluster.snapshot(host) for host in ("n1", "n2", "n4")}
        cluster.lab.power_cut("n3")
        run = cluster.play("remove_node.yml", "-e", "podnet_node=n3")
        assert "n3 is out of the network" in run.message, run.output
        changes = lines(before, {host: cluster.snapshot(host) for host in before})
    demand_unfelt(traffic)
    for host, entries in changes.items():
        assert len(entries) == 4, (host, entries)
        assert about(entries, "- routes: ", "- neighbours: ", "- fdb: ", "- rulesets nft "), entries
        assert about(entries, "10.244.2.0", "02:00:0a:f4:02:00", "element 192.0.2.13"), entries
    # Its subnet stays its own, and nothing is left to do once the inventory has forgotten it.
    assert cluster.allocations()["n3"] == {"subnet": "10.244.2.0/24"}
    cluster.lab.remove("n3")
    cluster.demand_clean()
    cluster.verify()


def test_an_old_copy_of_the_allocations_is_refused_by_every_host_that_knows_better(
    cluster: Cluster, copy: Path
) -> None:
    cluster.lab.add("n5")
    cluster.remember("n5")
    inventory = yaml.safe_load((cluster.inventory / "hosts.yml").read_text())
    del inventory["podnet_nodes"]["hosts"]["n4"]
    (copy.parent / "hosts.yml").write_text(yaml.safe_dump(inventory))
    second, old = Cluster(cluster.lab, copy.parent), copy.read_text()
    before = cluster.snapshots()
    for arguments in ([], ["--check"], ["--limit", "n5,n1"]):
        run = second.site(*arguments, ok=False)
        assert run.status != 0, run.output
        for words in (
            "Nothing was changed on any host",
            "10.244.3.0/24 belongs to n4",
            "gives it to n5",
            "version control",
        ):
            assert words in run.message, run.output
        assert "podnet_force_allocations" in run.message
        cluster.demand_equal(before, cluster.snapshots())
    assert copy.read_text() == old


def test_a_reserved_subnet_goes_to_nobody_until_it_is_released(cluster: Cluster) -> None:
    cluster.site()
    assert cluster.allocations()["n5"] == {"subnet": "10.244.4.0/24"}
    cluster.play("remove_node.yml", "-e", "podnet_node=n3", "-e", "podnet_release=n3")
    assert "n3" not in cluster.allocations()
    cluster.lab.add("n6")
    cluster.remember("n6")
    cluster.site()
    assert cluster.allocations()["n6"] == {"subnet": "10.244.2.0/24"}
    cluster.verify()


def test_another_machine_of_the_same_name_takes_over_the_subnet(cluster: Cluster) -> None:
    before = {host: cluster.snapshot(host) for host in ("n1", "n4", "n5", "n6")}
    cluster.lab.remove("n2")
    cluster.lab.add("n2")
    cluster.remember("n2")
    assert cluster.site().changed_hosts == {"n2"}
    assert cluster.allocations()["n2"] == {"subnet": "10.244.1.0/24"}
    cluster.demand_equal(before, {host: cluster.snapshot(host) for host in before})
    cluster.verify()


def test_a_new_address_keeps_the_subnet_and_leaves_nothing_stale(cluster: Cluster) -> None:
    old, new = cluster.lab.hosts["n4"].address, "192.0.2.99"
    allocations = cluster.allocations()
    others = [host for host in cluster.hosts if host != "n4"]
    cluster.on("n4", "ip", "address", "add", f"{new}/24", "dev", "host0")
    with cluster.host_vars("n4", podnet_node_ip=f"{new}/24"):
        cluster.site()
        assert cluster.allocations() == allocations
        assert cluster.link("n4", "flannel.1")["data"]["local"] == new
        for host in others:
            fdb = cluster.on(host, "bridge", "fdb", "show", "dev", "flannel.1")
            assert f"dst {new} " in fdb
            assert f"dst {old} " not in fdb
            files = cluster.on(host, "grep", "-rlF", old, "/etc/podnet", ok=False)
            assert files == "", files
        cluster.demand_clean()
        cluster.verify()
    cluster.site()
    cluster.on("n4", "ip", "address", "delete", f"{new}/24", "dev", "host0")
    cluster.demand_clean()


def test_a_living_host_that_is_removed_is_clean(cluster: Cluster) -> None:
    run = cluster.play("remove_node.yml", "-e", "podnet_node=n5")
    assert "n5" in run.changed_hosts
    assert cluster.left_on("n5") == []


#: A pod of n1's, where nobody answers on any port.
POD = """
ip netns add target
ip link add target mtu 1450 type veth peer name eth0 netns target
ip link set target master cni0 up
ip -n target link set eth0 up
ip -n target addr add 10.244.0.200/24 dev eth0
ip -n target route add default via 10.244.0.1
"""


def counts(cluster: Cluster) -> tuple[int, int]:
    """Return what came to the pod, and what the guard of n1 has dropped."""
    text = cluster.on("n1", "ip", "netns", "exec", "target", "cat", "/proc/net/snmp")
    names, values = (line.split() for line in text.splitlines() if line.startswith("Udp:"))
    chain = cluster.on("n1", "nft", "list", "chain", "inet", "podnet", "guard", ok=False)
    found = re.search(r"counter packets (\d+)", chain)
    came = int(dict(zip(names, values, strict=True))["NoPorts"])
    return came, int(found[1]) if found else 0


def test_a_host_that_is_no_node_any_more_gets_nothing_into_the_overlay(cluster: Cluster) -> None:
    """n5 is on the segment still, and knows all that a node knows."""
    file = cluster.inventory / "hosts.yml"
    text = file.read_text()
    inventory = yaml.safe_load(text)
    del inventory["podnet_nodes"]["hosts"]["n5"]
    head = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    file.write_text(head + yaml.safe_dump(inventory))
    mac = cluster.link("n1", "flannel.1")["address"]
    code = (PROJECT / "tests" / "intruder.py").read_text()
    ends = ["--mac", mac, "--source", "10.244.3.9", "--target", "10.244.0.200"]

    def send(host: str) -> None:
        to = cluster.lab.hosts["n1"].address
        cluster.on(host, "python3", "-", "--to", to, *ends, stdin=code)

    cluster.on("n1", "sh", "-ec", POD)
    try:
        begin = counts(cluster)
        send("n5")
        assert counts(cluster) == (begin[0], begin[1] + 5)
        send("n4")
        assert counts(cluster) == (begin[0] + 5, begin[1] + 5)
        # Without the guard they arrive, so nothing else has kept them out.
        cluster.site("-e", "podnet_guard=false")
        send("n5")
        assert counts(cluster) == (begin[0] + 10, 0)
        cluster.site()
        send("n5")
        assert counts(cluster) == (begin[0] + 10, 5)
    finally:
        cluster.on("n1", "ip", "netns", "del", "target")
    cluster.lab.remove("n5")
    cluster.demand_clean()
    cluster.verify()

"""The defaults: VXLAN on three hosts, from the devices to a container of containerd."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from tests.scenario.cluster import Cluster, Run, difference

_RUN = ["ctr", "run", "--rm", "--cni", "--cpu-shares", "0", "--rootfs", "/srv/busybox", "box"]
_RUN += ["/bin/sleep", "600"]


class Container(NamedTuple):
    """A container: its first process as its host sees it, its address and its device's MTU."""

    pid: str
    address: str
    mtu: int


def test_subnets_follow_the_inventorys_order(cluster: Cluster) -> None:
    assert cluster.allocations() == {
        "n1": {"subnet": "10.244.0.0/24"},
        "n2": {"subnet": "10.244.1.0/24"},
        "n3": {"subnet": "10.244.2.0/24"},
    }


def test_the_device_is_flannels_own(cluster: Cluster) -> None:
    for number, host in enumerate(cluster.hosts):
        device = cluster.link(host, "flannel.1")
        assert device["data"]["id"] == 1
        assert device["data"]["port"] == 8472
        assert device["data"]["learning"] is False
        assert device["data"]["local"] == cluster.lab.hosts[host].address
        assert device["mtu"] == 1450
        assert device["address"] == f"02:00:0a:f4:{number:02x}:00"
        assert cluster.link(host, "cni0")["mtu"] == 1450


def test_routes_carry_our_protocol(cluster: Cluster) -> None:
    for number, host in enumerate(cluster.hosts):
        peers = [other for other in range(3) if other != number]
        assert {dst: (r["gateway"], r["dev"]) for dst, r in cluster.routes(host).items()} == {
            f"10.244.{other}.0/24": (f"10.244.{other}.0", "flannel.1") for other in peers
        }


def test_the_mac_is_the_same_after_delete_and_re_create(cluster: Cluster) -> None:
    before = cluster.snapshot("n2")
    cluster.on("n2", "ip", "link", "delete", "flannel.1")
    assert cluster.site().changed_hosts == {"n2"}
    assert difference(before, cluster.snapshot("n2")) == []
    cluster.demand_clean()


@pytest.fixture
def containers(cluster: Cluster) -> Iterator[dict[str, Container]]:
    """A container of containerd on every host."""
    for host in cluster.hosts:
        cluster.on(host, "systemctl", "start", "containerd")
        cluster.on(host, "systemd-run", "--unit=container", "--collect", *_RUN)
    try:
        yield {host: started(cluster, host) for host in cluster.hosts}
    finally:
        for host in cluster.hosts:
            # ctr then takes the container out of the network and ends.
            cluster.on(host, "ctr", "task", "kill", "--signal", "SIGKILL", "box", ok=False)
        wait(lambda: not any("box" in cluster.on(h, "ctr", "c", "list") for h in cluster.hosts))
        for host in cluster.hosts:
            cluster.on(host, "systemctl", "stop", "container.service", "containerd", ok=False)


def started(cluster: Cluster, host: str) -> Container:
    """Wait until the host's container has its address."""
    found: list[Container] = []

    def has_address() -> bool:
        for line in cluster.on(host, "ctr", "task", "list").splitlines():
            name, pid, *_ = line.split()
            if name == "box":
                inside = ("nsenter", "--net", f"--target={pid}", "ip", "-4", "-j", "address")
                for link in cluster.json_on(host, *inside):
                    if link["ifname"] == "eth0" and link["addr_info"]:
                        found.append(Container(pid, link["addr_info"][0]["local"], link["mtu"]))
        return bool(found)

    wait(has_address)
    return found[0]


def test_containers_of_containerd_reach_each_other_at_full_size(
    cluster: Cluster, containers: dict[str, Container]
) -> None:
    assert [one.address.rpartition(".")[0] for one in containers.values()] == [
        "10.244.0",
        "10.244.1",
        "10.244.2",
    ]
    assert {one.mtu for one in containers.values()} == {1450}
    unreached = [
        (host, peer, size)
        for host, one in containers.items()
        for peer, other in containers.items()
        for size in (56, 1450 - 28)
        if not pings(cluster, host, one.pid, other.address, size)
    ]
    assert unreached == []
    assert not pings(cluster, "n1", containers["n1"].pid, containers["n2"].address, 1451 - 28)


def pings(cluster: Cluster, host: str, pid: str, address: str, size: int) -> bool:
    """Whether a ping that must not be fragmented comes back to a process's namespace."""
    ping = ["ping", "-n", "-c2", "-i0.2", "-W2", "-M", "do", "-s", str(size), address]
    argv = ["nsenter", "--net", f"--target={pid}", *ping]
    return cluster.lab.run(host, argv, check=False).returncode == 0


def wait(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until something is so; fail if it is not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)


def test_a_check_run_on_untouched_hosts_tells_what_the_run_does(cluster: Cluster) -> None:
    cluster.reset()
    assert cluster.reset().changed_hosts == set()
    record = cluster.inventory / "podnet_allocations.yml"
    record.unlink()
    before = cluster.snapshots()
    check = cluster.check()
    assert check.changed_hosts == set(cluster.hosts)
    after = cluster.snapshots()
    assert {host: difference(before[host], after[host]) for host in cluster.hosts} == {
        host: [] for host in cluster.hosts
    }
    assert not record.exists()
    real = cluster.site("--diff")
    assert record.exists()
    assert diffs(check) == diffs(real)
    assert len(diffs(real)) > 20


def diffs(run: Run) -> list[str]:
    """The lines of all diffs of a run; hosts answer in any order."""
    return sorted(line for line in run.output.splitlines() if line[:1] in ("+", "-"))

"""All hosts reboot at once without a controller: the network comes back as it was."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.scenario.cluster import Cluster
from tests.scenario.furnish import furnish


def reboot_all(cluster: Cluster) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(cluster.lab.reboot, cluster.hosts))
    deadline = time.monotonic() + 60
    for host in cluster.hosts:
        while cluster.on(host, "systemctl", "is-active", "podnet@podnet", ok=False) != "active\n":
            assert time.monotonic() < deadline, cluster.on(host, "systemctl", "status", "podnet@*")
            time.sleep(0.2)


@pytest.fixture(scope="module", autouse=True)
def furnish_again(cluster: Cluster) -> Iterator[None]:
    """Put back what else was in the kernels, for the tests that all scenarios share."""
    yield
    for host in cluster.hosts:
        furnish(cluster.lab, host)


def endpoint(cluster: Cluster, host: str) -> list[str]:
    """Return the addresses of a host's static endpoint."""
    links = cluster.json_on(host, "ip", "-n", "web", "-j", "addr", "show", "dev", "eth0")
    return [one["local"] for one in links[0]["addr_info"] if one["scope"] == "global"]


# The scenario's own backend comes last, for the tests that all scenarios share.
@pytest.mark.parametrize("backend", ["host-gw", "vxlan"])
def test_all_hosts_come_back_without_a_controller(cluster: Cluster, backend: str) -> None:
    arguments = ("-e", f"podnet_backend={backend}")
    cluster.site(*arguments)
    reboot_all(cluster)
    # Pods made afterwards, both families, full size.
    cluster.verify(*arguments)
    for host in cluster.hosts:
        for peer in cluster.hosts:
            addresses = endpoint(cluster, peer)
            assert len(addresses) == 2
            for address in addresses:
                ping = ("ip", "netns", "exec", "web", "ping", "-c1", "-W2", address)
                assert cluster.lab.run(host, ping, check=False).returncode == 0, (host, address)
    assert cluster.site(*arguments).changed_hosts == set()
    cluster.demand_clean(*arguments)


def test_the_unit_is_right_and_says_what_it_did(cluster: Cluster) -> None:
    host = cluster.hosts[0]
    done = cluster.lab.run(
        host, ["systemd-analyze", "verify", "podnet@podnet.service"], check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    journal = cluster.on(host, "journalctl", "-b", "-o", "cat", "-u", "podnet@podnet")
    assert "> link cni0" in journal
    # One service at least must be ordered after it: pods need the bridge.
    before = cluster.on(host, "systemctl", "show", "-P", "Before", "podnet@podnet")
    assert "containerd.service" in before

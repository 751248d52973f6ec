"""Podman's containers on podnet's network: by CNI (Debian 12), by netavark (Debian 13)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pytest

from lab.errors import LabError
from tests.scenario.cluster import Cluster
from tests.scenario.podman import Container, Podman
from tests.scenario.site import Site

LEASES = "/var/lib/cni/networks/podnet"
CONF = "/etc/containers/containers.conf.d/60-podnet-podnet.conf"
NETWORK = "/etc/containers/networks/podnet.json"

#: n2 has Debian 13. What stands here for n1 is kept from its pods, and not needed.
RANGES = ["10.244.0.240-10.244.0.247", "10.244.1.200-10.244.1.201"]
OUTSIDE = "203.0.113.1"

#: A ping that runs on, and the numbers of what it sent and got; the last may be under way.
WATCH = (
    "nsenter -t {pid} -n ping -n -q -i 0.1 {to} > /run/podman-watch.log 2>&1 &"
    " echo $! > /run/podman-watch.pid"
)
ENDED = (
    "kill -INT $(cat /run/podman-watch.pid); sleep 1; rm /run/podman-watch.pid;"
    " grep -oE '[0-9]+ (packets transmitted|received)' /run/podman-watch.log;"
    " rm /run/podman-watch.log"
)


@pytest.fixture(scope="module")
def told(cluster: Cluster) -> Iterator[tuple[Site, dict[str, Podman]]]:
    """Hosts whose Podman knows podnet's network."""
    site = Site(cluster.lab)
    podmans = {host: Podman(cluster.lab, host) for host in cluster.hosts}
    try:
        with site.restored():
            site.set(podman=True, podman_range=RANGES)
            site.site()
            for one in podmans.values():
                one.prepare()
            yield site, podmans
            for one in podmans.values():
                one.remove()
    finally:
        for one in podmans.values():
            one.forget()
    # podnet_podman is false again.
    for host in site.hosts:
        for file in (CONF, NETWORK):
            assert not site.on(host, "find", file, ok=False)


def files(cluster: Cluster, host: str) -> list[str]:
    """Which of both files a host has."""
    return cluster.on(host, "find", CONF, NETWORK, ok=False).split()


def leases(cluster: Cluster, host: str) -> set[str]:
    """The addresses that host-local has given out."""
    return set(cluster.on(host, "ls", LEASES, ok=False).split()) - {"lock", "last_reserved_ip.0"}


def unreached(site: Site, containers: Sequence[Container], mtu: int) -> list[str]:
    """Return which containers do not get full-size packets to which addresses."""
    targets = [*(one.address for one in containers), OUTSIDE]
    ping = ["ping", "-n", "-q", "-c2", "-i0.2", "-W2", "-M", "do", "-s", str(mtu - 28)]
    return [
        f"{one.name} to {to}"
        for one in containers
        for to in targets
        if site.lab.run(
            one.host, ["nsenter", "-t", str(one.pid), "-n", *ping, to], check=False
        ).returncode
    ]


def test_a_host_with_podman_5_and_no_range_is_refused(cluster: Cluster) -> None:
    run = cluster.site("-e", "podnet_podman=true", ok=False)
    assert run.status != 0
    assert (
        "n2: podnet_podman_range: has no range of 10.244.1.0/24. Podman 5 gives out" in run.message
    )
    assert run.changed_hosts == set()
    for host in cluster.hosts:
        assert files(cluster, host) == []


def test_each_podman_is_told_in_its_own_way(told: tuple[Site, dict[str, Podman]]) -> None:
    site, podmans = told
    assert {host: files(site, host) for host in site.hosts} == {
        "n1": [CONF],
        "n2": [NETWORK],
        "n3": [CONF],
    }
    for podman in podmans.values():
        podman("network", "exists", "podnet")
    site.demand_clean()


def test_drift_is_repaired(told: tuple[Site, dict[str, Podman]]) -> None:
    site, _ = told
    text = site.on("n2", "cat", NETWORK)
    site.on("n2", "tee", NETWORK, stdin=text.replace("10.244.1.201", "10.244.1.250"))
    site.on("n3", "rm", CONF)
    assert site.check().changed_hosts == {"n2", "n3"}
    site.site()
    assert site.on("n2", "cat", NETWORK) == text
    assert files(site, "n3") == [CONF]


def test_containers_live_through_a_switch(told: tuple[Site, dict[str, Podman]]) -> None:
    site, podmans = told
    made = [podmans[host].run(f"box-{at}") for at, host in enumerate(("n1", "n2", "n2", "n3"))]
    addresses = {host: {one.address for one in made if one.host == host} for host in site.hosts}
    # Podman 5 gives out its range and no more, without host-local's knowledge.
    assert addresses["n2"] == {"10.244.1.200", "10.244.1.201"}
    assert leases(site, "n2") == set()
    with pytest.raises(LabError, match="failed to find free IP in range"):
        podmans["n2"].run("one-too-many")
    for host in ("n1", "n3"):
        assert len(addresses[host]) == 1
        assert leases(site, host) == addresses[host]
    assert unreached(site, made, 1450) == []

    site.on("n1", "sh", "-c", WATCH.format(pid=made[0].pid, to=made[1].address))
    site.set(podman=True, podman_range=RANGES, backend="host-gw")
    site.site()
    shown = site.on("n1", "sh", "-c", ENDED)
    sent, received = (int(word) for word in shown.split() if word.isdigit())
    assert 0 < sent - 1 <= received, shown
    assert unreached(site, made, 1500) == []
    assert json.loads(site.on("n2", "cat", NETWORK))["options"]["mtu"] == "1500"
    born = [podmans["n1"].run("born-later"), podmans["n3"].run("born-later")]
    assert unreached(site, born, 1500) == []
    site.demand_clean()
    site.verify()


def test_addresses_come_back_and_the_bridge_stays(told: tuple[Site, dict[str, Podman]]) -> None:
    site, podmans = told
    for podman in podmans.values():
        podman.remove()
    for host in site.hosts:
        assert leases(site, host) == set()
        assert site.has_link(host, "cni0")
    again = podmans["n2"].run("again")
    assert again.address.startswith("10.244.1.20")
    podmans["n2"].remove()
    assert site.has_link("n2", "cni0")
    site.demand_clean()


def test_somebody_elses_network_of_that_name_is_refused(
    told: tuple[Site, dict[str, Podman]],
) -> None:
    site, _ = told
    ours = site.on("n2", "cat", NETWORK)
    before = site.variables_file.read_text()
    site.set()
    site.site()
    assert files(site, "n2") == []
    theirs = ours.replace('"podnet": "podnet_podman', '"mine": "podnet_podman')
    site.on("n2", "mkdir", "-p", "/etc/containers/networks")
    site.on("n2", "tee", NETWORK, stdin=theirs)
    site.variables_file.write_text(before)
    refused = site.site(ok=False)
    assert f"{NETWORK}: podnet_podman needs this file, and podnet did not write" in refused.message
    assert site.on("n2", "cat", NETWORK) == theirs
    site.on("n2", "rm", NETWORK)

"""A host loses its power at any moment of a bootstrap or a switch, and comes up connected."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import yaml

from tests.scenario.cluster import PROJECT, Cluster
from tests.scenario.furnish import furnish
from tests.scenario.site import Site

#: What a host knows of its peers.
_WAYS = (
    "ip route show proto 112; ip -6 route show proto 112; ip neigh; "
    "bridge fdb show dev flannel.1; cat /etc/podnet/podnet/record.json"
)

#: How many hosts of a bootstrap lose their power, each at a moment of its own.
HOSTS = 10

#: How many moments of a switch are tried: tests/model reboots hosts at every single step.
MOMENTS = 4

BACKENDS = ("host-gw", "vxlan")

TITLES: dict[str, str] = yaml.safe_load(
    (PROJECT / "roles/podnet_network/vars/main.yml").read_text()
)["_podnet_titles"]


@pytest.fixture(scope="module")
def site(cluster: Cluster) -> Iterator[Site]:
    made = Site(cluster.lab)
    with made.restored():
        yield made
    for host in made.hosts:
        if not made.has_link(host, "br-other"):
            furnish(made.lab, host)


def endpoint(site: Site, host: str) -> list[str]:
    """Return the addresses of a host's static endpoint."""
    links = site.json_on(host, "ip", "-n", "web", "-j", "addr", "show", "dev", "eth0")
    return [one["local"] for one in links[0]["addr_info"] if one["scope"] == "global"]


def unit(site: Site, host: str) -> str:
    """Return the state of the unit that rebuilds the network at boot, when it has come to rest."""
    deadline = time.monotonic() + 30
    while True:
        said = site.on(host, "systemctl", "is-active", "podnet@podnet", ok=False).strip()
        if said not in ("activating", "inactive") or time.monotonic() > deadline:
            return said
        booting = site.on(host, "systemctl", "is-system-running", ok=False).strip()
        if said == "inactive" and booting in ("running", "degraded"):
            return said
        time.sleep(0.1)


def lost(site: Site, host: str, addresses: list[str]) -> list[str]:
    """Return which addresses a host's endpoint does not reach; a first packet may get lost."""
    ping = ("ip", "netns", "exec", "web", "ping", "-c3", "-i0.2", "-W1", "-q")
    return [
        f"{host} -> {address}"
        for address in addresses
        if site.lab.run(host, [*ping, address], check=False).returncode
    ]


def cut(site: Site, host: str) -> None:
    """Take the power away and give it back."""
    site.lab.power_cut(host)
    site.lab.start(host)


def test_all_hosts_lose_power_each_at_another_moment_of_a_bootstrap(site: Site) -> None:
    more = [f"n{number}" for number in range(4, HOSTS + 1)]
    for host in more:
        site.lab.add(host)
    try:
        site.site()
        site.reset()
        began = time.monotonic()
        site.site()
        lasts = time.monotonic() - began
        site.reset()
        run = site.start()
        for number, host in enumerate(site.hosts):
            time.sleep(max(0.0, run.at + lasts * (number + 0.5) / HOSTS - time.time()))
            site.lab.power_cut(host)
        for host in site.hosts:
            site.lab.start(host)
        ended = run.wait()
        assert "Traceback" not in ended.output, ended.output
        states = {host: unit(site, host) for host in site.hosts}
        # Nothing yet, or all of it.
        assert set(states.values()) <= {"active", "inactive"}, states
        site.site()
        site.demand_clean()
        site.verify()
    finally:
        for host in more:
            site.lab.remove(host)
        site.site()


@pytest.fixture(scope="module")
def lasts(site: Site) -> dict[str, float]:
    """Return how many seconds a switch to each backend takes, from its first phase."""
    result = {}
    site.set(backend=BACKENDS[-1])
    site.site()
    for backend in BACKENDS:
        site.set(backend=backend)
        run = site.start().wait()
        assert run.status == 0, run.output
        result[backend] = run.seconds - run.began(TITLES["prepare"])
    return result


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_host_that_loses_power_in_a_switch_is_connected_as_soon_as_it_is_up(
    site: Site, lasts: dict[str, float], moment: int
) -> None:
    backend = BACKENDS[moment % 2]
    others = [host for host in site.hosts if host != "n2"]
    addresses = {host: endpoint(site, host) for host in site.hosts}
    site.set(backend=backend)
    run = site.start()
    run.wait_for(TITLES["prepare"])
    time.sleep(lasts[backend] * (moment + 0.5) / MOMENTS)
    cut(site, "n2")
    said = unit(site, "n2")
    assert said == "active", site.on("n2", "journalctl", "-b", "-o", "short-precise")
    # As soon as it is up, and when the run has ended, however it did.
    for _ in range(2):
        missing = [one for other in others for one in lost(site, "n2", addresses[other])]
        missing += [one for other in others for one in lost(site, other, addresses["n2"])]
        ways = site.on_all("sh", "-c", _WAYS) if missing else {}
        ended = run.wait()
        assert not missing, f"{missing}\n{ways}\n{ended.output}"
    site.site()
    site.demand_clean()

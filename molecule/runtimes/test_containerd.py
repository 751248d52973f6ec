"""Pods of containerd, started and stopped many at once, also while the backend is switched."""

from __future__ import annotations

import base64
import ipaddress
import json
from collections.abc import Iterable, Iterator

import pytest

from tests.scenario.cluster import Cluster
from tests.scenario.cri import Containerd, Pod
from tests.scenario.site import Site
from tests.traffic.watch import code_archive

#: Pods on each host in a round, and rounds.
PODS, ROUNDS = 20, 5

#: wget of busybox-static crashes on Debian 12.
FETCH = "printf 'GET /hostname HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {} 80"

#: The tasks by which a switch's phases begin.
PHASES = (
    *("Add the new way beside the old one", "Move the routes", "Remove what is no longer used"),
)

LEASES = "/var/lib/cni/networks/podnet"

_PROBE = """
import base64, json, sys, tempfile
with tempfile.NamedTemporaryFile(suffix=".zip") as archive:
    archive.write(base64.b64decode("ARCHIVE"))
    archive.flush()
    sys.path.insert(0, archive.name)
    from podnet.probe import icmp
    sources, addresses, sizes = json.loads(sys.argv[1])
    probes = [icmp.Probe(one, to, size) for one in sources for to in addresses for size in sizes]
    answers = icmp.run(probes, sources)
print(json.dumps([len(probes), [
    f"{probe.source} to {probe.address}, {probe.size} bytes: {answer.error}"
    for probe, answer in zip(probes, answers) if not answer.ok
]]))
"""


@pytest.fixture(scope="module")
def runtimes(cluster: Cluster) -> Iterator[dict[str, Containerd]]:
    """The containerd of every host."""
    made = {host: Containerd(cluster.lab, host) for host in cluster.hosts}
    try:
        for one in made.values():
            one.start()
        yield made
    finally:
        for one in made.values():
            one.stop()


def start(runtimes: dict[str, Containerd], label: str, count: int) -> list[Pod]:
    """Start pods on all hosts at once."""
    under_way = [
        one.run([f"{label}-{host}-{number}" for number in range(count)])
        for host, one in runtimes.items()
    ]
    return [pod for one in under_way for pod in one.pods()]


def remove(runtimes: dict[str, Containerd], pods: Iterable[Pod]) -> None:
    """Remove pods of all hosts."""
    for host, one in runtimes.items():
        one.remove([pod.sandbox for pod in pods if pod.host == host])


def leases(cluster: Cluster, host: str) -> set[str]:
    """The addresses that host-local has given out."""
    shown = cluster.on(host, "ls", LEASES).split()
    return set(shown) - {"lock", "last_reserved_ip.0"}


def demand_own_addresses(cluster: Cluster, pods: list[Pod]) -> None:
    """No address twice, each of its node's subnet, and host-local holds these and no others."""
    assert len({pod.address for pod in pods}) == len(pods)
    for host, one in cluster.allocations().items():
        own = {pod.address for pod in pods if pod.host == host}
        assert all(ipaddress.ip_address(it) in ipaddress.ip_network(one["subnet"]) for it in own)
        assert leases(cluster, host) == own


def demand_reach(cluster: Cluster, pods: list[Pod], sizes: tuple[int, ...] = (84,)) -> None:
    """Every pod reaches every pod: ICMP from its namespace, with packets of these sizes."""
    archive = base64.b64encode(code_archive()).decode()
    for host in cluster.hosts:
        own = {pod.name: pod.netns for pod in pods if pod.host == host}
        question = json.dumps([own, [pod.address for pod in pods], sizes])
        program = _PROBE.replace("ARCHIVE", archive)
        asked, silent = json.loads(cluster.on(host, "python3", "-", question, stdin=program))
        assert (asked, silent) == (len(own) * len(pods) * len(sizes), [])


def test_a_pod_fetches_from_pods_of_all_hosts(
    cluster: Cluster, runtimes: dict[str, Containerd]
) -> None:
    pods = start(runtimes, "first", 1)
    for pod in pods:
        for other in pods:
            fetch = FETCH.format(other.address)
            status, shown = runtimes[pod.host].execute(pod, "/bin/sh", "-c", fetch)
            assert (status, shown.splitlines()[-1:]) == (0, [other.name]), shown
    demand_own_addresses(cluster, pods)
    remove(runtimes, pods)


def test_pods_come_and_go_at_once(cluster: Cluster, runtimes: dict[str, Containerd]) -> None:
    """A round's pods are stopped while the next one's are started."""
    before: list[Pod] = []
    for number in range(ROUNDS):
        under_way = [
            one.run([f"{number}-{host}-{pod}" for pod in range(PODS)])
            for host, one in runtimes.items()
        ]
        remove(runtimes, before)
        pods = [pod for one in under_way for pod in one.pods()]
        assert len(pods) == PODS * len(cluster.hosts)
        demand_own_addresses(cluster, pods)
        demand_reach(cluster, pods)
        before = pods
    remove(runtimes, before)
    demand_own_addresses(cluster, [])


def test_pods_are_born_in_every_phase_of_a_switch(
    cluster: Cluster, runtimes: dict[str, Containerd]
) -> None:
    site = Site(cluster.lab)
    pods = start(runtimes, "before", 1)
    with site.restored():
        for backend, mtu in (("host-gw", 1500), ("vxlan", 1450)):
            site.set(backend=backend)
            pods += born_in(site, runtimes, backend)
            demand_own_addresses(cluster, pods)
            if {mtu_of(cluster, one) for one in pods} != {mtu}:
                # Who was attached just before the CNI file changed gets its MTU with the next run.
                site.site()
            assert {mtu_of(cluster, one) for one in pods} == {mtu}
            demand_reach(cluster, pods, (84, mtu))
    remove(runtimes, pods)
    demand_own_addresses(cluster, [])


def born_in(site: Site, runtimes: dict[str, Containerd], label: str) -> list[Pod]:
    """Run site.yml; return pods that were started as each phase began."""
    run = site.start()
    pods: list[Pod] = []
    for number, title in enumerate(PHASES):
        run.wait_for(title, timeout=180)
        pods += start(runtimes, f"{label}-{number}", 3)
    ended = run.wait()
    assert ended.status == 0, ended.output
    return pods


def mtu_of(cluster: Cluster, pod: Pod) -> int:
    shown = cluster.json_on(
        pod.host, "nsenter", f"--net={pod.netns}", "ip", "-j", "link", "show", "eth0"
    )
    return int(shown[0]["mtu"])

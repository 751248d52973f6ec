"""Hosts as flannel leaves them are adopted by site.yml, all at once or one by one, without a loss.

flanneld itself is not here: its commands are run word for word (tests/flannel_host.py), and a
process of its name runs from a unit of its name, as where flanneld is a service.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests import flannel_host as flannel
from tests.scenario.cluster import Cluster, difference
from tests.scenario.furnish import furnish
from tests.traffic import Traffic

_UNIT = """\
[Service]
ExecStart=/opt/flannel/flanneld infinity
[Install]
WantedBy=multi-user.target
"""

_DELEGATED = "/run/flannel-delegated.conflist"


class Machine:
    """A host of the lab as tests/flannel_host.py wants it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster, self._name = cluster, name

    def run(self, *command: str) -> str:
        return self._cluster.on(self._name, *command)


class Flannel:
    """What flannel made of the lab's hosts."""

    def __init__(self, cluster: Cluster, backend: str, rules: str, six: bool) -> None:
        self.cluster, self.six = cluster, six
        self.variables: dict[str, Any] = {
            "podnet_backend": backend,
            "podnet_cluster_cidr6": flannel.CIDR6 if six else "",
        }
        hosts = cluster.lab.hosts
        ends = {number: (host.address, host.address6) for number, host in enumerate(hosts.values())}
        for number, name in enumerate(hosts):
            machine = Machine(cluster, name)
            flannel.run_flannel(
                *(machine, number, len(hosts), backend, rules),
                underlay="host0",
                addresses=ends,
                six=six,
            )
            flannel.write(machine, _DELEGATED, json.dumps(flannel.delegated(number, backend, six)))
            flannel.write(machine, "/etc/systemd/system/flanneld.service", _UNIT)
            cluster.on(name, "install", "-D", "/bin/sleep", "/opt/flannel/flanneld")
            # The CNI plugin turns on forwarding for the families that pods have.
            cluster.on(name, "sysctl", "-qw", "net.ipv4.ip_forward=1")
            cluster.on(name, "systemctl", "enable", "--now", "flanneld.service")

    def traffic(self) -> Traffic:
        """Return pods that the flannel plugin made, and traffic between them."""
        return Traffic(self.cluster.lab, conflist=_DELEGATED)

    def pins(self, number: int) -> dict[str, Any]:
        """Return the variables that a host needs to keep its subnets."""
        pins = {"podnet_subnet": f"{flannel.SUBNETS[number]}.0/24"}
        if self.six:
            pins["podnet_subnet6"] = f"{flannel.SUBNETS6[number]}::/64"
        return pins

    @contextlib.contextmanager
    def inventory(
        self, adopted: Sequence[str], others: Sequence[str] = (), **variables: Any
    ) -> Iterator[None]:
        """Declare the hosts for a while: those to adopt, and those that stay flannel's."""
        with contextlib.ExitStack() as stack:
            for number, name in enumerate(self.cluster.hosts):
                adopt = {"podnet_adopt": True} if name in adopted and name not in others else {}
                mac = {"podnet_node_mac": flannel.MACS[number]} if others else {}
                declared = {**self.variables, **self.pins(number), **adopt, **mac, **variables}
                stack.enter_context(self.cluster.host_vars(name, **declared))
            yield

    def forget_pods(self) -> None:
        """Take away what the CNI plugins kept of pods that the watch took away by flannel's words.

        host-local made the directory, and the addresses that podnet took over stay taken where a
        runtime releases them under the network's old name (docs/adopt-flannel.md, "Limits").
        """
        for name in self.cluster.hosts:
            kept = self.cluster.on(name, "ls", "/var/lib/cni/networks/podnet")
            assert f"{flannel.SUBNETS[self.cluster.hosts.index(name)]}.2" in kept.split()
            self.cluster.on(name, "rm", "-r", "/var/lib/cni/networks", _DELEGATED)

    def demand_gone(self) -> None:
        """Fail unless nothing of it is left but the unit's own files, which do nothing."""
        for name in self.cluster.hosts:
            assert flannel.left(Machine(self.cluster, name), "host0") == ""
            said = self.cluster.on(
                name, "systemctl", "show", "-P", "ActiveState", "-P", "UnitFileState", "flanneld"
            )
            assert said.split() == ["inactive", "disabled"]


@pytest.fixture(autouse=True)
def clean(cluster: Cluster) -> Iterator[None]:
    """Begin each test with hosts and inventory that know nothing of podnet; end so, too."""
    (cluster.inventory / "podnet_allocations.yml").unlink(missing_ok=True)
    yield
    cluster.reset()
    for host in cluster.hosts:
        remove_what_is_not_podnets(cluster, host)
        assert cluster.left_on(host) == []


@pytest.fixture(scope="module", autouse=True)
def build_again(cluster: Cluster) -> Iterator[None]:
    """Leave podnet's network behind, for the tests that all scenarios share."""
    yield
    (cluster.inventory / "podnet_allocations.yml").unlink(missing_ok=True)
    cluster.site()


def remove_what_is_not_podnets(cluster: Cluster, host: str) -> None:
    """Remove what a person, the CNI plugin or iptables left: adoption has no business with it."""
    cluster.on(
        host,
        "sh",
        "-ec",
        "rm -rf /etc/systemd/system/flanneld.service /opt/flannel /var/lib/cni; "
        "systemctl daemon-reload; "
        "for family in ip ip6; do for table in nat filter; do "
        "nft delete table $family $table 2>/dev/null || true; done; done; "
        "sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0",
    )


@pytest.mark.parametrize(
    ("backend", "rules", "six"),
    [("vxlan", "iptables-nft", True), ("host-gw", "nft", False)],
    ids=["vxlan and iptables, dual stack", "host-gw and nft"],
)
def test_all_hosts_at_once(cluster: Cluster, backend: str, rules: str, six: bool) -> None:
    found = Flannel(cluster, backend, rules, six)
    before = cluster.snapshots()

    # Without the variable it explains, and changes nothing.
    with found.inventory(adopted=()):
        run = cluster.site(ok=False)
        assert run.status != 0
        for number, host in enumerate(cluster.hosts):
            assert f"{host}: flannel runs or ran on this host" in run.message, run.output
            assert f"podnet_subnet: {flannel.SUBNETS[number]}.0/24" not in run.message
        assert "podnet_adopt: true" in run.message
        cluster.demand_equal(before, cluster.snapshots())

    with found.traffic() as traffic:
        with found.inventory(adopted=cluster.hosts):
            cluster.site()
        report = traffic.stop()
    assert not report.failures, report.table()
    found.forget_pods()
    found.demand_gone()
    with found.inventory(adopted=()):
        cluster.demand_clean()
        cluster.verify()
        # It is podnet's for good.
        cluster.lab.reboot("n2")
        furnish(cluster.lab, "n2")
        cluster.verify()
        cluster.demand_clean()


def test_one_host_after_the_other(cluster: Cluster) -> None:
    found = Flannel(cluster, "vxlan", "iptables-nft", six=False)
    with found.traffic() as traffic:
        for number, host in enumerate(cluster.hosts):
            others = cluster.hosts[number + 1 :]
            before = {other: cluster.snapshot(other) for other in others}
            with found.inventory(cluster.hosts, others or ["none"]):
                cluster.site("--limit", host)
            for other in others:
                assert difference(before[other], cluster.snapshot(other)) == []
        # At last the MACs that podnet derives.
        with found.inventory(adopted=()):
            cluster.site()
        report = traffic.stop()
    assert not report.failures, report.table()
    found.forget_pods()
    found.demand_gone()
    with found.inventory(adopted=()):
        cluster.demand_clean()
        cluster.verify()

"""What a host must refuse: one clear message, no traceback, nothing touched on any host."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.scenario.cluster import Cluster, Run, Snapshot


class Bad(NamedTuple):
    """A case: what is done to a host, what it or the run is told, what the message must hold."""

    words: list[str]
    host: str = "n2"
    variables: dict[str, Any] = {}  # noqa: RUF012
    arguments: list[str] = []  # noqa: RUF012
    before: str = ""
    after: str = ""


def hidden(tool: str, words: list[str]) -> Bad:
    """Return the case of a host that lacks a tool."""
    where = f"$(command -v {tool})"
    file = f"/run/hidden.{tool}"
    return Bad(
        words,
        before=f"path=$(readlink -f {where}); echo $path > {file}; mv $path $path.hidden",
        after=f"path=$(cat {file}); mv $path.hidden $path; rm {file}",
    )


#: Takes the port, and says so to systemd.
_LISTEN = (
    "import os, socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
    ' s.bind(("0.0.0.0", 8472)); n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM);'
    ' n.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"]); time.sleep(600)'
)

CASES = {
    "an address that the host does not have": Bad(
        ["n2", "198.51.100.77", "podnet_node_ip"],
        variables={"podnet_node_ip": "198.51.100.77/24"},
    ),
    "an interface that does not exist": Bad(
        ["n2", "eth9", "podnet_interface"], variables={"podnet_interface": "eth9"}
    ),
    "a route that overlaps the cluster CIDR": Bad(
        ["n2", "10.244.0.128/25", "n1", "podnet_cluster_cidr"],
        before="ip route add 10.244.0.128/25 via 198.51.100.1",
        after="ip route delete 10.244.0.128/25",
    ),
    "an address inside the cluster CIDR": Bad(
        ["n2", "10.244.2.0/24", "podnet_cluster_cidr"],
        before="ip address add 10.244.2.77/24 dev br-other",
        after="ip address delete 10.244.2.77/24 dev br-other",
    ),
    "a bridge of somebody else's": Bad(
        ["n2", "cni0", "podnet_bridge"],
        before="ip link add cni0 type bridge; ip address add 203.0.113.225/28 dev cni0",
        after="ip link delete cni0",
    ),
    "a VXLAN device of somebody else's": Bad(
        ["n2", "flannel.1", "podnet_vxlan_device"],
        before="ip link add flannel.1 type vxlan id 1 dstport 8472 local 198.51.100.12",
        after="ip link delete flannel.1",
    ),
    "a host without nft": hidden("nft", ["n2", "nft"]),
    "a host without iproute2": hidden("ip", ["n2", "iproute2"]),
    "a host without bridge(8)": hidden("bridge", ["n2", "iproute2"]),
    "a host without CNI plugins": Bad(
        ["n2", "podnet_cni_install"],
        before="mv /usr/lib/cni /usr/lib/cni.hidden",
        after="mv /usr/lib/cni.hidden /usr/lib/cni",
    ),
    "a host without root rights": Bad(
        ["n2", "root", "become"],
        variables={
            "ansible_become_user": "nobody",
            "ansible_become_method": "su",
            "ansible_become_flags": "-s /bin/sh",
        },
    ),
    "host-gw between segments that the inventory tells": Bad(
        ["n1", "n2", "host-gw", "podnet_direct_routing"],
        arguments=["-e", "podnet_backend=host-gw"],
    ),
    "host-gw between segments that only hosts know": Bad(
        ["n1", "n2", "host-gw", "podnet_direct_routing"],
        arguments=["-e", "podnet_backend=host-gw", "-e", "podnet_node_ip={{ ansible_host }}"],
    ),
    "an MTU that the underlay cannot carry": Bad(
        ["podnet_mtu", "1451", "1500"], arguments=["-e", "podnet_mtu=1451"]
    ),
    "a MAC that YAML has read as a number": Bad(
        ["n2", "podnet_node_mac", "41135085296", "number", "52:54:00:12:34:56"],
        variables={"podnet_node_mac": 41135085296},
    ),
    "another CNI's VXLAN device on the port": Bad(
        ["n2", "cilium_vxlan", "8472", "external", "podnet_vxlan_port"],
        before="ip link add cilium_vxlan type vxlan external dstport 8472;"
        " ip link set cilium_vxlan up",
        after="ip link delete cilium_vxlan",
    ),
    "a service on the VXLAN port": Bad(
        ["n2", "UDP port 8472 is in use by process", "python3", "podnet_vxlan_port"],
        before="systemd-run -q --unit=taken --service-type=notify"
        " -p NotifyAccess=all python3 -c '" + _LISTEN + "'",
        after="systemctl stop taken",
    ),
    "IPv6 off on a host of a dual-stack plan": Bad(
        ["n2", "net.ipv6.conf.default.disable_ipv6=1", "podnet_cluster_cidr6"],
        arguments=["-e", "podnet_cluster_cidr6=fd00:10:244::/48"],
        before="sysctl -qw net.ipv6.conf.default.disable_ipv6=1",
        after="sysctl -qw net.ipv6.conf.default.disable_ipv6=0",
    ),
    "a read-only /etc": Bad(
        ["n2", "/etc", "read-only"],
        before="mount --bind /etc /etc; mount -o remount,bind,ro /etc",
        after="umount /etc",
    ),
    "a full /etc/systemd/system": Bad(
        ["n2", "/etc/systemd/system", "no space is left"],
        before="mount -t tmpfs -o size=64k tmpfs /etc/systemd/system;"
        " head -c 1M /dev/zero >/etc/systemd/system/x 2>/dev/null || true",
        after="umount /etc/systemd/system",
    ),
    "all that is wrong on a host at once": Bad(
        ["n2", "3 things are in the way", "cni0", "10.244.0.0/24", "vx9"],
        before="ip link add cni0 type bridge; ip route add 10.244.0.0/24 via 198.51.100.1;"
        " ip link add vx9 type vxlan id 1 dstport 8472",
        after="ip link delete vx9; ip route delete 10.244.0.0/24; ip link delete cni0",
    ),
}


@pytest.fixture(scope="module")
def untouched(cluster: Cluster) -> dict[str, Snapshot]:
    """The hosts' state before anything."""
    return cluster.snapshots()


@contextlib.contextmanager
def prepared(cluster: Cluster, case: Bad) -> Iterator[None]:
    """The case's host as the case wants it, for a while."""
    with contextlib.ExitStack() as stack:
        if case.before:
            cluster.on(case.host, "sh", "-ec", case.before)
            # dash finds mv and rm itself: the tool that is hidden is never one of these.
            stack.callback(cluster.on, case.host, "sh", "-ec", case.after)
        if case.variables:
            stack.enter_context(cluster.host_vars(case.host, **case.variables))
        yield


def demand_one_message(run: Run, case: Bad) -> None:
    """Fail unless the run failed, with each of the words in one line of its output."""
    assert run.status != 0, run.output
    said = [line for line in run.output.splitlines() if line.startswith(("fatal:", "failed:"))]
    assert any(all(word in line for word in case.words) for line in said), run.output
    for word in ("Traceback", "MODULE FAILURE", "See stdout/stderr"):
        assert word not in run.output, run.output


@pytest.mark.parametrize("name", CASES)
def test_one_clear_message_and_nothing_touched(
    cluster: Cluster, untouched: dict[str, Snapshot], name: str
) -> None:
    case = CASES[name]
    with prepared(cluster, case):
        before = {host: cluster.snapshot(host) for host in cluster.hosts if host != case.host}
        demand_one_message(cluster.site(*case.arguments, ok=False), case)
        cluster.demand_equal(before, {host: cluster.snapshot(host) for host in before})
    assert not (cluster.inventory / "podnet_allocations.yml").exists()
    cluster.demand_equal(untouched, cluster.snapshots())


def test_the_same_hosts_take_a_network_when_nothing_is_wrong(cluster: Cluster) -> None:
    cluster.site()
    cluster.verify()

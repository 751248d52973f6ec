"""Hosts exactly as flannel leaves them become podnet's, and no ping between pods is lost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests import flannel_host as flannel
from tests.flannel_host import MACS, SUBNETS, SUBNETS6
from tests.kernel.netns_hosts import PLUGINS, Host, hosts, plan_document
from tests.kernel.test_network import applied, converge, remove, snapshot

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
    pytest.mark.skipif(not (PLUGINS / "bridge").exists(), reason="needs the CNI plugins"),
]

PING = ["ip", "netns", "exec", "pod", "ping", "-q", "-i", "0.005", "-W", "2"]
PHASES = ("prepare", "shift", "commit")


def document(
    count: int = 2,
    adopt: tuple[int, ...] = (0, 1),
    macs: tuple[int, ...] = (),
    six: bool = False,
    **changes: Any,
) -> str:
    """Return a plan with flannel's subnets; `macs`: hosts whose VTEP keeps flannel's MAC."""
    made = plan_document(count, six=six, **{"backend": "vxlan", **changes})
    for number, node in enumerate(made["nodes"]):
        third = SUBNETS[number].rpartition(".")[2]
        node["subnet"] = f"{SUBNETS[number]}.0/24"
        if six:
            node["subnet6"] = f"{SUBNETS6[number]}::/64"
            node["ip6"] = f"fd00:2::{11 + number}"
        node["mac"] = MACS[number] if number in macs else f"02:00:0a:f4:{int(third):02x}:00"
        if number in adopt:
            node["adopt"] = True
    return json.dumps(made)


@pytest.fixture
def pair() -> Iterator[list[Host]]:
    with hosts(2, bare=True) as made:
        yield made


class Pings:
    """Pings every 5 ms between the pods of hosts, both ways, and to the outside."""

    def __init__(self, made: list[Host], six: bool = False) -> None:
        self.running: list[subprocess.Popen[str]] = []
        for number, host in enumerate(made):
            others = [other for other in range(len(made)) if other != number]
            targets = [f"{SUBNETS[other]}.2" for other in others]
            targets += [f"{SUBNETS6[other]}::2" for other in others] * six
            for target in [*targets, "192.0.2.1"]:
                self.running.append(
                    subprocess.Popen(
                        [*host.enter, *PING, target], stdout=subprocess.PIPE, text=True
                    )
                )

    def stop(self) -> list[str]:
        """Return what each ping says of its losses; none lost is "0% packet loss"."""
        time.sleep(0.3)
        said = []
        for one in self.running:
            one.send_signal(2)
            output = one.communicate(timeout=20)[0]
            found = re.search(r"(\d+) packets transmitted, (\d+) received", output)
            assert found, output
            sent, received = int(found[1]), int(found[2])
            assert sent > 50
            # The last one may still be on its way when ping is told to end.
            said += [output] if sent - received > 1 or "errors" in output else []
        return said


def set_up(made: list[Host], backend: str, rules: str, six: bool = False) -> None:
    for number, host in enumerate(made):
        flannel.run_flannel(host, number, len(made), backend, rules, six=six)
        flannel.add_pod(host, number, backend, six)
    if six:
        # flannel with both families turns it on itself; over IPv4 the plugin does.
        for host in made:
            host.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
        for number, host in enumerate(made):
            wait_for_ipv6(host, f"{SUBNETS6[1 - number]}::2")


def wait_for_ipv6(host: Host, target: str) -> None:
    """Wait until the first packet came through: addresses have to be found unique first."""
    ping = ("ip", "netns", "exec", "pod", "ping", "-c1", "-W1", target)
    for _ in range(10):
        if " 0% packet loss" in host.run(*ping, check=False):
            return
        time.sleep(0.2)
    raise AssertionError(f"{host.name} does not reach {target}")


@pytest.mark.parametrize("six", [False, True], ids=["ipv4", "dual stack"])
@pytest.mark.parametrize(
    ("was", "backend", "rules"),
    [
        ("vxlan", "vxlan", "iptables-nft"),
        ("vxlan", "host-gw", "nft"),
        ("host-gw", "vxlan", "iptables-legacy"),
        ("host-gw", "host-gw", "nft"),
    ],
)
def test_adoption_loses_no_packet_leaves_nothing_and_resets_clean(
    pair: list[Host], was: str, backend: str, rules: str, six: bool
) -> None:
    clean = [snapshot(host) for host in pair]
    set_up(pair, was, rules, six)
    plan = document(backend=backend, six=six)
    checks = [converge(host, plan, check=True) for host in pair]
    # Another way, or another MAC: all hosts in step.
    in_step = (was, backend) != ("host-gw", "host-gw")
    assert [check.get("switching") for check in checks] == [in_step, in_step], checks
    pings = Pings(pair, six)
    try:
        for phase in PHASES if in_step else ("all",):
            for host in pair:
                applied(host, plan, phase)
    finally:
        lost = pings.stop()
    assert lost == []
    for number, host in enumerate(pair):
        steps = cni(host, plan)
        assert [step.rpartition("/")[2] for step in steps] == [
            "cni.json",
            "10-podnet.conflist",
            "10-flannel.conflist (absent)",
        ]
        assert flannel.left(host) == ""
        assert host.run("ls", "/var/lib/cni/networks/podnet").split()[0] == f"{SUBNETS[number]}.2"
        assert applied(host, plan)["lines"] == []
        without = json.loads(plan)
        for node in without["nodes"]:
            node.pop("adopt")
        assert converge(host, json.dumps(without), check=True)["lines"] == []
        mtu = 1450 if backend == "vxlan" else 1500
        assert f"mtu {mtu} " in host.run("ip", "-n", "pod", "link", "show", "eth0")
    for host in pair:
        flannel.remove_pod(host, "podnet")
        # flannel's bridge takes its MTU from its pods; ours keeps it when the last one has left.
        assert converge(host, json.dumps(without), check=True)["lines"] == []
        remove(host)
        host.python(CNI_REMOVE)
    for host, before in zip(pair, clean, strict=True):
        # The CNI plugin had turned forwarding on (IPv6 routers listen to a group of their own), and
        # iptables keeps its empty tables.
        new = [line for line in snapshot(host) if line not in before]
        new = [line for line in new if "forward" not in line and not line.startswith("33:33:")]
        new = [line for line in new if not _is_of_iptables(line)]
        assert new == ["/etc/cni", "/etc/cni/net.d"]
        assert flannel.left(host) == ""
        assert host.run("sh", "-c", "ls /etc/podnet 2>/dev/null; true") == ""


CNI_REMOVE = """
import json
from podnet.cni import configuration
configuration.apply(configuration.inspect_absent("podnet"), "podnet")
print(json.dumps(None))
"""


def cni(host: Host, plan: str) -> list[str]:
    """Do what podnet_cni does; return the files that it changed, in their order."""
    made: list[str] = host.python(f"""
import json
from podnet.cni import configuration
from podnet.backends.document import plan_from_text
seen = configuration.inspect(plan_from_text({plan!r}), {host.name!r})
configuration.apply(seen, "podnet")
print(json.dumps([one["after_header"].replace("cni.json (absent)", "cni.json") for one in seen.diff]))
""")
    return made


def _is_of_iptables(line: str) -> bool:
    """Whether a line is of the empty tables that iptables makes once and keeps."""
    return bool(re.match(r"\s*(table ip6? (nat|filter) {|chain [A-Z]+ {|type \w+ hook |}|$)", line))


def test_a_cluster_moves_host_by_host(pair: list[Host]) -> None:
    """The first host is podnet's, the second still flannel's with the MAC it has; then both."""
    one, two = pair
    set_up(pair, "vxlan", "iptables-nft")
    mixed = document(adopt=(0,), macs=(0, 1))
    assert not converge(one, mixed, check=True)["switching"]
    pings = Pings(pair)
    try:
        applied(one, mixed)
        time.sleep(0.3)
        assert applied(one, mixed)["lines"] == []
        both = document(adopt=(0, 1), macs=(0, 1))
        assert not converge(two, both, check=True)["switching"]
        applied(two, both)
        # At last all get the MACs that podnet derives.
        derived = document(adopt=())
        for phase in PHASES:
            for host in pair:
                assert applied(host, derived, phase)["switching"]
    finally:
        lost = pings.stop()
    assert lost == []
    for host in pair:
        assert applied(host, derived)["lines"] == []
        assert "netdev" not in host.run("nft", "list", "ruleset")
    assert "02:00:0a:f4:19:00" in one.run("ip", "link", "show", "flannel.1")
    assert one.run("bridge", "fdb", "show", "dev", "flannel.1").split()[0] == "02:00:0a:f4:03:00"


def test_flannel_is_an_error_that_has_the_lines_to_adopt_it(pair: list[Host]) -> None:
    host = pair[0]
    flannel.run_flannel(host, 0, 2, "vxlan", "iptables-nft")
    plan = json.loads(document(adopt=()))
    plan["nodes"][0]["subnet"] = "10.244.0.0/24"
    before = snapshot(host)
    error = converge(host, json.dumps(plan))["error"]
    for word in (
        "n1: flannel runs or ran on this host",
        "device flannel.1",
        "nft chain ip nat FLANNEL-POSTRTG",
        "/run/flannel",
        "10-flannel.conflist",
        "`podnet_adopt: true`, `podnet_subnet: 10.244.25.0/24`, "
        "`podnet_node_mac: 3e:6b:9c:01:22:a0`",
    ):
        assert word in error
    plan["nodes"][0]["adopt"] = True
    error = converge(host, json.dumps(plan))["error"]
    assert "host_vars/n1.yml: `podnet_subnet: 10.244.25.0/24`" in error
    assert snapshot(host) == before


def test_a_running_flanneld_has_to_be_stopped_first(pair: list[Host]) -> None:
    host = pair[0]
    flannel.run_flannel(host, 0, 2, "host-gw", "nft")
    # A process of that name in the host's network, as the container of a DaemonSet is.
    host.run("sh", "-ec", "cp /bin/sleep /run/flanneld")
    daemon = subprocess.Popen([*host.enter, "/run/flanneld", "100"])
    try:
        time.sleep(0.2)
        refused = converge(host, document(adopt=(), backend="host-gw"))["error"]
        assert "flanneld (process " in refused
        assert "podnet_adopt: true" in refused
        error = converge(host, document(backend="host-gw"))["error"]
    finally:
        daemon.kill()
        daemon.wait()
    assert "flanneld runs on this host (process" in error
    assert "kubectl -n kube-flannel delete daemonset" in error
    assert "error" not in converge(host, document(backend="host-gw"))


def test_stale_peers_go_with_a_warning_and_foreign_routes_stay_in_the_way(
    pair: list[Host],
) -> None:
    host = pair[0]
    flannel.run_flannel(host, 0, 3, "vxlan", "nft")
    in_way = f"{SUBNETS[1]}.128/25"
    host.ip(f"route add {in_way} via 192.0.2.1")
    plan = document(adopt=(0,), macs=(0, 1))
    error = converge(host, plan)["error"]
    assert f"{in_way} via 192.0.2.1" in error
    assert "10.244.77.0/24" not in error
    host.ip(f"route del {in_way}")
    applied(host, plan)
    assert "10.244.77" not in host.run("ip", "route") + host.run("ip", "neigh")
    assert MACS[2] not in host.run("bridge", "fdb", "show")
    assert applied(host, plan)["lines"] == []


def test_an_adoption_that_fails_gives_the_host_back(pair: list[Host]) -> None:
    host = pair[0]
    set_up(pair, "vxlan", "iptables-nft")
    # A name that a directory has cannot be written to.
    host.run("mkdir", "-p", "/etc/systemd/system/podnet@.service/x")
    before = snapshot(host)
    result = converge(host, document(adopt=(0,), macs=(0, 1)))
    assert "error" in result
    host.run("rm", "-r", "/etc/systemd/system/podnet@.service")
    after = snapshot(host)
    # Packets that pass meanwhile are counted by iptables' rules.
    before, after = (
        [re.sub(r"packets \d+ bytes \d+", "", line) for line in one] for one in (before, after)
    )
    changed = [line for line in [*before, *after] if (line in before) != (line in after)]
    assert [line for line in changed if "/etc/systemd" not in line] == []
    assert flannel.left(host)

"""The boot files on real kernels: a bare host comes back, drift is repaired, silence otherwise."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernel.netns_hosts import Host, hosts
from tests.kernel.test_network import applied, converge, document, observed, remove

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]

REPLAY = ("sh", "/etc/podnet/replay", "podnet")

#: What a reboot leaves: nothing of the kernel's.
REBOOT = """
ip link del flannel.1 2>/dev/null || true; ip link del cni0; ip route flush proto 112
ip -6 route flush proto 112; nft flush ruleset; rm -f /run/podnet/*
sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with hosts(2, bare=True) as made:
        yield made[0]


def kernel(host: Host) -> dict[str, Any]:
    """What podnet sees of the kernel, less its own files."""
    state = observed(host)
    del state["boot"], state["record"]
    return state


@pytest.mark.parametrize("backend", ["vxlan", "host-gw"])
def test_a_host_without_any_kernel_state_comes_back(host: Host, backend: str) -> None:
    plan = document(2, backend=backend)
    applied(host, plan)
    good = kernel(host)
    host.run("sh", "-ec", REBOOT)
    said = host.run(*REPLAY)
    assert "> link cni0: " in said, said
    assert kernel(host) == good
    assert host.run(*REPLAY) == ""
    assert converge(host, plan, check=True)["lines"] == []


# fmt: off
#: What a replay repairs -> the word that it says about it.
REPAIRED = {
    "ip route del 10.244.1.0/24": "> route 10.244.1.0/24",
    "ip route replace 10.244.1.0/24 via 192.0.2.1": "> route 10.244.1.0/24",
    "ip route replace blackhole 10.244.1.0/24": "> route 10.244.1.0/24",
    "ip -6 route del fd00:244:0:1::/64": "> route fd00:244:0:1::/64",
    "ip route del 10.244.0.0/24 dev cni0": "> route 10.244.0.0/24",
    "ip neigh del 10.244.1.0 dev flannel.1": "> neigh flannel.1 10.244.1.0",
    "bridge fdb del 02:00:0a:f4:01:00 dev flannel.1 dst 192.0.2.12 self": "> fdb flannel.1",
    "ip link del flannel.1": "> link flannel.1",
    "ip link set flannel.1 down": "> link flannel.1",
    "ip link set flannel.1 address 02:00:00:00:00:09": "> link flannel.1",
    "ip link set flannel.1 mtu 1300": "> link flannel.1",
    "ip addr del 10.244.0.0/32 dev flannel.1": "> addr flannel.1",
    "ip link del cni0": "> link cni0",
    "ip link set cni0 down": "> link cni0",
    "ip addr del fd00:244::1/64 dev cni0": "> addr cni0",
    "sysctl -qw net.ipv4.ip_forward=0": "> sysctl net.ipv4.ip_forward = 1",
    "nft flush ruleset": "> table inet podnet",
    "nft insert rule inet podnet postrouting accept": "< \t\taccept",
}
# fmt: on


@pytest.mark.parametrize("drift", REPAIRED)
def test_a_replay_repairs_drift_and_says_so(host: Host, drift: str) -> None:
    applied(host, document(2))
    host.run(*REPLAY)
    good = kernel(host)
    assert host.run(*REPLAY) == ""
    host.run(*drift.split())
    assert REPAIRED[drift] in host.run(*REPLAY)
    assert kernel(host) == good
    assert host.run(*REPLAY) == ""


# fmt: off
#: What begins to drop what is forwarded -> the rule that pods need then, and how it goes again.
DROPPING = {
    "iptables-nft -P FORWARD DROP":
        ("> iptables-nft FORWARD -i cni0", "iptables-nft -P FORWARD ACCEPT"),
    "ip6tables-nft -P FORWARD DROP":
        ("> ip6tables-nft FORWARD -o cni0", "ip6tables-nft -P FORWARD ACCEPT"),
    "iptables-legacy -P FORWARD DROP":
        ("> iptables-legacy FORWARD -i cni0", "iptables-legacy -P FORWARD ACCEPT"),
    "nft add table inet wall; nft add chain inet wall f "
    "'{ type filter hook forward priority 10; policy drop; }'":
        ('> nft inet wall f iifname "cni0"', "nft delete table inet wall"),
}
# fmt: on


@pytest.mark.parametrize("command", DROPPING)
def test_a_replay_opens_what_began_to_drop_for_pods(host: Host, command: str) -> None:
    plan = document(2)
    applied(host, plan)
    host.run(*REPLAY)
    assert host.run(*REPLAY) == ""
    rule, undo = DROPPING[command]
    host.run("sh", "-ec", command)
    said = host.run(*REPLAY)
    assert rule in said, said
    assert host.run(*REPLAY) == ""
    # Podnet itself finds them in place; what it has to do is to write them down.
    assert [one for one in converge(host, plan, check=True)["lines"] if "boot" not in one] == []
    applied(host, plan)
    assert host.run(*REPLAY) == ""
    remove(host)
    assert "podnet" not in host.run("nft", "list", "ruleset") + host.run("iptables-legacy-save")
    host.run("sh", "-ec", undo)


def test_a_replay_leaves_chains_alone_where_it_shall(host: Host) -> None:
    plan = json.loads(document(2))
    plan["nodes"][0]["leave_alone"] = ["forward"]
    applied(host, json.dumps(plan))
    host.run(*REPLAY)
    host.run("iptables-nft", "-P", "FORWARD", "DROP")
    assert host.run(*REPLAY) == ""
    host.run("iptables-nft", "-P", "FORWARD", "ACCEPT")
    remove(host)


def test_a_replay_leaves_a_host_to_the_run_that_holds_it(host: Host) -> None:
    applied(host, document(2))
    host.ip("route del 10.244.1.0/24")
    text = host.run("cat", "/etc/podnet/replay").replace("flock -w 60", "flock -w 0")
    said = host.run("flock", "/run/podnet/podnet.lock", "sh", "-c", text, "replay", "podnet")
    assert "holds the network" in said
    assert host.run("ip", "route", "show", "10.244.1.0/24") == ""
    host.run(*REPLAY)


def test_nothing_of_it_is_left(host: Host) -> None:
    applied(host, document(2))
    host.run(*REPLAY)
    remove(host)
    left = host.run("sh", "-c", "find /etc/podnet /run/podnet /etc/systemd | grep podnet")
    assert left.split() == ["/run/podnet", "/run/podnet/podnet.lock"]

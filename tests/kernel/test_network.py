"""podnet_network's core on real kernels: converge, drift, switch, undo, remove."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernel.netns_hosts import Host, hosts, plan_document

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]

HEAD = """
import json, sys
from podnet.host import converge, info, target
from podnet.backends.document import plan_from_text
from podnet.core.errors import PodnetError
"""


def document(count: int = 3, **changes: Any) -> str:
    made = plan_document(count, six=changes.pop("six", True), **{"backend": "vxlan", **changes})
    for number, node in enumerate(made["nodes"]):
        node["mac"] = f"02:00:0a:f4:{number:02x}:00"
        node["ip6"] = f"fd00:2::{11 + number}"
    return json.dumps(made)


def converge(host: Host, plan: str, phase: str = "all", check: bool = False) -> dict[str, Any]:
    code = f"""{HEAD}
try:
    done = converge.converge(plan_from_text({plan!r}), {host.name!r}, {phase!r}, {check!r})
    print(json.dumps({{"lines": target.commands(done.changes, 999), "diff": done.diff(),
                       "switching": done.switching}}))
except PodnetError as error:
    print(json.dumps({{"error": str(error)}}))
"""
    result: dict[str, Any] = host.python(code)
    return result


def applied(host: Host, plan: str, phase: str = "all") -> dict[str, Any]:
    result = converge(host, plan, phase)
    assert "error" not in result, result["error"]
    return result


def observed(host: Host) -> dict[str, Any]:
    result: dict[str, Any] = host.python(
        f"{HEAD}\nprint(json.dumps(info.observed('podnet'), default=vars))"
    )
    return result


def remove(host: Host) -> None:
    host.python(f"{HEAD}\nprint(json.dumps(converge.remove('podnet', False).changed))")


def snapshot(host: Host) -> list[str]:
    """Return all that a kernel and the file system say, less what comes and goes by itself."""
    text = "\n".join(
        [
            host.run("ip", "-br", "addr"),
            host.run("ip", "route", "show", "table", "all"),
            host.run("ip", "-6", "route", "show", "table", "all"),
            host.run("ip", "neigh", "show", "nud", "permanent"),
            host.run("bridge", "fdb", "show"),
            host.run("nft", "list", "ruleset"),
            host.run(
                "sh", "-c", "sysctl -a 2>/dev/null | grep -E 'forward|rp_filter|accept_ra |nf-call'"
            ),
            host.run("sh", "-c", "find /etc/podnet /etc/systemd /etc/cni 2>/dev/null; true"),
        ]
    )
    # Link-local addresses appear when duplicate detection is done; veth ends are numbered.
    lines = [re.sub(r"fe80\S* ?|@if\d+", "", line) for line in text.splitlines()]
    lines = [line for line in lines if not line.startswith("local dev")]
    return sorted(line.rstrip() for line in lines if not line.startswith(("multicast", "anycast")))


@pytest.fixture
def pair() -> Iterator[list[Host]]:
    with hosts(2, bare=True) as made:
        yield made


@pytest.fixture(scope="module")
def shared() -> Iterator[list[Host]]:
    with hosts(2, bare=True) as made:
        yield made


def pod(host: Host, number: int, mtu: int = 1450) -> None:
    """Attach a namespace "pod" to the bridge, as the CNI bridge plugin does."""
    host.ip("netns add pod")
    host.ip(f"link add name vethpod mtu {mtu} type veth peer name eth0 mtu {mtu} netns pod")
    host.ip("link set vethpod master cni0 up")
    host.ip("-n pod link set eth0 up")
    host.ip(f"-n pod addr add 10.244.{number}.9/24 dev eth0")
    host.ip(f"-n pod addr add fd00:244:0:{number}::9/64 dev eth0 nodad")
    host.ip(f"-n pod route add default via 10.244.{number}.1")
    host.ip(f"-n pod -6 route add default via fd00:244:0:{number}::1")


def ping(host: Host, target: str, size: int) -> None:
    """Ping from the pod; IPv6 needs a second for link-local addresses to be usable."""
    for _ in range(5):
        output = host.run(
            *("ip", "netns", "exec", "pod", "ping", "-M", "do", "-s", str(size)),
            *("-c", "2", "-i", "0.2", "-W", "1", target),
            check=False,
        )
        if " 0% packet loss" in output:
            return
    raise AssertionError(output)


@pytest.mark.parametrize("backend", ["vxlan", "host-gw"])
def test_pods_reach_each_other_and_a_second_run_changes_nothing(
    pair: list[Host], backend: str
) -> None:
    one, two = pair
    plan = document(2, backend=backend)
    before = [snapshot(host) for host in pair]
    checks = [converge(host, plan, check=True) for host in pair]
    assert [snapshot(host) for host in pair] == before
    runs = [applied(host, plan) for host in pair]
    assert [run["diff"] for run in runs] == [check["diff"] for check in checks]
    mtu = 1450 if backend == "vxlan" else 1500
    for number, host in enumerate(pair):
        pod(host, number, mtu)
    for host, other in ((one, 1), (two, 0)):
        ping(host, f"10.244.{other}.9", mtu - 28)
        ping(host, "fd00:244::9" if other == 0 else f"fd00:244:0:{other}::9", mtu - 48)
    for host in pair:
        assert applied(host, plan)["lines"] == []
        assert converge(host, plan, check=True)["lines"] == []
        host.ip("netns del pod")
        remove(host)
    for host, was in zip(pair, before, strict=True):
        now = snapshot(host)
        assert set(now) - set(was) == set(was) - set(now) == set()


# fmt: off
DRIFTS = {
    "guard missing": "nft delete chain inet podnet guard; nft delete set inet podnet nodes4",
    "guard rule missing": "nft flush chain inet podnet guard",
    "guard accepts all": "nft insert rule inet podnet guard accept",
    "guard of another VNI": "nft list table inet podnet | sed 's/@th,96,24 != 0x1 /@th,96,24 != 0x2 /; 1i delete table inet podnet' | nft -f -",
    "node missing in the guard": "nft delete element inet podnet nodes4 { 192.0.2.12 }",
    "stranger in the guard": "nft add element inet podnet nodes4 { 192.0.2.99 }",
    "guard without nodes": "nft flush set inet podnet nodes4",
    "route missing": "ip route del 10.244.1.0/24",
    "route wrong": "ip route replace 10.244.1.0/24 via 192.0.2.1",
    "route with a metric of its own": "ip route replace 10.244.1.0/24 via 192.0.2.1 proto 112 metric 5",
    "route made a blackhole": "ip route replace blackhole 10.244.1.0/24",
    "IPv6 route missing": "ip -6 route del fd00:244:0:1::/64",
    "IPv6 route wrong": "ip -6 route replace fd00:244:0:1::/64 via fd00:2::1 dev eth0 metric 1024",
    "own subnet's route missing": "ip route del 10.244.0.0/24 dev cni0",
    "neighbour missing": "ip neigh del 10.244.1.0 dev flannel.1",
    "neighbour wrong": "ip neigh replace 10.244.1.0 lladdr 02:00:00:00:00:09 dev flannel.1 nud permanent",
    "neighbour not permanent": "ip neigh replace 10.244.1.0 lladdr 02:00:0a:f4:01:00 dev flannel.1 nud stale",
    "FDB entry missing": "bridge fdb del 02:00:0a:f4:01:00 dev flannel.1 dst 192.0.2.12 self",
    "FDB entry wrong": "bridge fdb replace 02:00:0a:f4:01:00 dev flannel.1 dst 192.0.2.77 self permanent",
    "flooding entry": "bridge fdb append 00:00:00:00:00:00 dev flannel.1 dst 192.0.2.77 self permanent",
    "device missing": "ip link del flannel.1",
    "device down": "ip link set flannel.1 down",
    "device's MAC": "ip link set flannel.1 address 02:00:00:00:00:09",
    "device's MTU": "ip link set flannel.1 mtu 1300",
    "device's address missing": "ip addr del 10.244.0.0/32 dev flannel.1",
    "device's address wrong": "ip addr add 10.244.9.9/32 dev flannel.1",
    "device's port": "ip link del flannel.1; ip link add flannel.1 type vxlan id 1 dstport 4789 local 192.0.2.11",
    "device learns": "ip link del flannel.1; ip link add flannel.1 type vxlan id 1 dstport 8472 local 192.0.2.11",
    "device's local address": "ip link set flannel.1 type vxlan id 1 local 192.0.2.99",
    "bridge missing": "ip link del cni0",
    "bridge bare": "ip link del cni0; ip link add cni0 type bridge",
    "bridge down": "ip link set cni0 down",
    "bridge without address": "ip addr del 10.244.0.1/24 dev cni0",
    "bridge without IPv6 address": "ip addr del fd00:244::1/64 dev cni0",
    "forwarding off": "sysctl -qw net.ipv4.ip_forward=0",
    "IPv6 forwarding off": "sysctl -qw net.ipv6.conf.all.forwarding=0",
    "the bridge does not forward": "sysctl -qw net.ipv4.conf.cni0.forwarding=0",
    "the VXLAN device does not forward": "sysctl -qw net.ipv4.conf.flannel/1.forwarding=0",
    "the underlay does not forward": "sysctl -qw net.ipv4.conf.eth0.forwarding=0",
    "new devices do not forward": "sysctl -qw net.ipv4.conf.default.forwarding=0; ip link del flannel.1",
    "stale peer": "ip route add 10.244.9.0/24 via 10.244.9.0 dev flannel.1 onlink proto 112; "
    "ip neigh add 10.244.9.0 lladdr 02:00:0a:f4:09:00 dev flannel.1 nud permanent; "
    "bridge fdb add 02:00:0a:f4:09:00 dev flannel.1 dst 192.0.2.99 self permanent",
    "masquerade missing": "nft delete table inet podnet",
    "masquerade rule missing": "nft flush chain inet podnet postrouting",
    "masquerade rule edited": "nft -a list table inet podnet | sed 's/10.244.0.0\\/16 return/10.244.1.0\\/24 return/; "
    "s/ # handle.*//; 1i delete table inet podnet' | nft -f -",
    "masquerade rule masks all": "nft list table inet podnet | sed 's/10.244.0.0\\/16 return/10.244.0.0\\/16 masquerade/; "
    "1i delete table inet podnet' | nft -f -",
    "foreign rule in our table": "nft insert rule inet podnet postrouting accept",
    "foreign chain in our table": "nft add chain inet podnet other",
    "boot file changed": "echo link >> /etc/podnet/podnet/boot/devices.batch",
    "boot files gone": "rm -r /etc/podnet/podnet/boot*",
    "unit disabled": "rm /etc/systemd/system/multi-user.target.wants/podnet@podnet.service",
    "record gone": "rm /etc/podnet/podnet/record.json",
}
# fmt: on


@pytest.mark.parametrize("drift", DRIFTS)
def test_drift_is_reported_repaired_and_gone(shared: list[Host], drift: str) -> None:
    host = shared[0]
    plan = document(2)
    applied(host, plan)
    good = observed(host)
    host.run("sh", "-ec", DRIFTS[drift])
    check = converge(host, plan, check=True)
    assert check.get("lines"), f"not noticed: {check}"
    repair = applied(host, plan)
    assert repair["diff"] == check["diff"]
    assert applied(host, plan)["lines"] == []
    assert observed(host) == good


FOREIGN = """
ip link add foreign type bridge; ip link set foreign up; ip addr add 198.51.100.1/24 dev foreign
ip route add 203.0.113.0/24 via 192.0.2.1; ip route add 203.0.113.7/32 via 192.0.2.1 proto 112
ip neigh add 192.0.2.50 lladdr 02:00:00:00:00:50 dev eth0 nud permanent
ip link add vx9 type vxlan id 9 dstport 9999 local 192.0.2.11; ip link set vx9 up
bridge fdb add 02:00:00:00:00:51 dev vx9 dst 192.0.2.12 self permanent
nft add table inet foreign; nft add chain inet foreign c
"""


def test_what_is_not_ours_survives_converge_repair_switch_and_removal(pair: list[Host]) -> None:
    host = pair[0]
    host.run("sh", "-ec", FOREIGN)
    before = snapshot(host)
    plan = document(2)
    applied(host, plan)
    host.run("sh", "-ec", DRIFTS["device missing"])
    applied(host, plan)
    host.ip("addr add 198.51.100.77/32 dev cni0")
    other = document(2, backend="host-gw")
    for phase in ("prepare", "shift", "commit"):
        applied(host, other, phase)
    assert "198.51.100.77" in host.run("ip", "addr", "show", "cni0")
    remove(host)
    assert snapshot(host) == before


SWITCHES: dict[str, dict[str, Any]] = {
    "host-gw": {"backend": "host-gw"},
    "direct": {"direct_routing": True},
    "vxlan": {},
    "port": {"port": 4789},
    "vni": {"port": 4789, "vni": 7, "device": "flannel.7"},
    "name": {"port": 4789, "vni": 7, "device": "pods"},
    "smaller": {"port": 4789, "vni": 7, "device": "pods", "mtu": "1300"},
    "larger": {"port": 4789, "vni": 7, "device": "pods", "mtu": "1400"},
}


def test_switches_lose_no_packet_and_end_like_a_fresh_host(pair: list[Host]) -> None:
    """One host is a phase behind the other, both drop what comes in the wrong way."""
    for host in pair:
        host.run("sh", "-c", "sysctl -qw net.ipv4.conf.all.rp_filter=1")
        applied(host, document(2))
    for number, host in enumerate(pair):
        pod(host, number)
    ping(pair[0], "fd00:244:0:1::9", 100)
    lost: list[str] = []
    running = threading.Event()
    running.set()

    def watch(host: Host, target: str) -> None:
        while running.is_set():
            output = host.run(
                *("ip", "netns", "exec", "pod", "ping", "-i", "0.005", "-c", "100"),
                *("-W", "1", "-q", target),
                check=False,
            )
            if " 0% packet loss" not in output:
                lost.append(output)

    watchers = [
        threading.Thread(target=watch, args=(pair[0], "10.244.1.9")),
        threading.Thread(target=watch, args=(pair[1], "10.244.0.9")),
        threading.Thread(target=watch, args=(pair[0], "fd00:244:0:1::9")),
    ]
    for watcher in watchers:
        watcher.start()
    try:
        for changes in SWITCHES.values():
            plan = document(2, **changes)
            for phase in ("prepare", "shift", "commit"):
                for host in pair:
                    assert applied(host, plan, phase)["switching"]
            for host in pair:
                assert not converge(host, plan, check=True)["lines"]
                assert host.run("sysctl", "-n", "net.ipv4.conf.all.rp_filter") == "1\n"
                mtu = observed(host)["links"]["cni0"]["mtu"]
                assert f"mtu {mtu} " in host.run("ip", "-n", "pod", "link", "show", "eth0")
                assert f"mtu {mtu} " in host.run("ip", "link", "show", "vethpod")
    finally:
        running.clear()
        for watcher in watchers:
            watcher.join()
    assert not lost, lost
    left = [observed(host) for host in pair]
    with hosts(2, bare=True) as fresh:
        for host, was in zip(fresh, left, strict=True):
            applied(host, plan)
            now = observed(host)
            for one in (was, now):
                one.pop("ports")
            now["sysctls"]["net.ipv4.conf.all.rp_filter"] = "1"
            assert was == now


def test_a_batch_that_fails_half_way_is_undone(pair: list[Host]) -> None:
    host = pair[0]
    applied(host, document(2))
    good = observed(host)
    # The kernel refuses an MTU of a device that is larger than the device can have; the plan's
    # own checks cannot know.
    host.run("sh", "-ec", "ip link add blocker type vxlan id 7 dstport 4789 local 192.0.2.11")
    host.run("sh", "-ec", "ip link set blocker up")
    result = converge(host, document(2, vni=7, port=4789, device="flannel.7"), "prepare")
    assert "blocker" in result["error"]
    assert observed(host) == good
    host.ip("link del blocker")


BAD_HOSTS: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "address that is not there": (
        {"nodes": {"ip": "192.0.2.99"}},
        "",
        ["n1", "podnet_node_ip 192.0.2.99", "192.0.2.11 on eth0"],
    ),
    "interface that is not there": (
        {"nodes": {"interface": "eth7"}},
        "",
        ["n1", "podnet_interface eth7", "eth0"],
    ),
    "MTU that does not fit": ({"mtu": "1451"}, "", ["n1", "podnet_mtu 1451", "1450"]),
    "route to a peer's pods": (
        {},
        "ip route add 10.244.1.128/25 via 192.0.2.1",
        ["n1", "10.244.1.128/25 via 192.0.2.1", "n2's 10.244.1.0/24", "podnet_cluster_cidr"],
    ),
    "peer behind a route over our own bridge": (
        {"peer": {"ip": "198.51.100.12", "ip_prefix": None}, "six": False},
        "ip link add cni0 type bridge; ip link set cni0 alias podnet:podnet up; "
        "ip route add 198.51.100.0/24 dev cni0",
        ["n1", "n2 (198.51.100.12) over cni0"],
    ),
    "bridge of others": ({}, "ip link add cni0 type bridge", ["n1", "cni0", "podnet_bridge"]),
    "device of others": (
        {},
        "ip link add flannel.1 type vxlan id 1 dstport 8472 local 192.0.2.11",
        ["n1", "flannel.1", "podnet_vxlan_device"],
    ),
    "VNI of others": (
        {},
        "ip link add x type vxlan id 1 dstport 8472 local 192.0.2.11",
        ["n1", "x", "podnet_vxlan_vni"],
    ),
    "peer on another segment": (
        {"backend": "host-gw", "peer": {"ip": "198.51.100.12"}},
        "",
        ["n1", "n2 (198.51.100.12, by 192.0.2.1 over eth0)", "podnet_direct_routing"],
    ),
}


@pytest.mark.parametrize("case", BAD_HOSTS)
def test_what_stands_in_the_way_is_named_and_nothing_is_changed(
    pair: list[Host], case: str
) -> None:
    changes, command, words = BAD_HOSTS[case]
    host = pair[0]
    if command:
        host.run("sh", "-ec", command)
    changes = dict(changes)
    node, peer = changes.pop("nodes", {}), changes.pop("peer", {})
    made = json.loads(document(2, **changes))
    made["nodes"][0].update(node)
    made["nodes"][1].update(peer)
    before = snapshot(host)
    result = converge(host, json.dumps(made))
    for word in words:
        assert word in result["error"]
    assert snapshot(host) == before


@pytest.mark.parametrize("drift", ["ip link set vethpod nomaster", "ip link del cni0"])
def test_pods_that_lost_their_bridge_get_it_back(pair: list[Host], drift: str) -> None:
    plan = document(2)
    for number, host in enumerate(pair):
        applied(host, plan)
        pod(host, number)
    one = pair[0]
    # Somebody else's pair: no bridge, and no address of ours.
    one.ip("netns add other")
    one.ip("link add name vethother type veth peer name eth0 netns other")
    one.ip("-n other addr add 198.51.100.9/24 dev eth0")
    ping(one, "10.244.1.9", 100)
    assert converge(one, plan, check=True)["lines"] == []
    one.run("sh", "-ec", drift)
    check = converge(one, plan, check=True)
    assert "link vethpod master cni0" in check["diff"]["after"]
    assert applied(one, plan)["diff"] == check["diff"]
    ping(one, "10.244.1.9", 100)
    assert applied(one, plan)["lines"] == []
    assert "master" not in one.run("ip", "link", "show", "vethother")

"""Underlays that address prefixes do not describe: two NICs, no prefix route, /32, lo, VIPs, VPNs.

In each the real look and converge run on two hosts, pods send, and a second run changes nothing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernel.netns_hosts import Host, hosts
from tests.kernel.test_network import HEAD, document, ping, pod, remove, snapshot

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]


@pytest.fixture
def pair() -> Iterator[list[Host]]:
    with hosts(2, bare=True) as made:
        yield made


def plan(*nodes: dict[str, Any], **changes: Any) -> str:
    """Return a plan of n1 and n2 without IPv6 and prefix lengths; `nodes` change them in turn."""
    made = json.loads(document(2, six=False, **changes))
    for number, node in enumerate(made["nodes"]):
        del node["ip_prefix"], node["ip6"]
        node.update(nodes[number] if number < len(nodes) else {})
    return json.dumps(made)


def converge(host: Host, text: str, check: bool = False) -> dict[str, Any]:
    """Return what a run did or said: lines, warnings, MTU; or its error."""
    code = f"""{HEAD}
try:
    done = converge.converge(plan_from_text({text!r}), {host.name!r}, "all", {check!r})
    print(json.dumps({{"lines": target.commands(done.changes, 999), "mtu": done.mtu,
                       "warnings": done.warnings, "diff": done.diff()}}))
except PodnetError as error:
    print(json.dumps({{"error": str(error)}}))
"""
    result: dict[str, Any] = host.python(code)
    return result


def work(pair: list[Host], text: str, mtu: int) -> list[list[str]]:
    """Run on both hosts, send full-size packets between pods both ways; return the warnings."""
    told = []
    for number, host in enumerate(pair):
        check = converge(host, text, check=True)
        done = converge(host, text)
        assert "error" not in done, done["error"]
        assert (done["mtu"], done["diff"]) == (mtu, check["diff"])
        pod(host, number, mtu)
        told.append(done["warnings"])
    for host, other in zip(pair, (1, 0), strict=True):
        ping(host, f"10.244.{other}.9", mtu - 28)
        again = converge(host, text)
        assert again["lines"] == [], again
    return told


def cable(pair: list[Host], mtu: int, *addresses: str) -> None:
    """Join both hosts by a second NIC, data0, that no other host is on."""
    one, two = pair
    one.ip(
        f"link add name data0 mtu {mtu} type veth peer name data0 mtu {mtu} netns {two.process.pid}"
    )
    for host, address in zip(pair, addresses, strict=True):
        host.ip("link set data0 up")
        host.ip(f"addr add {address} dev data0")


def strict(pair: list[Host]) -> None:
    for host in pair:
        host.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")


def route(host: Host, destination: str) -> str:
    return host.run("ip", "route", "show", destination).strip()


DATA = ({"ip": "192.0.2.21"}, {"ip": "192.0.2.22"})
NAMED = tuple({**one, "interface": "data0"} for one in DATA)


def test_of_two_nics_in_a_subnet_the_kernels_is_taken(pair: list[Host]) -> None:
    # The node's address is on data0, but the kernel sends to the subnet over eth0.
    cable(pair, 9000, "192.0.2.21/24", "192.0.2.22/24")
    work(pair, plan(*DATA, backend="host-gw"), 1500)
    assert "via 192.0.2.22 dev eth0" in route(pair[0], "10.244.1.0/24")


@pytest.mark.parametrize(("backend", "mtu"), [("host-gw", 9000), ("vxlan", 8950)])
def test_a_named_interface_is_used_for_everything(pair: list[Host], backend: str, mtu: int) -> None:
    cable(pair, 9000, "192.0.2.21/24", "192.0.2.22/24")
    strict(pair)
    before = [snapshot(host) for host in pair]
    # Full-size packets do not fit through eth0.
    work(pair, plan(*NAMED, backend=backend), mtu)
    if backend == "vxlan":
        assert "via data0" in pair[0].run("bridge", "fdb", "show", "dev", "flannel.1")
    else:
        assert "dev data0" in route(pair[0], "10.244.1.0/24")
    for host, was in zip(pair, before, strict=True):
        host.ip("netns del pod")
        remove(host)
        assert snapshot(host) == was


def test_a_named_interface_without_a_route_to_a_peer_is_refused(pair: list[Host]) -> None:
    cable(pair, 1500, "203.0.113.1/24", "203.0.113.2/24")
    text = plan({"interface": "data0"})
    said = converge(pair[0], text)["error"]
    assert "podnet_interface data0" in said
    assert "n2 (192.0.2.12)" in said
    # A route makes it right.
    pair[0].ip("route add 192.0.2.12/32 via 203.0.113.2 dev data0 metric 900")
    assert "error" not in converge(pair[0], text)


def test_an_interface_may_be_named_on_one_host_and_taken_back(pair: list[Host]) -> None:
    cable(pair, 1500, "192.0.2.21/24", "192.0.2.22/24")
    work(pair, plan(*NAMED), 1450)
    fdb = ("bridge", "fdb", "show", "dev", "flannel.1")
    for text, bound in ((plan(*DATA), False), (plan(*NAMED), True)):
        done = converge(pair[0], text)
        assert len(done["lines"]) >= 1
        assert ("via data0" in pair[0].run(*fdb)) == bound
        assert converge(pair[0], text)["lines"] == []
        ping(pair[0], "10.244.1.9", 1422)


def without_prefix_route(host: Host, number: int) -> None:
    host.ip("addr flush dev eth0 scope global")
    host.ip(f"addr add 192.0.2.{number}/24 dev eth0 noprefixroute")
    host.ip("route add 192.0.2.1 dev eth0 scope link")
    host.ip("route add default via 192.0.2.1")


def test_a_host_that_the_kernel_gives_a_gateway_is_not_on_link(pair: list[Host]) -> None:
    without_prefix_route(pair[0], 11)
    before = snapshot(pair[0])
    said = converge(pair[0], plan(backend="host-gw"))["error"]
    assert "n2 (192.0.2.12, by 192.0.2.1 over eth0)" in said
    assert snapshot(pair[0]) == before
    # The inventory's word for one segment does not make a gateway on-link.
    prefixes = ({"ip_prefix": 24}, {"ip_prefix": 24})
    assert "error" in converge(pair[0], plan(*prefixes, backend="host-gw"))


@pytest.mark.parametrize("backward", [0])
def test_direct_routing_works_where_only_one_end_is_on_link(
    pair: list[Host], backward: int
) -> None:
    without_prefix_route(pair[0], 11)
    pair[0].underlay.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    for host in pair:
        host.run("sysctl", "-qw", f"net.ipv4.conf.all.rp_filter={backward}")
    work(pair, plan(direct_routing=True), 1450)
    assert "dev flannel.1" in route(pair[0], "10.244.1.0/24")
    assert "via 192.0.2.11 dev eth0" in route(pair[1], "10.244.0.0/24")


def test_a_single_address_with_a_link_route_is_on_link(pair: list[Host]) -> None:
    for number, host in enumerate(pair):
        host.ip("addr flush dev eth0 scope global")
        host.ip(f"addr add 192.0.2.{11 + number}/32 dev eth0")
        host.ip("route add 192.0.2.0/24 dev eth0 scope link")
    work(pair, plan(backend="host-gw"), 1500)


@pytest.mark.parametrize(("backend", "mtu"), [("vxlan", 1450), ("host-gw", 1500)])
def test_a_node_address_on_lo_has_the_mtu_of_the_way_out(
    pair: list[Host], backend: str, mtu: int
) -> None:
    for number, host in enumerate(pair):
        peer = 12 - number
        host.ip(f"addr add 198.51.100.{11 + number}/32 dev lo")
        how = f"via 192.0.2.{peer}" if backend == "vxlan" else "dev eth0 scope link"
        host.ip(f"route add 198.51.100.{peer} {how}")
    text = plan({"ip": "198.51.100.11"}, {"ip": "198.51.100.12"}, backend=backend)
    work(pair, text, mtu)
    if backend == "host-gw":
        assert "src 198.51.100.11" in route(pair[0], "10.244.1.0/24")


def test_a_route_with_an_mtu_of_its_own_decides(pair: list[Host]) -> None:
    for host, peer in zip(pair, (12, 11), strict=True):
        host.ip(f"route add 192.0.2.{peer}/32 dev eth0 mtu 1400")
    work(pair, plan(), 1350)


def test_a_rule_that_sends_the_nodes_packets_elsewhere_counts(pair: list[Host]) -> None:
    cable(pair, 1400, "192.0.2.31/24", "192.0.2.32/24")
    for number, host in enumerate(pair):
        host.ip(f"rule add from 192.0.2.{11 + number} lookup 100")
        host.ip("route add 192.0.2.0/24 dev data0 table 100")
    work(pair, plan(), 1350)


@pytest.mark.parametrize("backend", ["vxlan", "host-gw"])
def test_a_vip_before_the_nodes_address_is_not_what_pods_see(
    pair: list[Host], backend: str
) -> None:
    one, two = pair
    one.ip("addr flush dev eth0 scope global")
    one.ip("addr add 192.0.2.100/24 dev eth0")
    one.ip("addr add 192.0.2.11/24 dev eth0")
    one.ip("route add default via 192.0.2.1")
    work(pair, plan(backend=backend), 1450 if backend == "vxlan" else 1500)
    two.run("nft", "table ip seen { chain c { type filter hook prerouting priority -300; "
                   "ip saddr 192.0.2.100 drop; }; }")  # fmt: skip
    one.run("ping", "-c", "1", "-W", "2", "10.244.1.9")
    own = "10.244.0.0" if backend == "vxlan" else "192.0.2.11"
    assert f"src {own} " in one.run("ip", "route", "get", "10.244.1.9")
    # The VIP goes to another host: nothing but the source follows.
    one.ip("addr del 192.0.2.100/24 dev eth0")
    if not one.run("ip", "addr", "show", "dev", "eth0", "to", "192.0.2.11"):
        one.ip("addr add 192.0.2.11/24 dev eth0")
    assert "error" not in converge(one, plan(backend=backend))
    assert converge(one, plan(backend=backend))["lines"] == []
    ping(one, "10.244.1.9", 1422 - 50)


def test_wider_routes_of_others_are_left_alone(pair: list[Host]) -> None:
    for host in pair:
        for destination in ("0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/8", "10.244.0.0/16"):
            host.ip(f"route add {destination} via 192.0.2.1")
        host.ip("route add 10.244.200.0/24 via 192.0.2.1")
    (told, _) = work(pair, plan(), 1450)
    (note,) = [one for one in told if "routes of others" in one]
    assert "10.244.0.0/16 via 192.0.2.1" in note
    assert "10.244.200.0/24 via 192.0.2.1" in note
    assert "10.0.0.0/8" not in note
    assert "via 192.0.2.1" in route(pair[0], "10.0.0.0/8")


def test_a_peer_without_a_route_is_told_and_works_when_there_is_one(pair: list[Host]) -> None:
    def mute(host: Host) -> None:
        host.ip("addr flush dev eth0 scope global")
        host.ip("addr add 192.0.2.11/32 dev eth0")

    mute(pair[0])
    text = plan()
    done = converge(pair[0], text)
    assert any("no route to n2 (192.0.2.12) now" in one for one in done["warnings"])
    pair[0].ip("route add 192.0.2.0/24 dev eth0")
    assert converge(pair[0], text)["lines"] == []
    assert "error" not in converge(pair[1], text)
    for number, host in enumerate(pair):
        pod(host, number)
    ping(pair[0], "10.244.1.9", 1422)


def test_thousands_of_peers_are_asked_for_in_one_process(pair: list[Host]) -> None:
    asked = pair[0].python(
        """
import json, sys, time
from podnet.kernel.underlay import RouteQuery, find
started = []
sys.addaudithook(lambda event, _: started.append(event) if event == "subprocess.Popen" else None)
questions = [RouteQuery(f"10.{n // 65536}.{n // 256 % 256}.{n % 256}", "192.0.2.11")
             for n in range(4000)]
began = time.process_time()
found = find(questions, {"eth0": 1500}, "n1")
print(json.dumps({"found": len(found), "processes": len(started),
                  "cpu": time.process_time() - began}))
"""
    )
    assert (asked["found"], asked["processes"]) == (4000, 1), asked


#: How pods' packets to another node leave over IPv6, and what takes their gateway's MAC.
OVER_IPV6 = {
    "IPv6 of dual stack": (document(2, backend="host-gw"), "fd00:244:0:1::9"),
    "IPv4 via inet6": (
        json.dumps(
            {
                **json.loads(document(2, six=False, backend="host-gw")),
                "underlay": 6,
                "nodes": [
                    {key: value for key, value in node.items() if key not in ("ip", "ip_prefix")}
                    for node in json.loads(document(2, six=False))["nodes"]
                ],
            }
        ),
        "10.244.1.9",
    ),
}


@pytest.mark.parametrize("name", OVER_IPV6)
def test_a_device_without_link_local_address_is_named(pair: list[Host], name: str) -> None:
    text, target = OVER_IPV6[name]
    for number, host in enumerate(pair):
        host.ip("-6 addr flush dev eth0 scope link")
        [said] = [one for one in converge(host, text)["warnings"] if "link-local" in one]
        assert said.startswith(f"{host.name}: eth0 has no IPv6 link-local address"), said
        pod(host, number, 1500)
    sent = ("ip", "netns", "exec", "pod", "ping", "-c2", "-W1", target)
    time.sleep(2.5)  # until the pods' own addresses may be used
    for host in pair:
        host.ip("-6 neigh flush dev eth0")
    assert "100% packet loss" in pair[0].run(*sent, check=False)
    for host in pair:
        host.ip("link set eth0 addrgenmode eui64")
        host.ip("link set eth0 down")
        host.ip("link set eth0 up")
        host.ip(f"addr replace fd00:2::1{1 + pair.index(host)}/64 dev eth0 nodad")
        done = converge(host, text)
        assert not [one for one in done["warnings"] if "link-local" in one]
    ping(pair[0], target, 1400)
    overlay = document(2, backend="vxlan")
    pair[0].ip("-6 addr flush dev eth0 scope link")
    assert not [one for one in converge(pair[0], overlay)["warnings"] if "link-local" in one]

"""Whose address packets from a pod have outside: excluded destinations see the pod's own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from podnet.core.model import Plan
from podnet.plan import routes

from tests.kernel.netns_hosts import Host, hosts, plan_document
from tests.kernel.test_network import applied, converge, document, pod, remove

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]

#: Answers each connection with the address that it comes from.
SERVER = """
import socket
server = socket.create_server(("::", 7000), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    one, peer = server.accept()
    one.sendall(peer[0].encode())
    one.close()
"""
CLIENT = """
import socket, sys
for target in sys.argv[1:]:
    with socket.create_connection((target, 7000), timeout=5) as one:
        print(one.recv(99).decode().replace("::ffff:", ""))
"""

OUTSIDE = ["198.51.100.9", "198.51.100.10", "172.20.0.9", "172.32.0.9", "203.0.113.9"]
OUTSIDE6 = ["2001:db8:9::9", "2001:db8:9::a", "2001:db8:8000::9", "2001:db8:7fff::9"]
NODE, NODE6 = "192.0.2.11", "fd00:2::11"
POD, POD6 = "10.244.0.9", "fd00:244::9"

#: A network whose length is no multiple of 8, and a single address, in both families.
EXCLUDED = ["172.16.0.0/12", "198.51.100.9/32", "2001:db8:8000::/33", "2001:db8:9::9/128"]
SOURCES = dict(zip(OUTSIDE, [POD, NODE, POD, NODE, NODE], strict=True)) | dict(
    zip(OUTSIDE6, [POD6, NODE6, POD6, NODE6], strict=True)
)


@pytest.fixture
def host() -> Iterator[Host]:
    """A host whose router has the addresses outside, and the routes that podnet names."""
    with hosts(1, bare=True) as (made,):
        router = made.underlay
        router.run("sysctl", "-qw", "net.ipv6.conf.u0.accept_dad=0")
        router.ip("addr add fd00:2::1/64 dev u0 nodad")
        for address in OUTSIDE + OUTSIDE6:
            router.ip(f"addr add {address} dev lo")
        made.ip("-6 route add default via fd00:2::1")
        plan = plan_document(1)
        plan["nodes"][0]["ip6"] = NODE6
        for line in routes.lines(Plan.from_document(plan), "ip"):
            router.run(*line.split())
        with answering(router):
            yield made


@contextlib.contextmanager
def answering(host: Host) -> Iterator[None]:
    """Run the server on a host."""
    server = subprocess.Popen(
        [*host.enter, sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield
    finally:
        server.kill()
        server.wait()
        if server.stdout:
            server.stdout.close()


def sources(host: Host) -> dict[str, str]:
    """Return which address each destination sees."""
    client = ["ip", "netns", "exec", "pod", sys.executable, "-c", CLIENT]
    return dict(zip(SOURCES, host.run(*client, *SOURCES).split(), strict=True))


def plan(*excluded: str, **changes: Any) -> str:
    return document(1, **({"masquerade_exclude": list(excluded)} if excluded else {}), **changes)


def test_excluded_destinations_see_the_pods_own_address(host: Host) -> None:
    everything = {one: NODE6 if ":" in one else NODE for one in SOURCES}
    applied(host, plan())
    pod(host, 0)
    # The first packets over IPv6 wait for link-local addresses.
    host.run("sleep", "2")
    assert sources(host) == everything

    check = converge(host, plan(*EXCLUDED), check=True)
    assert "ip saddr 10.244.0.0/24 ip daddr 172.16.0.0/12 return" in check["diff"]["after"]
    assert applied(host, plan(*EXCLUDED))["diff"] == check["diff"]
    assert applied(host, plan(*EXCLUDED))["lines"] == []
    assert sources(host) == SOURCES

    # Drift: one rule is lost, another is wrong.
    for spoil in (
        "nft delete rule inet podnet postrouting handle $(nft -a list table inet podnet | "
        "sed -n 's/.*172.16.0.0.*handle //p')",
        "nft list table inet podnet | sed 's/172.16.0.0/172.32.0.0/; 1i delete table inet podnet' "
        "| nft -f -",
    ):
        host.run("sh", "-ec", spoil)
        assert sources(host)["172.20.0.9"] == NODE
        check = converge(host, plan(*EXCLUDED), check=True)
        assert check["lines"]
        assert applied(host, plan(*EXCLUDED))["diff"] == check["diff"]
        assert sources(host) == SOURCES

    host.run("sh", "-ec", "nft flush ruleset; rm -f /run/podnet/*")
    host.run("sh", "/etc/podnet/replay", "podnet")
    assert sources(host) == SOURCES
    assert applied(host, plan(*EXCLUDED))["lines"] == []

    applied(host, plan())
    assert sources(host) == everything
    host.ip("netns del pod")
    remove(host)
    assert "podnet" not in host.run("nft", "list", "ruleset")


def test_a_whole_family_is_excluded(host: Host) -> None:
    """Pods with public IPv6 addresses, and private IPv4 ones."""
    applied(host, plan("::/0"))
    pod(host, 0)
    host.run("sleep", "2")
    assert sources(host) == {one: POD6 if ":" in one else NODE for one in SOURCES}
    assert applied(host, plan("::/0"))["lines"] == []


def test_without_masquerade_all_see_it_and_the_routes_bring_answers_back(host: Host) -> None:
    applied(host, plan(masquerade=False))
    pod(host, 0)
    host.run("sleep", "2")
    assert sources(host) == {one: POD6 if ":" in one else POD for one in SOURCES}


@pytest.mark.parametrize("backend", ["vxlan", "host-gw"])
def test_the_nodes_own_network_is_excluded(backend: str) -> None:
    """Answers come by the overlay. As docs/addresses.md says, a strict rp_filter minds with VXLAN."""
    with hosts(2, bare=True) as (one, two), answering(two):
        made = document(2, backend=backend, masquerade_exclude=["192.0.2.0/24", "fd00:2::/64"])
        for host in (one, two):
            applied(host, made)
        pod(one, 0)
        ask = ["ip", "netns", "exec", "pod", sys.executable, "-c", CLIENT]
        for strict, seen in (("2", POD), ("1", "" if backend == "vxlan" else POD)):
            two.run("sysctl", "-qw", f"net.ipv4.conf.all.rp_filter={strict}")
            assert one.run(*ask, "192.0.2.12", check=False).strip() == seen
        assert one.run(*ask, "fd00:2::12").strip() == POD6

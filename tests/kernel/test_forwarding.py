"""Per-device forwarding on real kernels: pods reach each other whatever the default says."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.kernel.netns_hosts import Host, hosts
from tests.kernel.test_network import applied, converge, document, ping, pod, remove

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]

HARDENED = "sysctl -qw net.ipv4.ip_forward={} net.ipv4.conf.default.forwarding=0"


@pytest.fixture
def pair() -> Iterator[list[Host]]:
    with hosts(2, bare=True) as made:
        yield made


def sysctls(host: Host) -> str:
    text = host.run("sh", "-c", "sysctl -a 2>/dev/null | grep -E 'ip_forward |[.]forwarding'")
    return "\n".join(line for line in text.splitlines() if "vethpod" not in line)


@pytest.mark.parametrize("backend", ["vxlan", "host-gw"])
def test_devices_that_are_made_with_forwarding_off_forward(pair: list[Host], backend: str) -> None:
    """Hardening roles set conf.default.forwarding=0 and leave ip_forward to who needs it."""
    one, two = pair
    plan = document(2, backend=backend)
    one.run("sh", "-ec", HARDENED.format(1))
    one.run("sysctl", "-qw", "net.ipv4.conf.eth0.forwarding=0")
    before = sysctls(one)
    check = converge(one, plan, check=True)
    run = applied(one, plan)
    assert run["diff"] == check["diff"]
    applied(two, plan)
    for number, host in enumerate(pair):
        pod(host, number, 1450)
    ping(one, "10.244.1.9", 100)
    ping(two, "10.244.0.9", 100)
    assert applied(one, plan)["lines"] == []
    # A reboot: nothing is left, no pod either, and whoever hardens has set the default again.
    one.run("sh", "-ec", "ip link del vethpod; ip link del cni0; ip link del flannel.1 || true")
    one.run("sysctl", "-qw", "net.ipv4.conf.eth0.forwarding=0")
    one.run("sh", "/etc/podnet/replay", "podnet")
    assert converge(one, plan, check=True)["lines"] == []
    # What another tool turned off meanwhile leaves nothing to put back but the host's own.
    one.run("sysctl", "-qw", "net.ipv4.conf.cni0.forwarding=0")
    applied(one, plan)
    remove(one)
    assert sysctls(one) == before


def test_ip_forward_brings_all_devices_along_and_is_put_back(pair: list[Host]) -> None:
    host = pair[0]
    host.run("sh", "-ec", HARDENED.format(0))
    before = sysctls(host)
    check = converge(host, document(2), check=True)
    assert applied(host, document(2))["diff"] == check["diff"]
    # One line is enough: the kernel sets the devices, and the new ones take the default.
    forward = [line for line in check["lines"] if "ipv4" in line and "forward" in line]
    assert forward == ["sysctl: net.ipv4.ip_forward=1"]
    assert host.run("sysctl", "-n", "net.ipv4.conf.cni0.forwarding") == "1\n"
    remove(host)
    assert sysctls(host) == before


def test_a_reset_knows_what_the_host_had_before_another_tool_came(pair: list[Host]) -> None:
    host = pair[0]
    host.run("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv4.conf.eth0.forwarding=1")
    before = sysctls(host)
    applied(host, document(2))
    host.run("sysctl", "-qw", "net.ipv4.conf.eth0.forwarding=0")
    applied(host, document(2))
    remove(host)
    assert sysctls(host) == before
    assert host.run("sh", "-c", "ls /etc/podnet 2>/dev/null || true") == ""


def test_an_undone_switch_brings_back_a_device_that_forwards(pair: list[Host]) -> None:
    """Undoing makes the old device anew, under the same bad default."""
    one, two = pair
    one.run("sh", "-ec", HARDENED.format(1))
    for host in pair:
        applied(host, document(2))
    other = document(2, backend="host-gw")
    for phase in ("prepare", "shift", "commit"):
        for host in pair:
            applied(host, other, phase)
    for phase in ("prepare", "shift", "commit"):
        for host in pair:
            applied(host, document(2), phase)
    assert one.run("sysctl", "-n", "net.ipv4.conf.flannel/1.forwarding") == "1\n"
    for number, host in enumerate(pair):
        pod(host, number)
    ping(one, "10.244.1.9", 100)
    ping(two, "10.244.0.9", 100)


def test_an_underlay_that_is_gone_does_not_hinder_a_reset(pair: list[Host]) -> None:
    host = pair[0]
    host.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.eth0.forwarding=0")
    applied(host, document(2))
    host.ip("link set eth0 down")
    host.ip("link set eth0 name wan0")
    remove(host)
    assert host.run("sysctl", "-n", "net.ipv4.ip_forward") == "1\n"

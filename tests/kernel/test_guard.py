"""Who may send into the overlay: nodes of the plan, and nobody else; other networks are let alone."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.netns_hosts import Host, hosts
from tests.kernel.test_network import (
    applied,
    converge,
    document,
    observed,
    ping,
    pod,
    remove,
    snapshot,
)

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]

INTRUDER = (Path(__file__).parent.parent / "intruder.py").read_text()

#: The inner MAC of n1's VTEP, a pod of n2's, and the pod of n1.
INNER = ("--mac", "02:00:0a:f4:00:00", "--source", "10.244.1.9", "--target", "10.244.0.9")


@pytest.fixture
def segment() -> Iterator[list[Host]]:
    """Two nodes with a pod each, and a host on their segment that is none."""
    with hosts(3, bare=True) as made:
        yield made


def ready(segment: list[Host], **changes: Any) -> None:
    for number, host in enumerate(segment[:2]):
        applied(host, document(2, **changes))
        pod(host, number)


def send(
    host: Host, to: str = "192.0.2.11", *arguments: str, namespace: tuple[str, ...] = ()
) -> None:
    host.run(*namespace, sys.executable, "-c", INTRUDER, "--to", to, *INNER, *arguments)


def arrived(host: Host) -> int:
    """Return how many datagrams came to the pod, where nobody waits for them."""
    text = host.run("ip", "netns", "exec", "pod", "cat", "/proc/net/snmp")
    names, values = (line.split() for line in text.splitlines() if line.startswith("Udp:"))
    return int(dict(zip(names, values, strict=True))["NoPorts"])


def dropped(host: Host) -> int:
    """Return what the guard has counted."""
    text = host.run("nft", "list", "chain", "inet", "podnet", "guard")
    found = re.search(r"counter packets (\d+)", text)
    assert found, text
    return int(found.group(1))


@pytest.mark.parametrize("masquerade", [True, False])
def test_only_a_node_reaches_a_pod_through_the_overlay(
    segment: list[Host], masquerade: bool
) -> None:
    one, two, stranger = segment
    ready(segment, masquerade=masquerade)
    send(two)
    assert (arrived(one), dropped(one)) == (5, 0)
    ping(one, "10.244.1.9", 1422)
    # To the node's address, to everybody, and from another address than the known one.
    for count, to in enumerate(("192.0.2.11", "192.0.2.255", "255.255.255.255"), 1):
        send(stranger, to, "--own", "192.0.2.13")
        assert (arrived(one), dropped(one)) == (5, 5 * count), to
    two.ip("addr add 192.0.2.77/24 dev eth0")
    send(two, "192.0.2.11", "--own", "192.0.2.77")
    assert (arrived(one), dropped(one)) == (5, 20)

    # Without the guard all of that arrives, so the packets are right.
    applied(one, document(2, masquerade=masquerade, guard=False))
    assert "guard" not in one.run("nft", "list", "ruleset")
    send(stranger)
    send(stranger, "192.0.2.255")
    assert arrived(one) == 15


def test_neither_a_pod_nor_a_process_of_the_host_sends_into_it(segment: list[Host]) -> None:
    """A pod may forge a node's address, and a process of the host has its own node's."""
    one = segment[0]
    ready(segment)
    inside = ("ip", "netns", "exec", "pod")
    send(one, "10.244.0.1", namespace=inside)
    one.ip("-n pod addr add 192.0.2.12/32 dev eth0")
    send(one, "192.0.2.11", "--own", "192.0.2.12", namespace=inside)
    send(one, "127.0.0.1")
    send(one, "192.0.2.11")
    assert (arrived(one), dropped(one)) == (0, 20)
    applied(one, document(2, guard=False))
    send(one, "127.0.0.1")
    send(one, "10.244.0.1", namespace=inside)
    assert arrived(one) == 10


def test_another_network_on_the_port_keeps_its_peers(segment: list[Host]) -> None:
    """Its VNI is another one; so are its nodes."""
    one, _two, stranger = segment
    ready(segment)
    for host, peer, mac in ((one, "192.0.2.13", "02:00:00:00:00:0b"),
                            (stranger, "192.0.2.11", "02:00:00:00:00:0a")):  # fmt: skip
        own = "0a" if host is one else "0b"
        local = "11" if host is one else "13"
        host.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        host.ip(
            f"link add other address 02:00:00:00:00:{own} type vxlan id 7 dstport 8472 "
            f"local 192.0.2.{local} nolearning"
        )
        host.ip("link set other up")
        host.ip(f"addr add 172.16.0.{local}/24 dev other")
        host.run("bridge", "fdb", "add", mac, "dev", "other", "dst", peer, "self", "permanent")
        host.ip(f"neigh add 172.16.0.{peer[-2:]} lladdr {mac} dev other nud permanent")
    assert " 0% packet loss" in stranger.run("ping", "-c", "3", "-i", "0.2", "172.16.0.11")
    assert dropped(one) == 0


@pytest.mark.parametrize("masquerade", [True, False])
def test_a_packet_in_fragments_is_judged_as_a_whole(segment: list[Host], masquerade: bool) -> None:
    """The first fragment may be too short for a VNI; without connection tracking it comes alone."""
    one, _two, stranger = segment
    ready(segment, masquerade=masquerade)
    code = f"""
import socket, struct
given = {{}}
exec(compile({INTRUDER!r}, "intruder", "exec"), given)
frame = given["vxlan"](1, given["inner"]({INNER[1]!r}, {INNER[3]!r}, {INNER[5]!r}))
datagram = struct.pack("!4H", 5000, 8472, 8 + len(frame), 0) + frame
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
ends = socket.inet_aton("192.0.2.13") + socket.inet_aton("192.0.2.11")
for number in (7, 8):
    for start, stop in ((0, 8), (8, len(datagram))):
        more = 0x2000 if stop < len(datagram) else 0
        length = 20 + stop - start
        head = struct.pack("!BBHHHBBH", 69, 0, length, number, more | start // 8, 64, 17, 0)
        raw.sendto(head + ends + datagram[start:stop], ("192.0.2.11", 0))
"""
    stranger.run(sys.executable, "-c", code)
    assert (arrived(one), dropped(one)) == (0, 2)
    applied(one, document(2, masquerade=masquerade, guard=False))
    stranger.run(sys.executable, "-c", code.replace("(7, 8)", "(9, 10)"))
    assert arrived(one) == 2


def test_over_ipv6(segment: list[Host]) -> None:
    one, two, stranger = segment
    ready(segment, underlay=6)
    ping(one, "10.244.1.9", 1402)
    send(two, "fd00:2::11")
    send(stranger, "fd00:2::11")
    assert (arrived(one), dropped(one)) == (5, 5)


def test_a_node_comes_and_goes_without_touching_the_table(segment: list[Host]) -> None:
    one, two, third = segment
    ready(segment)
    third.run("sh", "-c", "sysctl -qw net.ipv4.conf.all.rp_filter=0")
    send(third)
    handle = one.run("nft", "-a", "list", "chain", "inet", "podnet", "guard")
    joined = converge(one, document(3), check=True)
    assert "table inet podnet set nodes4 element 192.0.2.13" in joined["diff"]["after"]
    assert applied(one, document(3))["diff"] == joined["diff"]
    assert applied(one, document(3))["lines"] == []
    send(third)
    assert (arrived(one), dropped(one)) == (5, 5)
    assert one.run("nft", "-a", "list", "chain", "inet", "podnet", "guard") == handle
    left = applied(one, document(2))
    assert "nft delete element inet podnet nodes4 { 192.0.2.13 }" in [
        line.replace("nft: ", "nft ") for line in left["lines"]
    ]
    send(third)
    assert (arrived(one), dropped(one)) == (5, 10)
    send(two)
    assert arrived(one) == 10


def test_boot_files_bring_it_back_and_a_reset_takes_it_away(segment: list[Host]) -> None:
    one, two, stranger = segment
    before = snapshot(one)
    ready(segment)
    good = observed(one)
    assert good["members"] == ["192.0.2.11 in nodes4 of podnet", "192.0.2.12 in nodes4 of podnet"]
    assert good["tables"]["podnet"][0]["chain"] == "guard"
    one.run("sh", "-ec", "nft flush ruleset; rm -f /run/podnet/*")
    assert one.run("sh", "/etc/podnet/replay", "podnet")
    assert observed(one) == good
    # What was counted is no reason to set anything again.
    one.run("sh", "/etc/podnet/replay", "podnet")
    send(stranger)
    assert dropped(one) == 5
    assert one.run("sh", "/etc/podnet/replay", "podnet") == ""
    assert dropped(one) == 5
    assert converge(one, document(2), check=True)["lines"] == []
    send(two)
    assert arrived(one) == 5
    one.ip("netns del pod")
    remove(one)
    assert snapshot(one) == before


def test_an_address_changes_in_phases_and_both_count_until_the_end(segment: list[Host]) -> None:
    one, two, _stranger = segment
    ready(segment)
    two.ip("addr add 192.0.2.22/24 dev eth0")
    made = json.loads(document(2))
    made["nodes"][1]["ip"] = "192.0.2.22"
    plan = json.dumps(made)
    # The node itself says that it must not change alone.
    assert [converge(host, plan, check=True)["switching"] for host in (one, two)] == [False, True]
    for phase, allowed in (("prepare", 2), ("shift", 2), ("commit", 1)):
        for host in (one, two):
            applied(host, plan, phase)
            # Each host may be a phase ahead of the other.
            ping(one, "10.244.1.9", 100)
            ping(two, "10.244.0.9", 100)
        peers = [
            line
            for line in observed(one)["members"]
            if line.startswith(("192.0.2.12", "192.0.2.22"))
        ]
        assert len(peers) == allowed, phase
    assert converge(one, plan, check=True)["lines"] == []
    assert dropped(one) == dropped(two) == 0


def test_a_host_that_cannot_have_it_goes_without(segment: list[Host]) -> None:
    one = segment[0]
    one.run(
        "sh", "-ec",
        "real=$(readlink -f $(command -v nft)); cp $real /run/nft.real; "
        "printf '#!/bin/sh\\n[ \"$1\" != -c ] || { echo \"Error: Could not process rule\" >&2; "
        "exit 1; }\\nexec /run/nft.real \"$@\"\\n' >/run/nft.without; chmod +x /run/nft.without; "
        "mount --bind /run/nft.without $real",
    )  # fmt: skip
    result = one.python(
        "import json\n"
        "from podnet.host import converge, target\n"
        "from podnet.backends.document import plan_from_text\n"
        f"done = converge.converge(plan_from_text({document(2)!r}), 'n1', 'all', False)\n"
        "again = converge.converge(plan_from_text("
        f"{document(2)!r}), 'n1', 'all', False)\n"
        "print(json.dumps([done.warnings, target.commands(again.changes, 99)]))"
    )
    assert any("n1: without podnet_guard" in line for line in result[0]), result
    assert "Could not process rule" in str(result[0])
    assert result[1] == []
    assert "guard" not in one.run("nft", "list", "ruleset")
    assert "masquerade" in one.run("nft", "list", "ruleset")


def test_a_rule_that_gives_packets_another_source_is_found_before_anything_is_dropped(
    segment: list[Host],
) -> None:
    """Without a guard the overlay works so; with one, the others would drop it all."""
    one, two, _stranger = segment
    ready(segment, guard=False)
    one.ip("addr add 192.0.2.7/24 dev eth0")
    one.run(
        "nft",
        "add table ip t; add chain ip t c { type nat hook postrouting priority 100; }; "
        "add rule ip t c oifname eth0 snat to 192.0.2.7",
    )
    ping(one, "10.244.1.9", 100)
    before = snapshot(one)
    for check in (True, False):
        error = converge(one, document(2), check=check)["error"]
        for words in (
            "n1: ",
            "flannel.1",
            "192.0.2.7 instead of 192.0.2.11",
            "podnet_guard: false",
        ):
            assert words in error
    assert snapshot(one) == before
    assert converge(one, document(2, guard=False))["lines"] == []
    assert converge(two, document(2), check=True)["lines"]

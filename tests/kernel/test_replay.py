"""The boot files on real kernels: a bare host comes back, drift is repaired, silence otherwise."""

from __future__ import annotations

import json
import os
import subprocess
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


#: An `ip` beside which somebody takes away what a replay has just set, as networkd does when it
#: configures a link again.
_TAKEN = """
real=$(readlink -f $(command -v ip))
cp $real /run/ip.real
cat >/run/ip.taken <<'END'
#!/bin/sh
/run/ip.real "$@" || exit
[ "$*" != "-force -batch -" ] || /run/ip.real {what} 2>/dev/null || true
END
chmod +x /run/ip.taken
mount --bind /run/ip.taken $real
"""


@pytest.mark.parametrize("found", ["there", "missing"])
@pytest.mark.parametrize("what", ["route del 10.244.1.0/24", "addr del 10.244.0.1/24 dev cni0"])
def test_what_goes_while_a_replay_works_is_back_after_the_next(
    host: Host, what: str, found: str
) -> None:
    plan = document(2, backend="host-gw")
    applied(host, plan)
    good = kernel(host)
    if found == "missing":
        host.run("/bin/ip", *what.split())
    host.run("rm", "-f", "/run/podnet/podnet.seen")
    host.run("sh", "-ec", _TAKEN.format(what=what))
    try:
        host.run(*REPLAY, check=False)
        assert kernel(host) != good
    finally:
        host.run("sh", "-ec", "umount $(readlink -f $(command -v ip))")
    said = host.run(*REPLAY)
    assert kernel(host) == good, said
    host.run(*REPLAY)
    assert host.run("cat", "/run/podnet/podnet.seen").startswith("/etc/podnet/podnet/boot.")


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
    "sysctl -qw net.ipv4.conf.cni0.forwarding=0": "> sysctl net.ipv4.conf.cni0.forwarding = 1",
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
    text = f"({text}\n); echo ended with $?"
    said = host.run("flock", "/run/podnet/podnet.lock", "sh", "-c", text, "replay", "podnet")
    assert "holds the network" in said
    # Not 0: nobody may take the network for rebuilt.
    assert "ended with 75" in said
    assert host.run("ip", "route", "show", "10.244.1.0/24") == ""
    host.run(*REPLAY)


def test_nothing_of_it_is_left(host: Host) -> None:
    applied(host, document(2))
    host.run(*REPLAY)
    remove(host)
    left = host.run("sh", "-c", "find /etc /run -path '*podnet*' ! -path /run/podnet.lock")
    assert left.split() == []


#: What the host's own network lacks at boot, and how it comes; the interface may be renamed.
LATE = {
    "the address": ("true", "ip addr add 192.0.2.11/24 dev eth0"),
    "the link": (
        "ip link set eth0 down",
        "ip link set eth0 up; ip addr add 192.0.2.11/24 dev eth0",
    ),
    "the address, on a renamed interface": (
        "ip link set eth0 name enp1s0.7",
        "ip addr add 192.0.2.11/24 dev enp1s0.7",
    ),
}


def four(**changes: Any) -> str:
    made = json.loads(document(2, six=False, **changes))
    for node in made["nodes"]:
        del node["ip6"]
    return json.dumps(made)


@pytest.fixture
def fresh() -> Iterator[Host]:
    with hosts(2, bare=True) as made:
        made[0].run("nft", "add", "table", "inet", "others")
        yield made[0]


@pytest.mark.parametrize("late", LATE)
def test_what_comes_late_is_waited_for_and_found_by_its_address(fresh: Host, late: str) -> None:
    before, come = LATE[late]
    plan = four(backend="host-gw")
    applied(fresh, plan)
    assert "4 192.0.2.11 eth0" in fresh.run("cat", "/etc/podnet/podnet/boot/underlay")
    assert "via 192.0.2.12 dev @4" in fresh.run("cat", "/etc/podnet/podnet/boot/routes.batch")
    fresh.run("sh", "-ec", REBOOT + "ip addr flush dev eth0 scope global;" + before)
    # What can be set is: pods on this host have each other.
    said = fresh.run("sh", "-c", "sh /etc/podnet/replay podnet; echo ended with $?")
    assert "no interface has 192.0.2.11 (it was on eth0) now" in said
    assert "> link cni0" in said
    assert "ended with 1" in said
    again = fresh.run("sh", "-c", "sh /etc/podnet/replay podnet; echo ended with $?")
    assert again == "ended with 1\n", said
    waiting = f"sh /etc/podnet/replay podnet wait & pid=$!; {come}; wait $pid"
    assert "> route 10.244.1.0/24 via 192.0.2.12" in fresh.run("sh", "-ec", waiting)
    assert fresh.run(*REPLAY) == ""
    # The names in the files follow with the next run, and nothing else does.
    lines = converge(fresh, plan, check=True)["lines"]
    assert lines == [] or "name enp1s0.7" in before


@pytest.mark.parametrize("late", LATE)
def test_what_comes_while_the_boot_tries_is_not_too_late(fresh: Host, late: str) -> None:
    before, come = LATE[late]
    applied(fresh, four(backend="host-gw"))
    fresh.run("sh", "-ec", REBOOT + "ip addr flush dev eth0 scope global;" + before)
    # It comes after the first try, which has made the bridge.
    boot = f"""
      sh /etc/podnet/replay podnet boot & pid=$!
      until ip -o link show dev cni0 2>/dev/null | grep -q ,UP; do sleep 0.05; done
      {come}; wait $pid"""
    assert "> route 10.244.1.0/24 via 192.0.2.12" in fresh.run("sh", "-ec", boot)
    assert fresh.run(*REPLAY) == ""


def test_a_named_interface_is_found_again(fresh: Host) -> None:
    made = json.loads(four())
    made["nodes"][0]["interface"] = "eth0"
    applied(fresh, json.dumps(made))
    assert "via @4" in fresh.run("cat", "/etc/podnet/podnet/boot/fdb.batch")
    fresh.run("sh", "-ec", REBOOT + "ip link set eth0 down; ip link set eth0 name lan0 up")
    fresh.run(*REPLAY)
    assert "dst 192.0.2.12 via lan0" in fresh.run("bridge", "fdb", "show", "dev", "flannel.1")


def test_waiting_ends_when_the_network_is_removed(fresh: Host) -> None:
    plan = document(2, six=False, backend="host-gw")
    applied(fresh, plan)
    fresh.run("sh", "-ec", REBOOT + "ip addr flush dev eth0 scope global")
    waiting = subprocess.Popen(
        [*fresh.enter, *REPLAY, "wait"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        remove(fresh)
        assert waiting.wait(60) == 0
    finally:
        waiting.kill()
        waiting.wait()


def test_a_run_at_work_is_no_success(fresh: Host) -> None:
    applied(fresh, document(2, six=False))
    fresh.run("touch", "/run/podnet/podnet.rollback")
    assert "75" in fresh.run("sh", "-c", "sh /etc/podnet/replay podnet; echo $?")

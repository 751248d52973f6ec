"""Chains of others that drop: pods get through, nothing of ours is left, and Docker may return."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from tests.kernel.netns_hosts import Host, hosts
from tests.kernel.test_network import applied, converge, document, ping, pod, remove

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]

# fmt: off
#: A chain that drops -> (how its owner makes it, how it prints it, what our rules look like there).
DROPPERS = {
    "iptables-nft": ("iptables-nft -P FORWARD DROP; ip6tables-nft -P FORWARD DROP",
                     "iptables-nft-save", "-A FORWARD -i cni0"),
    "iptables-legacy": ("iptables-legacy -P FORWARD DROP; ip6tables-legacy -P FORWARD DROP",
                        "iptables-legacy-save", "-A FORWARD -i cni0"),
    "iptables that rejects at its end": ("iptables-nft -A FORWARD -j REJECT; ip6tables-nft -A FORWARD -j REJECT",
                                         "iptables-nft-save", "-A FORWARD -i cni0"),
    "nft with policy drop": ("nft 'table inet wall { chain f { type filter hook forward priority 0; policy drop; }; }'",
                             "nft list table inet wall", 'iifname "cni0" accept'),
    "nft that rejects at its end": ("nft 'table inet wall { chain f { type filter hook forward priority 5; counter reject; }; }'",
                                    "nft list table inet wall", 'iifname "cni0" accept'),
    "iptables that jumps to a chain that logs and drops": ("for t in iptables-nft ip6tables-nft; do $t -N LOGDROP; $t -A LOGDROP -j LOG; $t -A LOGDROP -j DROP; $t -A FORWARD -j LOGDROP; done",
                                                           "iptables-nft-save", "-A FORWARD -i cni0"),
    "nft that logs and drops": ("nft 'table inet wall { chain f { type filter hook forward priority 0; log prefix \"x\" drop; }; }'",
                                "nft list table inet wall", 'iifname "cni0" accept'),
    "nft that jumps to a chain that denies": ("nft 'table inet wall { chain deny { counter; reject; }; chain f { type filter hook forward priority 0; ct state vmap { established : accept, invalid : drop }; jump deny; }; }'",
                                              "nft list table inet wall", 'iifname "cni0" accept'),
    "one table for each family": ("nft 'table ip w4 { chain f { type filter hook forward priority 0; policy drop; }; }'; "
                                  "nft 'table ip6 w6 { chain f { type filter hook forward priority 0; policy drop; }; }'",
                                  "nft list ruleset", 'iifname "cni0" accept'),
}
# fmt: on


@pytest.fixture
def pair() -> Iterator[list[Host]]:
    with hosts(2, bare=True) as made:
        yield made


def rules(host: Host) -> str:
    commands = ("iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save")
    text = "".join(host.run("sh", "-c", f"{one} | grep -v '^#'", check=False) for one in commands)
    # Counters of packets are no rules.
    return host.run("nft", "-s", "list", "ruleset") + text


def reach(host: Host, other: int) -> None:
    ping(host, f"10.244.{other}.9", 100)
    ping(host, "fd00:244::9" if other == 0 else f"fd00:244:0:{other}::9", 100)


@pytest.mark.parametrize("dropper", DROPPERS)
def test_pods_get_through_and_nothing_is_left(pair: list[Host], dropper: str) -> None:
    make, save, ours = DROPPERS[dropper]
    one, two = pair
    one.run("sh", "-ec", make)
    before = one.run("sh", "-ec", f"{save} | sed 's/packets.*bytes [0-9]*//; s/\\[.*//; /^#/d'")
    plan = document(2)
    check = converge(one, plan, check=True)
    assert applied(one, plan)["diff"] == check["diff"]
    assert "podnet:podnet" in check["diff"]["after"]
    applied(two, plan)
    assert applied(one, plan)["lines"] == []
    for number, host in enumerate(pair):
        pod(host, number)
    reach(one, 1)
    reach(two, 0)
    # Somebody flushes the chain: the next run, and a replay without any, repair it.
    text = one.run("sh", "-ec", save)
    assert text.count(ours) == 1 + dropper.startswith("one table")
    for repair in (
        lambda: applied(one, plan),
        lambda: one.run("sh", "/etc/podnet/replay", "podnet"),
    ):
        one.run("sh", "-ec", f"nft flush ruleset; iptables-legacy -F FORWARD; {make}")
        repair()
        assert one.run("sh", "-ec", save).count(ours) == 1 + dropper.startswith("one table")
        assert applied(one, plan)["lines"] == []
        reach(one, 1)
    remove(one)
    assert (
        one.run("sh", "-ec", f"{save} | sed 's/packets.*bytes [0-9]*//; s/\\[.*//; /^#/d'")
        == before
    )
    assert "podnet" not in rules(one)


def test_rules_stay_while_the_owner_is_away(pair: list[Host]) -> None:
    host, plan = pair[0], document(2)
    host.run("iptables-nft", "-P", "FORWARD", "DROP")
    applied(host, plan)
    host.run("iptables-nft", "-P", "FORWARD", "ACCEPT")
    assert converge(host, plan, check=True)["lines"] == []


def test_who_wants_no_rules_gets_none_but_is_told(pair: list[Host]) -> None:
    host = pair[0]
    host.run("iptables-nft", "-P", "FORWARD", "DROP")
    made = json.loads(document(2))
    made["nodes"][0]["leave_alone"] = ["forward"]
    before = host.run("iptables-nft-save", "-t", "filter")
    applied(host, json.dumps(made))
    assert host.run("iptables-nft-save", "-t", "filter").split("\n")[1:6] == before.split("\n")[1:6]
    made["nodes"][0]["leave_alone"] = []
    assert applied(host, json.dumps(made))["lines"]
    made["nodes"][0]["leave_alone"] = ["forward"]
    applied(host, json.dumps(made))
    assert "podnet" not in host.run("iptables-nft-save", "-t", "filter")


def test_a_host_that_drops_nothing_gets_no_rule(pair: list[Host]) -> None:
    host = pair[0]
    host.run(
        "nft",
        "table inet fine { chain f { type filter hook forward priority 0; ip saddr 203.0.113.9 drop; }; }",
    )
    before = host.run("nft", "list", "table", "inet", "fine")
    applied(host, document(2))
    assert host.run("nft", "list", "table", "inet", "fine") == before
    assert host.run("cat", "/proc/net/ip_tables_names", check=False) == ""


def test_rules_of_ours_below_one_that_drops_come_to_the_top(pair: list[Host]) -> None:
    """Who inserts rules at the top puts them above ours."""
    for number, host in enumerate(pair):
        host.run("iptables-nft", "-P", "FORWARD", "DROP")
        applied(host, document(2))
        pod(host, number)
    one, two = pair
    one.run("iptables-nft", "-I", "FORWARD", "-s", "10.0.0.0/8", "-j", "DROP")
    check = converge(one, document(2), check=True)
    assert "(below a rule that drops)" in check["diff"]["before"]
    assert applied(one, document(2))["diff"] == check["diff"]
    ping(one, "10.244.1.9", 100)
    ping(two, "10.244.0.9", 100)
    assert applied(one, document(2))["lines"] == []
    assert one.run("iptables-nft", "-S", "FORWARD").count("podnet:podnet") == 2


# fmt: off
#: Rules -> whether packets between pods of two hosts get through without any rule of podnet's.
WALKED: dict[str, dict[str, bool]] = {
    "nft": {
        "ip saddr 10.0.0.0/8 drop": False,
        "ip saddr 192.0.2.0/24 drop": True,
        'iifname "eth0" drop': True,
        'iifname "cni0" oifname "flannel.1" reject': False,
        "ct state established,related accept; ct state new drop": False,
        "ct state vmap { established : accept, new : accept, invalid : drop }; drop": True,
        "jump deny": False,
        "goto fine; drop": True,
        "jump fine; drop": False,
        "tcp dport != 22 drop": True,
        "ip saddr @bad drop": False,
        "fib saddr . iif oif missing drop": True,
        "ip saddr . ip daddr { 10.244.0.0/16 . 10.244.0.0/16 } drop": False,
        "meta l4proto icmp counter log drop": False,
    },
    "iptables": {
        "-s 10.0.0.0/8 -j DROP": False,
        "! -s 10.0.0.0/8 -j DROP": True,
        "-i cni+ ! -o eth0 -j DROP": False,
        "-m conntrack --ctstate INVALID -j DROP": True,
        "-m iprange --src-range 10.244.0.0-10.244.255.255 -j DROP": False,
        "-p icmp -j DENY": False,
        "-g FINE": True,
        "-m addrtype --dst-type LOCAL,BROADCAST -j DROP": True,
        "-p udp -m udp ! --dport 53 -j DROP": True,
    },
}
# fmt: on

JUDGE = """
import json
from podnet.firewall import forward
from podnet.host import info, look
from podnet.backends.document import plan_from_text
from podnet.kernel import forward as eyes
plan = plan_from_text({plan!r})
seen = look.look(plan, "n1")
kinds = [(b, p) for b, p in forward.packets(plan, seen.node, seen.final)
         if b and p.protocol == "icmp" and p.family == 4]
found = [forward.judge(kinds, one) for one in eyes.read("podnet")[1]]
print(json.dumps([bool(one.drops or one.named) for one in found]))
"""


def test_the_walk_says_what_the_kernel_does(pair: list[Host]) -> None:
    """Each ruleset is loaded, a ping sent through it, and the answer compared."""
    one, _ = pair
    plan = document(2, six=False)
    for number, host in enumerate(pair):
        applied(host, plan)
        host.ip("netns add pod")
        host.ip("link add name vethpod mtu 1450 type veth peer name eth0 netns pod")
        host.ip("link set vethpod master cni0 up")
        host.ip("-n pod link set eth0 up")
        host.ip(f"-n pod addr add 10.244.{number}.9/24 dev eth0")
        host.ip(f"-n pod route add default via 10.244.{number}.1")
    sends = "ip netns exec pod ping -c 1 -W 1 10.244.1.9 >/dev/null && echo through || echo dead"
    one.run("sh", "-c", f"{sends}; {sends}")
    wrong = []
    for tool, cases in WALKED.items():
        for rules, through in cases.items():
            if tool == "nft":
                load = (
                    "nft -f - <<'EOF'\ntable inet wall {\n set bad { type ipv4_addr; flags interval; "
                    "elements = { 10.0.0.0/8 }\n }\n chain deny { counter\n drop\n }\n chain fine { "
                    "counter\n }\n chain f { type filter hook forward priority 0; "
                    + rules.replace("; ", "\n")
                    + "\n }\n}\nEOF"
                )
                unload = "nft delete table inet wall"
            else:
                deny = "iptables-nft -N DENY; iptables-nft -A DENY -j DROP; iptables-nft -N FINE; "
                load = f"{deny} iptables-nft -A FORWARD {rules}"
                unload = "iptables-nft -F; iptables-nft -X"
            one.run("sh", "-ec", load)
            said = one.python(JUDGE.format(plan=plan))
            sent = one.run("sh", "-c", sends).strip()
            one.run("sh", "-ec", unload)
            if (sent == "through") != through:
                wrong.append(f"{rules}: the test is wrong, {sent}")
            if any(said) != (sent == "dead"):
                wrong.append(f"{rules}: {sent}, the walk says {said}")
    assert wrong == []

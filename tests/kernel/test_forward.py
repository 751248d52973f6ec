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

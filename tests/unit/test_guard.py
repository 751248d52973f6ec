"""Which changes of addresses all hosts make together because of a guard, and who goes without one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from podnet.backends.document import plan_from_text
from podnet.backends.registry import BACKENDS
from podnet.core.state import GUARD, GUARD_HOOK, Chain, Link, State, make_rule
from podnet.kernel.observe import parse_members, parse_table
from podnet.plan.plan_run import run
from podnet.state import guard
from podnet.state.nft_rule import are_alike

PEER = ("flannel.1", "02:00:0a:f4:01:00")
CHAIN = Chain(GUARD, GUARD_HOOK, (make_rule("ip saddr @nodes4 accept", "from a node"),))
NAT = Chain("postrouting", "type nat hook postrouting priority 100", ())
#: What a run left for the boot.
BOOT = {
    "devices.batch": "link add flannel.1 type vxlan id 1 dstport 8472 local 192.0.2.11 nolearning\n",
    "fdb.batch": "fdb replace 02:00:0a:f4:01:00 dev flannel.1 dst 192.0.2.12 self permanent\n",
}


def state(local: str = "192.0.2.11", remote: str = "192.0.2.12", **changes: Any) -> State:
    options = f"id 1 dstport 8472 local {local} nolearning"
    made = State(
        links={"flannel.1": Link("vxlan", 1450, "", "podnet:podnet", options=options)},
        entries={PEER: remote},
        tables={"podnet": (CHAIN, NAT)},
        boot=BOOT,
    )
    return replace(made, **changes)


OWN = {"192.0.2.11", "192.0.2.21"}
WIREGUARD = Link("wireguard", 1420, "", "podnet:podnet", options="port 51820")
#: name: (before, final, the host's addresses, whether all hosts must keep step)
SOURCES: dict[str, tuple[State, State, set[str], bool]] = {
    "nothing": (state(), state(), OWN, False),
    "another address": (state(), state("192.0.2.21"), OWN, True),
    "the old one is gone": (state(), state("192.0.2.21"), {"192.0.2.21"}, False),
    "without a guard": (state(tables={}), state("192.0.2.21", tables={}), OWN, False),
    "the guard comes": (state(tables={}), state("192.0.2.21"), OWN, True),
    "the guard goes": (state(), state("192.0.2.21", tables={}), OWN, True),
    "somebody has changed it": (state("192.0.2.21"), state(), OWN, False),
    "another device": (state(links={"flannel.1": WIREGUARD}, entries={}), state(), OWN, False),
    "adopted": (state(boot={}, tables={}), state("192.0.2.21"), OWN, True),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_new_source_address_is_a_switch_and_a_repair_is_none(name: str) -> None:
    before, final, own, moving = SOURCES[name]
    assert guard.is_moving(before, final, own, unfinished=False) == moving


@pytest.mark.parametrize(
    ("bridge", "inside"),
    [
        ("cni0", "cni0, lo"),
        ("br.5", "br.5, lo"),
        ("0br", '"0br", lo'),
        # Without quotes nft 0.9.8, 1.0.6 and 1.1.3 refuse these two, 0.9.8 alone the third.
        ("bridge", '"bridge", lo'),
        ("mark", '"mark", lo'),
        ("gateway", '"gateway", lo'),
    ],
)
def test_a_bridge_is_quoted_where_nft_would_read_a_word_of_its_own(
    tmp_path: Path, bridge: str, inside: str
) -> None:
    host = {"name": "n1", "ansible_host": "192.0.2.11", "inventory_dir": str(tmp_path)}
    plan = plan_from_text(run([{**host, "podnet_bridge": bridge}])["document"])
    first = BACKENDS["vxlan"].guard(plan)[0].text
    assert f"iifname != {{ {inside} }} " in first
    # nft's JSON has no quotes.
    assert are_alike(first.replace('"', ""), first)


def test_in_the_middle_of_a_switch_peers_may_have_the_guard_that_this_host_has_no_more() -> None:
    before, final = state(tables={}), state("192.0.2.21", tables={})
    assert guard.is_moving(before, final, OWN, unfinished=True)


#: name: (before, final, whether the peer must be in the run)
PEERS: dict[str, tuple[State, State, bool]] = {
    "nothing": (state(), state(), False),
    "another address": (state(), state(remote="192.0.2.22"), True),
    "without a guard": (state(tables={}), state(remote="192.0.2.22", tables={}), False),
    "the guard comes": (state(tables={}), state(remote="192.0.2.22"), True),
    "somebody has changed it": (state(remote="192.0.2.77"), state(), False),
    "another way to the same address": (state(), state(remote="192.0.2.12 via eth1"), False),
    "a new peer": (state(entries={}), state(), False),
    "a peer that left": (state(), state(entries={}), False),
    "a peer that proves who it is": (
        state(links={"flannel.1": WIREGUARD}),
        state(links={"flannel.1": WIREGUARD}, remote="192.0.2.22"),
        False,
    ),
}


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_with_a_new_address_is_noticed(name: str) -> None:
    before, final, moving = PEERS[name]
    assert guard.moving_peers(before, final) == ([PEER] if moving else [])


def test_without_a_guard_the_rest_of_the_table_stays() -> None:
    one, alone = state(), state(tables={"podnet": (CHAIN,)})
    one.members = {("podnet", "192.0.2.11"): "nodes4"}
    guard.without(one)
    assert (one.tables, one.members) == ({"podnet": (NAT,)}, {})
    guard.without(alone)
    assert alone.tables == {}


# fmt: off
#: Lines as the kernel prints them.
SEEN = "ipv4     2 udp      17 29 src=192.0.2.11 dst=192.0.2.12 sport=5000 dport=8472 [UNREPLIED] src=192.0.2.12 dst={} sport=8472 dport=5000 mark=0 zone=0 use=2\n"
SEEN6 = "ipv6     10 udp      17 29 src=2001:0db8:0000:0000:0000:0000:0000:0011 dst=2001:0db8:0000:0000:0000:0000:0000:0012 sport=5000 dport=8472 src=2001:0db8:0000:0000:0000:0000:0000:0012 dst={} sport=8472 dport=5000 [ASSURED] mark=0 zone=0 use=2\n"
# fmt: on


@pytest.mark.parametrize(
    ("before", "text", "words"),
    [
        (state(), "", ()),
        (state(), SEEN.format("192.0.2.11"), ()),
        (state(), SEEN.format("198.51.100.7"), ("flannel.1", "198.51.100.7", "192.0.2.11")),
        (state(), SEEN.format("198.51.100.7").replace("8472", "53"), ()),
        (state(), SEEN.format("198.51.100.7").replace(" src=192.0.2.11", " src=10.0.0.1"), ()),
        (state(), SEEN.format("198.51.100.7").replace("udp", "tcp"), ()),
        (state(), "src= dst= nonsense\n" * 3, ()),
        (state(local=""), SEEN.format("198.51.100.7"), ()),
        (state("2001:db8::11"), SEEN6.format("2001:0db8:0000:0000:0000:0000:0000:0011"), ()),
        (state("2001:db8::11"), SEEN6.format("2001:0db8:0000:0000:0000:0000:0000:0099"), ("2001:db8::99",)),
        (state(links={"cni0": Link("bridge", 1450, "", "")}), SEEN.format("198.51.100.7"), ()),
    ],
)  # fmt: skip
def test_who_gives_packets_another_source_is_named(
    before: State, text: str, words: tuple[str, ...]
) -> None:
    found = guard.translated("n1", before, text)
    assert bool(found) == bool(words)
    for word in words and (*words, "n1: ", "podnet_guard: false"):
        assert word in found[0]


def test_a_host_without_it_is_told_the_way_out() -> None:
    said = guard.lacking("n1", "5.10", "Error: no fib")
    for word in ("n1: ", "5.10", "Error: no fib", "podnet_guard: false"):
        assert word in said


@pytest.mark.parametrize(
    ("entry", "members"),
    [
        ({"elem": ["192.0.2.11", "192.0.2.12"]}, {"192.0.2.11": "nodes4", "192.0.2.12": "nodes4"}),
        ({}, {}),
        ({"name": "nodes6", "type": "ipv6_addr", "elem": ["fd00::1"]}, {"fd00::1": "nodes6"}),
        ({"flags": ["timeout"]}, None),
        ({"name": "others"}, None),
        ({"name": "nodes6"}, None),
        ({"name": ["nodes4"]}, None),
        ({"elem": [{"prefix": {"addr": "192.0.2.0", "len": 24}}]}, None),
        ({"elem": "192.0.2.11"}, None),
        ({"elem": ["no address"]}, None),
    ],
)
def test_a_set_that_podnet_did_not_make_is_no_set_of_nodes(
    entry: dict[str, Any], members: dict[str, str] | None
) -> None:
    found = {"family": "inet", "table": "podnet", "name": "nodes4", "type": "ipv4_addr", **entry}
    document = {"nftables": [{"set": found}]}
    assert parse_members(document) == (members or {})
    assert (parse_table(document) == ()) == (members is not None)

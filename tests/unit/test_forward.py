"""Chains of others that drop: what is recognised as one, and what is put there."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from podnet.backends.document import plan_from_text
from podnet.core.state import Accept, State
from podnet.firewall import forward
from podnet.firewall import iptables as filter_iptables
from podnet.firewall import nft as filter_nft
from podnet.firewall.forward import Forwarder
from podnet.state.diff import changes

from tests.kernel.netns_hosts import plan_document

PLAN = plan_from_text(json.dumps(plan_document(2)))
ONLY4 = plan_from_text(json.dumps(plan_document(2, six=False)))


NODE = PLAN.nodes["n1"]
FINAL = State(
    routes={"10.244.1.0/24": "via 10.244.1.0 dev flannel.1 onlink", "fd00:244:0:1::/64": "dev eth0"}
)


def iptables(*lines: str, family: int = 4) -> Forwarder:
    tool = "iptables-nft" if family == 4 else "ip6tables-nft"
    rules = filter_iptables.rules(lines, "FORWARD", "podnet:podnet")
    return Forwarder(tool, "FORWARD", (family,), rules)


def nft(policy: str, *exprs: Any, sets: tuple[Any, ...] = (), **chains: Any) -> Forwarder:
    """Return chain f; further chains are lists of rules."""
    document: list[Any] = [{"chain": {"name": "f", "policy": policy}}, *sets]
    for name, those in {"f": exprs, **chains}.items():
        document.append({"chain": {"name": name, **({"policy": policy} if name == "f" else {})}})
        document += [
            {"rule": {"chain": name, "handle": 7 + at, "expr": expr}}
            for at, expr in enumerate(those)
        ]
    rules = filter_nft.rules({"nftables": document}, "f", "podnet:podnet ")
    return Forwarder("nft", "inet wall f", (4, 6), rules)


def verdict(chain: Forwarder) -> str:
    """Return "open" for podnet opens it, "named", "doubt", or "" for nothing to say."""
    judged = forward.judge(forward.packets(PLAN, NODE, FINAL), chain)
    if judged.named:
        return "named"
    return "open" if judged.drops else "doubt" if judged.doubts else ""


A, P = "-A FORWARD", "-P FORWARD ACCEPT"

# fmt: off
#: `iptables -S` -> what podnet says of it.
IPTABLES: dict[str, tuple[list[str], str]] = {
    "nothing at all": ([], ""),
    "policy accept": ([P], ""),
    "policy drop": (["-P FORWARD DROP"], "open"),
    "drop at the end": ([P, f"{A} -j DROP"], "open"),
    "reject at the end": ([P, f"{A} -j REJECT --reject-with icmp-port-unreachable"], "open"),
    "a comment with an option in it": ([P, f'{A} -m comment --comment "the -j end" -j DROP'], "open"),
    "a comment that begins with a dash": ([P, f'{A} -m comment --comment "-j ACCEPT" -j DROP'], "open"),
    "one address": ([P, f"{A} -s 203.0.113.9/32 -j DROP"], ""),
    "a target of a module": ([P, f"{A} -j DROPPED"], ""),
    "a chain that does nothing": ([P, "-N DOCKER-USER", f"{A} -j DOCKER-USER", "-A DOCKER-USER -j RETURN"], ""),
    "a chain that logs and drops": ([P, "-N LOGDROP", f"{A} -j LOGDROP", "-A LOGDROP -j LOG", "-A LOGDROP -j DROP"], "open"),
    "the same by goto": ([P, "-N LOGDROP", f"{A} -g LOGDROP", "-A LOGDROP -m limit --limit 5/min -j LOG --log-prefix \"a \\\"b\\\" \"", "-A LOGDROP -j DROP"], "open"),
    "behind a goto that returns, the policy counts": ([P, "-N X", f"{A} -g X", f"{A} -j DROP", "-A X -j LOG"], ""),
    "a jump that returns goes on": ([P, "-N X", f"{A} -j X", f"{A} -j DROP", "-A X -j RETURN", "-A X -j ACCEPT"], "open"),
    "two jumps deep": ([P, "-N X", "-N Y", f"{A} -j X", "-A X -j Y", "-A Y -j REJECT"], "open"),
    "chains that jump in a circle": ([P, "-N X", f"{A} -j X", "-A X -j X"], ""),
    "somebody accepts all pods before": ([P, f"{A} -s 10.244.0.0/16 -j ACCEPT", f"{A} -d 10.244.0.0/16 -j ACCEPT", f"{A} -j DROP"], ""),
    "somebody accepts pods in one direction": ([P, f"{A} -s 10.244.0.0/16 -d 10.244.0.0/16 -j ACCEPT", f"{A} -j DROP"], "open"),
    "answers are accepted, new ones not": ([P, f"{A} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", f"{A} -j DROP"], "open"),
    "what is invalid": ([P, f"{A} -m conntrack --ctstate INVALID -j DROP"], ""),
    "kube-proxy": ([P, "-N KUBE-FORWARD", f"{A} -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD", "-A KUBE-FORWARD -m conntrack --ctstate INVALID -m nfacct --nfacct-name ct_state_invalid_dropped_pkts -j DROP", "-A KUBE-FORWARD -m comment --comment x -m mark --mark 0x4000/0x4000 -j ACCEPT"], ""),
    "kube-proxy, a service without endpoints": ([P, f"{A} -d 10.96.0.10/32 -p udp -m udp --dport 53 -j REJECT"], ""),
    "Docker": (["-P FORWARD DROP", "-N DOCKER-USER", f"{A} -j DOCKER-USER", f"{A} -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", f"{A} -m set --match-set docker-ext-bridges-v4 dst -j ACCEPT"], "open"),
    "Docker isolates its own": ([P, "-N S1", "-N S2", f"{A} -j S1", "-A S1 -i docker0 ! -o docker0 -j S2", "-A S1 -j RETURN", "-A S2 -o docker0 -j DROP"], ""),
    "another device": ([P, f"{A} -i wan0 -j DROP", f"{A} -o wg+ -j DROP"], ""),
    "all but another device": ([P, f"{A} ! -i wan0 -j DROP"], "open"),
    "one port": ([P, f"{A} -p tcp -m tcp --dport 25 -j DROP", f"{A} -p udp -m multiport --dports 135,137:139 -j DROP"], ""),
    "all ports but one": ([P, f"{A} -p tcp -m tcp ! --dport 22 -j DROP"], "open"),
    "one protocol": ([P, f"{A} -p udp -j DROP"], "open"),
    "new TCP": ([P, f"{A} -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP"], "open"),
    "new TCP that does not begin like it": ([P, f"{A} -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m state --state NEW -j DROP"], ""),
    "private ranges that hold the pods'": ([P, f"{A} -s 10.0.0.0/8 -j DROP"], "open"),
    "private ranges that do not": ([P, f"{A} -s 172.16.0.0/12 -d 192.168.0.0/16 -j DROP"], ""),
    "pods are meant": ([P, f"{A} -s 10.244.0.0/16 -j DROP"], "named"),
    "the bridge is meant": ([P, f"{A} -i cni0 -j REJECT"], "named"),
    "the bridge is meant, beside a policy": (["-P FORWARD DROP", f"{A} -i cni0 -o flannel.1 -j DROP"], "named"),
    "a chain for the bridge": ([P, "-N X", f"{A} -i cni0 -j X", "-A X -j DROP"], "named"),
    "pods may not ask the world": ([P, f"{A} -i cni0 -o eth0 ! -d 10.244.0.0/16 -j DROP"], ""),
    "one pod": ([P, f"{A} -s 10.244.0.7/32 -j DROP"], ""),
    "one node's pods": ([P, f"{A} -d 10.244.1.0/25 -j DROP"], "doubt"),
    "a set": ([P, f"{A} -m set --match-set blacklist src -j DROP"], "doubt"),
    "a mark": ([P, f"{A} -m mark --mark 0x1/0xff -j DROP"], "doubt"),
    "a doubt in a chain": ([P, "-N X", f"{A} -m mark --mark 0x1 -j X", "-A X -j DROP"], "doubt"),
    "a doubt behind an accept of pods": ([P, f"{A} -i cni0 -j ACCEPT", f"{A} -o cni0 -j ACCEPT", f"{A} -m mark --mark 0x1 -j DROP"], ""),
    "a queue": ([P, f"{A} -j NFQUEUE --queue-num 0"], "doubt"),
    "broadcast": ([P, f"{A} -m addrtype --dst-type BROADCAST -j DROP", f"{A} -m pkttype --pkt-type multicast -j DROP"], ""),
    "a range of addresses": ([P, f"{A} -m iprange --src-range 10.0.0.0-10.255.255.255 -j DROP"], "open"),
    "an unfinished quote": ([P, f'{A} -m comment --comment "x -j DROP'], ""),
}
# fmt: on


@pytest.mark.parametrize("case", IPTABLES)
def test_iptables_is_walked_as_a_pods_packet_would(case: str) -> None:
    lines, expected = IPTABLES[case]
    assert verdict(iptables(*lines)) == expected


@pytest.mark.parametrize(
    ("lines", "drops", "named"),
    [
        ([P, f"{A} -i cni0 -o cni0 -j DROP"], False, True),
        ([P, f"{A} -m physdev --physdev-is-bridged -j DROP"], True, False),
        ([P, f"{A} -m physdev ! --physdev-is-bridged -j ACCEPT", f"{A} -j DROP"], True, False),
        ([P, f"{A} -s 10.244.0.0/24 -d 10.244.0.0/24 -j DROP"], False, True),
    ],
)
def test_packets_between_pods_of_one_host_count_where_they_pass_iptables(
    lines: list[str], drops: bool, named: bool
) -> None:
    chain = iptables(*lines)
    for bridged in ((), (6,)):
        judged = forward.judge(forward.packets(PLAN, NODE, FINAL, bridged), chain)
        assert (judged.drops, judged.named) == (False, ())
    judged = forward.judge(forward.packets(PLAN, NODE, FINAL, (4,)), chain)
    assert (judged.drops, bool(judged.named)) == (drops, named)


def test_the_families_are_told_apart() -> None:
    kinds = list(forward.packets(PLAN, NODE, FINAL))
    drop = iptables("-P FORWARD DROP", family=6)
    assert forward.judge(kinds, drop).drops
    only4 = list(forward.packets(ONLY4, ONLY4.nodes["n1"], FINAL))
    assert not forward.judge(only4, drop).drops


def match(left: Any, right: Any, op: str = "==") -> Any:
    return {"match": {"op": op, "left": left, "right": right}}


def meta(key: str) -> Any:
    return {"meta": {"key": key}}


def payload(protocol: str, field: str) -> Any:
    return {"payload": {"protocol": protocol, "field": field}}


def prefix(address: str, length: int) -> Any:
    return {"prefix": {"addr": address, "len": length}}


DROP: Any = {"drop": None}
ACCEPT: Any = {"accept": None}
SADDR, DADDR = payload("ip", "saddr"), payload("ip", "daddr")
STATE: Any = {"ct": {"key": "state"}}
BLACKLIST: Any = {
    "set": {
        "name": "bl",
        "elem": [prefix("198.51.100.0", 24), {"elem": {"val": "203.0.113.7", "timeout": 9}}],
    }
}
POISONED: Any = {"set": {"name": "bl", "elem": [prefix("10.0.0.0", 8)]}}
NO_ENDPOINT: Any = {"map": {"name": "m", "elem": [[{"concat": ["10.96.0.10", "udp", 53]}, DROP]]}}
SERVICE: Any = {"concat": [DADDR, meta("l4proto"), payload("th", "dport")]}

# fmt: off
NFT: dict[str, tuple[Forwarder, str]] = {
    "policy accept": (nft("accept"), ""),
    "policy drop": (nft("drop"), "open"),
    "drop": (nft("accept", [DROP]), "open"),
    "count and reject": (nft("accept", [{"counter": {}}, {"reject": {"type": "icmpx"}}]), "open"),
    "log and drop": (nft("accept", [{"log": {"prefix": "x"}}, DROP]), "open"),
    "a condition that podnet does not know": (nft("accept", [{"match": {}}, DROP]), "doubt"),
    "accept": (nft("accept", [ACCEPT]), ""),
    "accept before drop": (nft("drop", [ACCEPT]), ""),
    "jump to a chain that denies": (nft("accept", [{"jump": {"target": "deny"}}], deny=[[{"log": None}], [DROP]]), "open"),
    "goto it": (nft("accept", [{"goto": {"target": "deny"}}], deny=[[DROP]]), "open"),
    "another device": (nft("accept", [match(meta("iifname"), "wan0"), DROP]), ""),
    "all devices but some": (nft("accept", [match(meta("oifname"), {"set": ["wan0", "wan1"]}, "!="), DROP]), "open"),
    "a pattern that is not ours": (nft("accept", [match(meta("iifname"), "docker*"), DROP]), ""),
    "the bridge is meant": (nft("accept", [match(meta("iif"), "cni0"), DROP]), "named"),
    "IPv6 alone": (nft("accept", [match(meta("nfproto"), "ipv6"), DROP]), "open"),
    "addresses of IPv6": (nft("accept", [match(payload("ip6", "saddr"), prefix("fd00::", 8)), DROP]), "open"),
    "addresses of other nodes": (nft("accept", [match(SADDR, prefix("192.0.2.0", 24)), DROP]), ""),
    "a set of addresses": (nft("accept", [match(SADDR, {"set": [prefix("172.16.0.0", 12), prefix("10.0.0.0", 8)]}), DROP]), "open"),
    "a named set": (nft("accept", [match(SADDR, "@bl"), DROP], sets=(BLACKLIST,)), ""),
    "a named set that holds pods": (nft("accept", [match(SADDR, "@bl"), DROP], sets=(POISONED,)), "open"),
    "a named set that is not told": (nft("accept", [match(SADDR, "@bl"), DROP]), "doubt"),
    "states": (nft("accept", [{"vmap": {"key": STATE, "data": {"set": [["established", ACCEPT], ["invalid", DROP]]}}}]), ""),
    "states, new is dropped": (nft("accept", [{"vmap": {"key": STATE, "data": {"set": [["established", ACCEPT], ["new", DROP]]}}}]), "open"),
    "all states but one": (nft("drop", [match(STATE, "invalid", "!="), ACCEPT]), ""),
    "answers alone": (nft("drop", [match(STATE, ["established", "related"], "in"), ACCEPT]), "open"),
    "kube-proxy, services without endpoints": (nft("accept", [{"vmap": {"key": SERVICE, "data": "@m"}}], sets=(NO_ENDPOINT,)), ""),
    "a map that is not told": (nft("accept", [{"vmap": {"key": SERVICE, "data": "@m"}}]), "doubt"),
    "a port": (nft("accept", [match(payload("tcp", "dport"), {"range": [8000, 9000]}), DROP]), ""),
    "all ports but one, of another protocol": (nft("accept", [match(meta("l4proto"), "icmp"), match(payload("tcp", "dport"), 22, "!="), DROP]), ""),
    "all addresses but some, of the other family": (nft("accept", [match(meta("nfproto"), "ipv6"), match(SADDR, prefix("192.0.2.0", 24), "!="), DROP]), ""),
    "high ports": (nft("accept", [match(payload("tcp", "dport"), 1024, ">"), DROP]), "open"),
    "two protocols": (nft("accept", [match(meta("l4proto"), {"set": ["tcp", "udp"]}), DROP]), "open"),
    "a limit": (nft("accept", [{"limit": {"rate": 10, "per": "second", "inv": True}}, DROP]), "doubt"),
    "a limited log": (nft("accept", [{"limit": {"rate": 10}}, {"log": None}]), ""),
    "a mark": (nft("accept", [match({"&": [meta("mark"), 16384]}, 16384), DROP]), "doubt"),
    "odd flags": (nft("accept", [match({"&": [payload("tcp", "flags"), ["fin", "syn"]]}, ["fin", "syn"]), DROP]), ""),
    "no way back": (nft("accept", [match({"fib": {"result": "oif", "flags": ["saddr", "iif"]}}, False), DROP]), ""),
    "an iptables match that nft cannot tell": (nft("accept", [{"xt": {"type": "match", "name": "set"}}, DROP]), "doubt"),
    "an iptables comment": (nft("accept", [{"xt": {"type": "match", "name": "comment"}}, DROP]), "open"),
    "pairs of devices": (nft("accept", [match({"concat": [meta("iifname"), meta("oifname")]}, {"set": [{"concat": ["wan0", "cni0"]}]}), DROP]), ""),
}
# fmt: on


@pytest.mark.parametrize("case", NFT)
def test_nft_is_walked_as_a_pods_packet_would(case: str) -> None:
    chain, expected = NFT[case]
    assert verdict(chain) == expected


def own_rule(way: str, word: str) -> dict[str, Any]:
    expr = [match(meta(word), "cni0"), ACCEPT]
    return {
        "rule": {"chain": "f", "handle": 99, "expr": expr, "comment": f"podnet:podnet {way} cni0"}
    }


def test_nft_rules_of_ours_are_recognised_and_removed_by_their_handles() -> None:
    document = {"nftables": [own_rule("from", "iifname")]}
    own = forward.parse_chain(document, "inet wall f", "podnet")
    (rule,) = own
    assert rule == forward.accepts("podnet", "cni0", "nft", "inet wall f")[0]
    removal = changes(State(accepts={rule: (99, 100)}), State())
    assert [one.lines for one in removal] == [
        ("delete rule inet wall f handle 99", "delete rule inet wall f handle 100")
    ]


@pytest.mark.parametrize(
    "expr",
    [
        [match(meta("iifname"), "cni0"), DROP],
        [match(meta("iifname"), "cni1"), ACCEPT],
        [match(meta("iifname"), "cni0"), match(SADDR, prefix("10.0.0.0", 8)), ACCEPT],
        [ACCEPT],
    ],
)
def test_a_rule_of_ours_that_was_edited_is_replaced(expr: Any) -> None:
    edited = own_rule("from", "iifname")
    edited["rule"]["expr"] = expr
    wanted: dict[Accept, tuple[int, ...]] = {}
    wanted.update((one, ()) for one in forward.accepts("podnet", "cni0", "nft", "inet wall f"))
    document = {"nftables": [edited, own_rule("to", "oifname")]}
    own = forward.parse_chain(document, "inet wall f", "podnet")
    lines = [
        line for one in changes(State(accepts=own), State(accepts=wanted)) for line in one.lines
    ]
    assert lines == [
        'insert rule inet wall f iifname "cni0" accept comment "podnet:podnet from cni0"',
        "delete rule inet wall f handle 99",
    ]


def test_only_chains_that_drop_and_see_our_families_get_rules() -> None:
    chains = [
        nft("drop"),
        nft("accept")._replace(chain="inet fine f"),
        iptables("-P FORWARD DROP", family=6),
    ]
    node = ONLY4.nodes["n1"]
    final = State(routes=FINAL.routes)
    (told,) = forward.add(ONLY4, node, chains, State(), final)
    assert {one.chain for one in final.accepts} == {"inet wall f"}
    assert "nft table inet wall, chain f" in told
    assert "podnet_manage_forward" in told
    # The second run is silent, and a chain that has them keeps them.
    before, chains = State(accepts=final.accepts), [nft("accept")]
    again = State()
    assert forward.add(ONLY4, node, chains, before, again) == []
    assert again.accepts == final.accepts


OURS = [
    f"-A FORWARD {one.rule}" for one in forward.accepts("podnet", "cni0", "iptables-nft", "FORWARD")
]


@pytest.mark.parametrize(
    ("lines", "moved"),
    [
        ([P, *OURS, f"{A} -j DROP"], False),
        ([P, f"{A} -j DROP", *OURS], True),
        (["-P FORWARD DROP", "-N X", f"{A} -j X", *OURS, "-A X -j RETURN"], False),
        (["-P FORWARD DROP", "-N X", f"{A} -j X", *OURS, "-A X -s 10.0.0.0/8 -j DROP"], True),
        ([P, f"{A} -i cni0 -j DROP", *OURS], False),
    ],
)
def test_rules_of_ours_below_one_that_drops_are_moved_up(lines: list[str], moved: bool) -> None:
    own = forward.parse_save(lines, "iptables-nft", "podnet")
    before, final = State(accepts=dict.fromkeys(own, (0,))), State(routes=FINAL.routes)
    forward.add(PLAN, NODE, [iptables(*lines)], before, final)
    done = [line for one in changes(before, final) for line in one.lines if "tables" in line]
    assert [line.split()[2] for line in done] == (["-D", "-D", "-I", "-I"] if moved else [])
    assert "below" not in "".join(done)


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        (iptables(P, f"{A} -i cni0 -j DROP"), "-i cni0 -j DROP"),
        (iptables(P, f"{A} -m mark --mark 0x1 -j DROP"), "--mark 0x1 -j DROP"),
        (nft("drop")._replace(opens=False, chain="bridge b f"), "nft table bridge b, chain f"),
        (nft("accept", [match(meta("iif"), "cni0"), DROP]), "rule with handle 7"),
    ],
)
def test_what_is_not_podnets_to_open_is_named(chain: Forwarder, words: str) -> None:
    final = State(routes=FINAL.routes)
    (told,) = forward.add(PLAN, NODE, [chain], State(), final)
    assert words in told
    assert not final.accepts
    (again,) = forward.left_alone(PLAN, NODE, [chain], final)
    assert words in again


def test_who_leaves_such_chains_alone_is_told() -> None:
    (told,) = forward.left_alone(PLAN, NODE, [iptables("-P FORWARD DROP")], FINAL)
    assert "iptables-nft FORWARD" in told
    assert forward.left_alone(PLAN, NODE, [nft("accept")], FINAL) == []


@given(st.lists(st.text() | st.text("-AFORWDj !\"' ", max_size=40)))
def test_no_line_of_iptables_is_a_surprise(lines: list[str]) -> None:
    forward.parse_save(lines, "iptables-nft", "podnet")
    verdict(iptables(*lines, *(f"{A} {line}" for line in lines)))

"""A rule of ours under its own comment: what is in it counts."""

from __future__ import annotations

from typing import Any

import pytest
from podnet.core.state import Chain, State, make_rule
from podnet.kernel.observe import parse_table
from podnet.state.diff import changes
from podnet.state.nft_rule import text


def match(field: str, address: str, length: int, op: str = "==", family: str = "ip") -> Any:
    return {
        "match": {
            "op": op,
            "left": {"payload": {"protocol": family, "field": field}},
            "right": {"prefix": {"addr": address, "len": length}},
        }
    }


def address(one: str) -> Any:
    """nft prints an address without its prefix length."""
    left = {"payload": {"protocol": "ip", "field": "daddr"}}
    return {"match": {"op": "==", "left": left, "right": one}}


POD = match("saddr", "10.244.0.0", 24)
CLUSTER = match("daddr", "10.244.0.0", 16)
OUTSIDE = match("daddr", "224.0.0.0", 4, "!=")
RETURN = make_rule("ip saddr 10.244.0.0/24 ip daddr 10.244.0.0/16 return", "pod to pod")
MASQUERADE = make_rule(
    "ip saddr 10.244.0.0/24 ip daddr != 224.0.0.0/4 masquerade fully-random", "pod to outside"
)
EXCLUDED = make_rule("ip saddr 10.244.0.0/24 ip daddr 10.0.0.0/12 return", "excluded")
ONE_EXCLUDED = make_rule("ip saddr 10.244.0.0/24 ip daddr 203.0.113.9 return", "excluded")
ALL_EXCLUDED = make_rule("ip saddr 10.244.0.0/24 return", "excluded")
NODE = make_rule("udp dport 8472 iifname != { cni0, lo } ip saddr @nodes4 accept", "a node")
DROP = make_rule("meta nfproto ipv4 udp dport 8472 @th,96,24 != 1 counter drop", "ours")
LOCAL = make_rule("fib daddr type != unicast counter drop", "local")
MACS = make_rule(
    "meta pkttype other ether daddr { 02:00:00:00:00:01, 02:00:00:00:00:02 } meta pkttype set host",
    "both MACs",
)
PKTTYPE: Any = {"meta": {"key": "pkttype"}}


def both_macs(*macs: str, value: Any = "host") -> list[Any]:
    ether = {"payload": {"protocol": "ether", "field": "daddr"}}
    return [
        {"match": {"op": "==", "left": PKTTYPE, "right": "other"}},
        {"match": {"op": "==", "left": ether, "right": {"set": list(macs)}}},
        {"mangle": {"key": PKTTYPE, "value": value}},
    ]


def node(*but: str, name: str = "@nodes4", port: Any = 8472) -> list[Any]:
    source = {"payload": {"protocol": "ip", "field": "saddr"}}
    return [
        {"match": {"op": "==", "left": PORT, "right": port}},
        {"match": {"op": "!=", "left": {"meta": {"key": "iifname"}}, "right": {"set": list(but)}}},
        {"match": {"op": "==", "left": source, "right": name}},
        {"accept": None},
    ]


def drop(vni: int, **raw: int) -> list[Any]:
    left = {"payload": {"base": "th", "offset": 96, "len": 24, **raw}}
    return [
        {"match": {"op": "==", "left": {"meta": {"key": "nfproto"}}, "right": "ipv4"}},
        {"match": {"op": "==", "left": PORT, "right": 8472}},
        {"match": {"op": "!=", "left": left, "right": vni}},
        {"counter": {"packets": 7, "bytes": 900}},
        {"drop": None},
    ]


def local(*flags: str) -> list[Any]:
    left = {"fib": {"result": "type", "flags": list(flags)}}
    return [
        {"match": {"op": "!=", "left": left, "right": "unicast"}},
        {"counter": None},
        {"drop": None},
    ]


PORT: Any = {"payload": {"protocol": "udp", "field": "dport"}}

# fmt: off
#: What nft prints -> the rule that carries its comment, whether it is still that rule.
CASES: dict[str, tuple[list[Any], Any, bool]] = {
    "as written": ([POD, CLUSTER, {"return": None}], RETURN, True),
    "another range": ([POD, match("daddr", "10.244.1.0", 24), {"return": None}], RETURN, False),
    "a longer prefix": ([POD, match("daddr", "10.244.0.0", 17), {"return": None}], RETURN, False),
    "another verdict": ([POD, CLUSTER, {"accept": None}], RETURN, False),
    "a verdict that we never write": ([POD, CLUSTER, {"jump": {"target": "x"}}], RETURN, False),
    "a condition is missing": ([CLUSTER, {"return": None}], RETURN, False),
    "a condition more": ([POD, CLUSTER, {"match": {"op": "==", "left": {"meta": {"key": "mark"}}, "right": 1}}, {"return": None}], RETURN, False),
    "a counter more": ([POD, CLUSTER, {"counter": {"packets": 1, "bytes": 2}}, {"return": None}], RETURN, False),
    "the other direction": ([match("daddr", "10.244.0.0", 24), CLUSTER, {"return": None}], RETURN, False),
    "a condition turned round": ([POD, match("daddr", "10.244.0.0", 16, "!="), {"return": None}], RETURN, False),
    "masquerade": ([POD, OUTSIDE, {"masquerade": {"flags": "fully-random"}}], MASQUERADE, True),
    "masquerade, flags as nft 1.1 prints them": ([POD, OUTSIDE, {"masquerade": {"flags": ["fully-random"]}}], MASQUERADE, True),
    "masquerade without its flag": ([POD, OUTSIDE, {"masquerade": None}], MASQUERADE, False),
    "masquerade to a port": ([POD, OUTSIDE, {"masquerade": {"flags": "fully-random", "port": 9}}], MASQUERADE, False),
    "an excluded network": ([POD, match("daddr", "10.0.0.0", 12), {"return": None}], EXCLUDED, True),
    "another excluded network": ([POD, match("daddr", "10.0.0.0", 13), {"return": None}], EXCLUDED, False),
    "an excluded address": ([POD, address("203.0.113.9"), {"return": None}], ONE_EXCLUDED, True),
    "another excluded address": ([POD, address("203.0.113.8"), {"return": None}], ONE_EXCLUDED, False),
    "all is excluded": ([POD, {"return": None}], ALL_EXCLUDED, True),
    "not all is excluded": ([POD, address("203.0.113.9"), {"return": None}], ALL_EXCLUDED, False),
    "snat instead": ([POD, OUTSIDE, {"snat": {"addr": "192.0.2.1"}}], MASQUERADE, False),
    "both MACs": (both_macs("02:00:00:00:00:01", "02:00:00:00:00:02"), MACS, True),
    "both MACs in the kernel's order": (both_macs("02:00:00:00:00:02", "02:00:00:00:00:01"), MACS, True),
    "one MAC": (both_macs("02:00:00:00:00:01"), MACS, False),
    "a number for a word, as another version may print": (both_macs("02:00:00:00:00:01", "02:00:00:00:00:02", value=0), MACS, True),
    "from a node": (node("lo", "cni0"), NODE, True),
    "from a node, but one device": (node("cni0"), NODE, False),
    "from another set": (node("cni0", "lo", name="@nodes6"), NODE, False),
    "from a node to another port": (node("cni0", "lo", port=4789), NODE, False),
    "from a node to a port that a service names": (node("cni0", "lo", port="otv"), NODE, False),
    "of a VNI": (drop(1), DROP, True),
    "of another VNI": (drop(2), DROP, False),
    "of what lies elsewhere": (drop(1, offset=64), DROP, False),
    "for a local address": (local("daddr"), LOCAL, True),
    "from a local address": (local("saddr"), LOCAL, False),
    "nothing at all": ([], RETURN, True),
}
# fmt: on


@pytest.mark.parametrize("case", CASES)
def test_only_what_is_surely_another_rule_counts_as_one(case: str) -> None:
    expr, rule, same = CASES[case]
    hook = "type nat hook postrouting priority 100"
    chain = {"name": "c", "type": "nat", "hook": "postrouting", "prio": 100, "policy": "accept"}
    found = parse_table(
        {
            "nftables": [
                {"chain": chain},
                {"rule": {"chain": "c", "comment": rule.tag, "handle": 1, "expr": expr}},
            ]
        }
    )
    wanted = State(tables={"podnet": (Chain("c", hook, (rule,)),)})
    assert (changes(State(tables={"podnet": found}), wanted) == []) == same


@pytest.mark.parametrize(
    "hostile", [[None], ["x"], [{}], [{"match": None}], [{"match": {"left": {}}}]]
)
def test_nonsense_is_not_read(hostile: list[Any]) -> None:
    assert text(hostile) in ("", "[match]")

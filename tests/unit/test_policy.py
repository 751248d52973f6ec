"""Policy rules before table main: which of them takes pods' packets."""

from __future__ import annotations

from typing import Any

import pytest
from podnet.firewall.policy import Traffic, captures, tell
from podnet.firewall.walk import addresses

OUT = Traffic(addresses("10.244.0.0/24"), addresses("10.244.1.0/24"), "cni0")
USUAL: list[dict[str, Any]] = [
    {"priority": 0, "src": "all", "table": "255"},
    {"priority": 32766, "src": "all", "table": "254"},
    {"priority": 32767, "src": "all", "table": "253"},
]
TABLES: dict[str, list[dict[str, Any]]] = {
    "52": [{"dst": "10.0.0.0/8", "dev": "wg0"}],
    "53": [{"dst": "100.64.0.0/10", "dev": "ts0"}, {"dst": "10.9.0.1", "dev": "ts0"}],
    "54": [{"dst": "10.0.0.0/8", "dev": "wg0"}, {"dst": "10.244.0.0/16", "type": "9"}],
    "55": [{"dst": "10.244.1.7", "dev": "wg0"}],
    "56": [{"dst": "default", "type": "7"}],
    "100": [{"dst": "default", "dev": "wan1"}],
}


def rule(priority: int, table: str = "", **more: Any) -> dict[str, Any]:
    return {"priority": priority, "src": "all", **({"table": table} if table else {}), **more}


# fmt: off
#: The rules of others -> the priorities of those that take pods' packets; "?" where they may.
CASES: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "none": ([], []),
    "a VPN client with a route over the pods' range": ([rule(5270, "52")], ["5270"]),
    "a VPN client with its own ranges": ([rule(5270, "53")], []),
    "a table that does not exist": ([rule(5270, "9")], []),
    "a table that throws pods back": ([rule(5270, "54")], []),
    "a route to one pod": ([rule(5270, "55")], ["5270"]),
    "another default route": ([rule(5270, "100")], ["5270"]),
    "after main": ([rule(40000, "52")], []),
    "another default route for the node's own address": ([rule(100, "100", src="192.0.2.11")], []),
    "another default route for a mark": ([rule(100, "100", fwmark="0x1")], []),
    "pods' ranges for a mark": ([rule(100, "52", fwmark="0x1", fwmask="0xff")], ["100?"]),
    "wg-quick: main first, but for its default route": ([rule(99, "254", suppress_prefixlen=0), {**rule(100, "100"), "not": None, "fwmark": "0xca6c"}], []),
    "wg-quick without that": ([{**rule(100, "100"), "not": None, "fwmark": "0xca6c"}], ["100"]),
    "from pods": ([rule(100, "100", src="10.244.0.0", srclen=16)], ["100"]),
    "from other nodes' pods": ([rule(100, "100", src="10.244.9.0", srclen=24)], []),
    "from some pods of ours": ([rule(100, "52", src="10.244.0.128", srclen=25)], ["100?"]),
    "from one pod": ([rule(100, "100", src="10.244.0.7")], []),
    "to pods": ([rule(100, "100", dst="10.244.0.0", dstlen=16)], ["100"]),
    "to others": ([rule(100, "100", dst="10.96.0.0", dstlen=12)], []),
    "to all but pods": ([{**rule(100, "100", dst="10.244.0.0", dstlen=16), "not": None}], []),
    "by the bridge": ([rule(100, "100", iif="cni0")], ["100"]),
    "by another device": ([rule(100, "100", iif="docker0")], []),
    "of the host's own programs": ([rule(100, "100", uid_start=0, uid_end=0), rule(101, "100", oif="eth0")], []),
    "a VRF": ([{"priority": 1000, "src": "all", "l3mdev": None}], []),
    "one protocol": ([rule(100, "52", ipproto="ipproto-6")], ["100?"]),
    "unreachable": ([{**rule(97, dst="10.0.0.0", dstlen=8), "action": "7"}], ["97"]),
    "a table that refuses": ([rule(97, "56")], ["97"]),
    "a default route that is suppressed": ([rule(97, "100", suppress_prefixlen=0)], []),
    "pods back to main before": ([rule(5269, "254", dst="10.244.0.0", dstlen=16), rule(5270, "52")], []),
    "a jump over it": ([{**rule(10), "goto": 32766}, rule(5270, "52")], []),
    "the first one counts": ([rule(50, "52"), rule(60, "100")], ["50"]),
}
# fmt: on


@pytest.mark.parametrize("case", CASES)
def test_the_first_rule_that_leads_away_is_found(case: str) -> None:
    rules, expected = CASES[case]
    found = captures([*rules, *USUAL], OUT, lambda table: TABLES.get(table, []))
    assert [f"{one.priority}{'' if one.certain else '?'}" for one in found] == expected


def test_what_is_told_names_rule_table_route_and_the_way_out() -> None:
    found = captures([rule(5270, "52"), *USUAL], OUT, lambda table: TABLES.get(table, []))
    (told,), maybe = tell([("10.244.0.0/16", one) for one in found])
    assert not maybe
    for words in (
        "5270: from all lookup 52",
        "10.0.0.0/8 dev wg0",
        "ip rule add pref 5269 to 10.244.0.0/16 lookup main",
    ):
        assert words in told


@pytest.mark.parametrize("odd", [{}, {"priority": "x"}, {"priority": 1, "src": 7, "table": []}])
def test_an_odd_rule_is_no_surprise(odd: dict[str, Any]) -> None:
    captures([odd, *USUAL], OUT, lambda _table: [{"dst": 5}, {}])

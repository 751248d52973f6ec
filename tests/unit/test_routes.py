"""Routes for a router outside, in the words of each."""

from __future__ import annotations

from typing import Any

import pytest
from podnet.core.model import Cni, Node, Plan
from podnet.plan.routes import FORMS, lines, needed


def plan(*nodes: Node, **changes: Any) -> Plan:
    return Plan(
        "my-net", "10.244.0.0/16", "", "host-gw", {}, "cni0", "auto", changes.pop("masquerade", True),
        4, Cni(), {one.name: one for one in nodes}, **changes,
    )  # fmt: skip


FOUR = Node("n1", ip="192.0.2.11", subnet="10.244.0.0/24")
DUAL = Node(
    "n2", ip="192.0.2.12", ip6="2001:db8::12", subnet="10.244.1.0/24", subnet6="fd00:10:244:1::/64"
)
NO_SIX = Node("n3", ip="192.0.2.13", subnet="10.244.2.0/24", subnet6="fd00:10:244:2::/64")
NO_FOUR = Node("n4", ip6="2001:db8::14", subnet="10.244.3.0/24")
SIX = Node("n5", ip6="2001:db8::15", subnet6="fd00:10:244:4::/64")

# fmt: off
CASES: dict[str, tuple[tuple[Node, ...], str, list[str]]] = {
    "nobody": ((), "ip", []),
    "IPv4": ((FOUR,), "ip", ["ip route add 10.244.0.0/24 via 192.0.2.11"]),
    "both, IPv4 first": ((DUAL, FOUR), "ip", [
        "ip route add 10.244.1.0/24 via 192.0.2.12",
        "ip route add 10.244.0.0/24 via 192.0.2.11",
        "ip -6 route add fd00:10:244:1::/64 via 2001:db8::12"]),
    "a node without IPv6": ((NO_SIX,), "ip", [
        "ip route add 10.244.2.0/24 via 192.0.2.13",
        "# fd00:10:244:2::/64: n3 has no IPv6 address (podnet_node_ip6)"]),
    "a node without IPv4": ((NO_FOUR,), "ip", [
        "ip route add 10.244.3.0/24 via inet6 2001:db8::14"]),
    "FRR": ((DUAL, NO_SIX, NO_FOUR), "frr", [
        "ip route 10.244.1.0/24 192.0.2.12",
        "ip route 10.244.2.0/24 192.0.2.13",
        "! 10.244.3.0/24: n4 has no IPv4 address (podnet_node_ip)",
        "ipv6 route fd00:10:244:1::/64 2001:db8::12",
        "! fd00:10:244:2::/64: n3 has no IPv6 address (podnet_node_ip6)"]),
    "BIRD": ((FOUR, DUAL, NO_FOUR), "bird", [
        "protocol static my_net4 { ipv4;",
        "route 10.244.0.0/24 via 192.0.2.11;",
        "route 10.244.1.0/24 via 192.0.2.12;",
        "route 10.244.3.0/24 via 2001:db8::14;",
        "}",
        "protocol static my_net6 { ipv6;",
        "route fd00:10:244:1::/64 via 2001:db8::12;",
        "}"]),
    "BIRD, a node without IPv6": ((NO_SIX,), "bird", [
        "protocol static my_net4 { ipv4;", "route 10.244.2.0/24 via 192.0.2.13;", "}",
        "protocol static my_net6 { ipv6;",
        "# fd00:10:244:2::/64: n3 has no IPv6 address (podnet_node_ip6)", "}"]),
    "BIRD, IPv6 alone": ((SIX,), "bird", [
        "protocol static my_net6 { ipv6;", "route fd00:10:244:4::/64 via 2001:db8::15;", "}"]),
}
# fmt: on


@pytest.mark.parametrize("case", CASES)
def test_lines(case: str) -> None:
    nodes, form, expected = CASES[case]
    assert lines(plan(*nodes), form) == expected


def test_all_forms_are_tried() -> None:
    assert {form for _nodes, form, _lines in CASES.values()} == set(FORMS)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ""),
        ({"masquerade": False}, "podnet_masquerade is off"),
        ({"masquerade_exclude": ("10.0.0.0/9",)}, "podnet_masquerade_exclude is set"),
    ],
)
def test_when_they_are_needed(changes: dict[str, Any], expected: str) -> None:
    assert needed(plan(FOUR, **changes)) == expected

"""Chains of others that drop: what is recognised as one, and what is put there."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from podnet import forward
from podnet.diff import changes
from podnet.document import plan_from_text
from podnet.forward import Forwarder
from podnet.state import Accept, State

from tests.kernel.netns_hosts import plan_document

PLAN = plan_from_text(json.dumps(plan_document(2)))
ONLY4 = plan_from_text(json.dumps(plan_document(2, six=False)))


@pytest.mark.parametrize(
    ("lines", "drops"),
    [
        (["-P FORWARD ACCEPT"], False),
        (["-P FORWARD DROP"], True),
        (["-P FORWARD ACCEPT", "-A FORWARD -j DROP"], True),
        (["-P FORWARD ACCEPT", "-A FORWARD -j REJECT --reject-with icmp-port-unreachable"], True),
        (["-P FORWARD ACCEPT", '-A FORWARD -m comment --comment "the -j end" -j DROP'], True),
        (["-P FORWARD ACCEPT", "-A FORWARD -s 203.0.113.9/32 -j DROP"], False),
        (["-P FORWARD ACCEPT", "-A FORWARD -j DROPPED"], False),
        (["-P FORWARD ACCEPT", "-A FORWARD -j DOCKER-USER"], False),
        ([], False),
    ],
)
def test_iptables_that_drops_is_recognised(lines: list[str], drops: bool) -> None:
    assert forward.parse_save(lines, "iptables-nft", "podnet") == (drops, [])


def test_iptables_rules_of_ours_are_recognised_by_the_networks_name() -> None:
    wanted = forward.accepts("podnet", "cni0", "iptables-nft", "FORWARD")
    lines = [f"-A FORWARD {one.rule}".replace("podnet:podnet", '"podnet:podnet"') for one in wanted]
    other = '-A FORWARD -i cni1 -m comment --comment "podnet:podnet2" -j ACCEPT'
    assert forward.parse_save([*lines, other], "iptables-nft", "podnet")[1] == wanted


def chain(policy: str, *exprs: Any, comment: str = "") -> dict[str, Any]:
    rules = [{"rule": {"handle": 7 + number, "expr": expr}} for number, expr in enumerate(exprs)]
    if comment:
        rules.append({"rule": {"handle": 99, "expr": [], "comment": comment}})
    return {"nftables": [{"chain": {"policy": policy}}, *rules]}


@pytest.mark.parametrize(
    ("document", "drops"),
    [
        (chain("accept"), False),
        (chain("drop"), True),
        (chain("accept", [{"drop": None}]), True),
        (chain("accept", [{"counter": {}}, {"reject": {"type": "icmpx"}}]), True),
        (chain("accept", [{"match": {}}, {"drop": None}]), False),
        (chain("accept", [{"accept": None}]), False),
        ({}, False),
        ([], False),
    ],
)
def test_nft_that_drops_is_recognised(document: Any, drops: bool) -> None:
    assert forward.parse_chain(document, "inet wall f", "podnet") == (drops, {})


def test_nft_rules_of_ours_are_recognised_and_removed_by_their_handles() -> None:
    document = chain("accept", comment="podnet:podnet from cni0")
    own = forward.parse_chain(document, "inet wall f", "podnet")[1]
    (rule,) = own
    assert rule == forward.accepts("podnet", "cni0", "nft", "inet wall f")[0]
    removal = changes(State(accepts={rule: (99, 100)}), State())
    assert [one.lines for one in removal] == [
        ("delete rule inet wall f handle 99", "delete rule inet wall f handle 100")
    ]


def test_only_chains_that_drop_and_see_our_families_get_rules() -> None:
    chains = [
        Forwarder("nft", "inet wall f", (4, 6), True),
        Forwarder("nft", "inet fine f", (4, 6), False),
        Forwarder("ip6tables-nft", "FORWARD", (6,), True),
    ]
    final = State()
    (told,) = forward.add(ONLY4, chains, State(), final)
    assert {one.chain for one in final.accepts} == {"inet wall f"}
    assert "nft table inet wall, chain f" in told
    assert "podnet_manage_forward" in told
    # The second run is silent, and a chain that has them keeps them.
    before, chains = State(accepts=final.accepts), [chains[0]._replace(drops=False)]
    again = State()
    assert forward.add(ONLY4, chains, before, again) == []
    assert again.accepts == final.accepts


def test_who_leaves_such_chains_alone_is_told() -> None:
    (told,) = forward.left_alone(PLAN, [Forwarder("iptables-nft", "FORWARD", (4,), True)])
    assert "iptables-nft FORWARD" in told
    assert forward.left_alone(PLAN, [Forwarder("nft", "inet fine f", (4, 6), False)]) == []


def test_iptables_rules_go_as_often_as_they_stand_there() -> None:
    rule = Accept("iptables-nft", "FORWARD", "-i cni0 -j ACCEPT")
    (removal,) = changes(State(accepts={rule: (0, 0)}), State())
    assert removal.lines == ("iptables-nft -w -D FORWARD -i cni0 -j ACCEPT",) * 2


@given(st.lists(st.text()))
def test_no_line_of_iptables_is_a_surprise(lines: list[str]) -> None:
    forward.parse_save(lines, "iptables-nft", "podnet")

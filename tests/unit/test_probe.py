"""What a host asks, and what it makes of the answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from podnet.core.errors import PodnetError
from podnet.probe import questions
from podnet.probe.icmp import Answer
from podnet.probe.probe_pod import Pod
from podnet.probe.questions import Question

POD = Pod("/run/netns/x", "10.244.0.5", "fd00::5", "10.244.0.1", "fd00::1", 1450, 7, 8)
PORTS = {"udp": 5000, "tcp": 5001}
TARGETS = {
    "n1": {"address": "10.244.0.5", "address6": "fd00::5", "mtu": 1450, **PORTS},
    "n2": {"address": "10.244.1.5", "address6": "", "mtu": 1400, **PORTS},
}
OUTSIDE = "192.0.2.1"


def test_questions() -> None:
    asked = [
        (one.kind, one.node, one.probe.protocol, one.probe.address, one.probe.port, one.probe.size)
        for one in questions.questions("n1", POD, TARGETS, [OUTSIDE])
        if not one.probe.bulk
    ]
    assert asked == [
        ("gateway", "n1", "icmp", "10.244.0.1", 0, 84),
        ("gateway", "n1", "icmp", "10.244.0.1", 0, 1450),
        ("gateway", "n1", "icmp", "fd00::1", 0, 84),
        ("gateway", "n1", "icmp", "fd00::1", 0, 1450),
        *(
            (kind, "n2", protocol, "10.244.1.5", port, size)
            for kind in ("pod", "host")
            for protocol, port in (("icmp", 0), ("udp", 5000), ("tcp", 5001))
            for size in (84, 1400)
        ),
        ("outside", "", "icmp", OUTSIDE, 0, 84),
        ("outside-host", "", "icmp", OUTSIDE, 0, 84),
    ]


def test_each_pod_sends_a_bulk_to_each_other_one() -> None:
    bulks = [
        (one.kind, one.node, one.probe.address, one.probe.port, one.probe.bulk)
        for one in questions.questions("n1", POD, TARGETS, [OUTSIDE])
        if one.probe.bulk
    ]
    assert bulks == [("pod", "n2", "10.244.1.5", 5001, 262144)]


@pytest.mark.parametrize(
    ("pairs", "asked"),
    [
        ("all", ["n1", "n2", "n4", "n5"]),
        ("ring", ["n2", "n4"]),
        ("9", ["n1", "n2", "n4", "n5"]),
    ],
)
def test_whom_a_host_asks(pairs: str, asked: list[str]) -> None:
    assert questions.asked_nodes("n3", ["n1", "n2", "n3", "n4", "n5"], pairs) == asked


def test_a_ring_is_closed_and_asked_both_ways() -> None:
    names = ["n1", "n2", "n3", "n4"]
    ways = {(one, other) for one in names for other in questions.asked_nodes(one, names, "ring")}
    assert ways == {(other, one) for one, other in ways}
    assert len(ways) == 8
    assert questions.asked_nodes("n1", ["n1", "n2"], "ring") == ["n2"]
    assert questions.asked_nodes("n1", ["n1"], "ring") == []


def test_some_are_chosen_anew_each_time() -> None:
    names = [f"n{number}" for number in range(1, 31)]
    chosen = [tuple(questions.asked_nodes("n7", names, "5")) for _count in range(20)]
    assert len({*chosen}) > 1
    assert all(len({*one} - {"n7"}) == 5 for one in chosen)


@pytest.mark.parametrize("pairs", ["", "0", "-1", "some", "1.5", "\u0663", "1e3", " 2"])
def test_a_wrong_number_of_pairs_is_named(pairs: str) -> None:
    with pytest.raises(PodnetError, match="podnet_probe_pairs"):
        questions.asked_nodes("n1", ["n1", "n2"], pairs)


def summary(
    silent: Callable[[Question], bool], chosen: tuple[str, ...] = (), resolves: bool = True
) -> dict[str, Any]:
    """Return what comes of it when the questions that are `silent` get no answer."""
    asked = questions.questions("n1", POD, TARGETS, [OUTSIDE])
    answers = [Answer(error="no reply") if silent(one) else Answer(ok=True) for one in asked]
    return questions.summary(asked, answers, chosen, lambda _address: resolves)


def failures(found: dict[str, Any]) -> list[tuple[str, str, int, str]]:
    return [(one["kind"], one["node"], one["family"], one["word"]) for one in found["failures"]]


def is_icmp(one: Question) -> bool:
    return one.probe.protocol == "icmp"


def test_all_is_answered() -> None:
    assert summary(lambda _one: False) == {
        "asked": 18,
        "answered": 18,
        "failures": [],
        "outside": [OUTSIDE],
        "notes": [],
    }


def test_hosts_that_do_not_answer_ping_are_no_fault() -> None:
    # Nobody does: not the pods' bridges, not the other pods, not the gateway of the host.
    assert summary(is_icmp) == {
        "asked": 9,
        "answered": 9,
        "failures": [],
        "outside": [],
        "notes": [
            "gateway 10.244.0.1: its MAC is known and it does not answer ping",
            "gateway fd00::1: its MAC is known and it does not answer ping",
            "pod -> n2: ICMP is not answered, TCP and UDP are",
            "host -> n2: ICMP is not answered, TCP and UDP are",
            "outside: the default gateway 192.0.2.1 does not answer this host either; not judged "
            "(podnet_probe_outside names an address that answers)",
        ],
    }


@pytest.mark.parametrize(
    ("silent", "words"),
    [
        # A chain of the host's own drops what comes in: pods do not pass it.
        (lambda one: one.kind == "host", []),
        (lambda one: one.kind == "host" and not is_icmp(one), []),
        # The way itself does not carry it.
        (lambda one: one.kind == "pod", [("pod", "n2", 4, "no")]),
        (
            lambda one: one.kind in ("pod", "host") and one.probe.protocol == "tcp",
            [("pod", "n2", 4, "no-tcp"), ("host", "n2", 4, "no-tcp")],
        ),
        (
            lambda one: one.kind == "pod" and one.probe.full,
            [("pod", "n2", 4, "small")],
        ),
        # A gateway that answers ping, but not large ones.
        (
            lambda one: one.probe.address == "fd00::1" and one.probe.full,
            [("gateway", "n1", 6, "small")],
        ),
        (lambda one: one.kind == "outside", [("outside", "", 4, "no")]),
    ],
)
def test_what_is_a_fault(
    silent: Callable[[Question], bool], words: list[tuple[str, str, int, str]]
) -> None:
    found = summary(silent)
    assert failures(found) == words
    assert bool(found["notes"]) is (not words)


def test_a_gateway_whose_mac_nobody_knows_is_a_fault() -> None:
    found = summary(lambda one: one.kind == "gateway", resolves=False)
    assert failures(found) == [("gateway", "n1", 4, "no"), ("gateway", "n1", 6, "no")]


def test_silence_of_an_address_that_the_user_chose_is_a_fault() -> None:
    found = summary(lambda one: one.probe.address == OUTSIDE, chosen=(OUTSIDE,))
    assert [one["what"] for one in found["failures"]] == [
        "no reply; this host itself gets no answer from it either"
    ]
    assert (found["answered"], found["asked"]) == (17, 18)

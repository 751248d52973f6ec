"""What answers mean: the table of faults."""

from __future__ import annotations

import itertools

import pytest
from podnet.core import verdict
from podnet.core.verdict import Asked

ALL = [(protocol, size) for protocol in ("icmp", "udp", "tcp") for size in ("small", "full")]


def asked(*silent: str, **reasons: str) -> list[Asked]:
    """Everything is asked; `silent` names what is not answered: "udp", "tcp full", ..."""
    found = []
    for protocol, size in ALL:
        mine = {protocol, f"{protocol} {size}", size, "all"} & {*silent}
        error = reasons.get(f"{protocol}_{size}", "no reply" if mine else "")
        found.append(Asked(protocol, size == "full", 1450 if size == "full" else 84, error))
    return found


def bulk(error: str = "", again: int = 0) -> Asked:
    return Asked("tcp", True, 1450, error, "", 262144, 190, again)


@pytest.mark.parametrize(
    ("answers", "word", "fault"),
    [
        ([*asked(), bulk()], "ok", ""),
        ([*asked(), bulk(again=9)], "ok", ""),
        (
            [*asked(), bulk(again=20)],
            "slow",
            "TCP sent 20 of 190 segments again: packets are lost",
        ),
        (
            [*asked("icmp"), bulk("stops after 31 KiB")],
            "bulk",
            "256 KiB over TCP: stops after 31 KiB; short exchanges pass",
        ),
        # A bulk is not asked where a short exchange fails, and says nothing more.
        ([*asked("tcp"), bulk("no reply")], "no-tcp", "TCP: no reply; UDP and ICMP pass"),
        (
            [*asked("udp full"), bulk("stops after 0 KiB")],
            "small",
            "full size (1450 bytes): no reply; small is ok",
        ),
        (asked(), "ok", ""),
        (asked("icmp"), "ok", ""),
        (asked("icmp full"), "ok", ""),
        (asked("all"), "no", "small and full size: no reply"),
        (asked("tcp", "udp"), "ping", "ICMP passes, but TCP and UDP: no reply"),
        (asked("tcp"), "no-tcp", "TCP: no reply; UDP and ICMP pass"),
        (asked("udp"), "no-udp", "UDP: no reply; TCP and ICMP pass"),
        (asked("udp", "icmp"), "no-udp", "UDP: no reply; TCP passes"),
        (asked("tcp", "icmp"), "no-tcp", "TCP: no reply; UDP passes"),
        (asked("full"), "small", "full size (1450 bytes): no reply; small is ok"),
        (asked("udp full"), "small", "full size (1450 bytes): no reply; small is ok"),
        (asked("tcp full"), "small", "full size (1450 bytes) over TCP: no reply; small is ok"),
        (
            asked("udp", "full"),
            "no-udp",
            "UDP: no reply; full size (1450 bytes) over TCP: no reply; small is ok",
        ),
        (
            asked(
                tcp_small="connected, but what was sent is not answered",
                tcp_full="connected, but what was sent is not answered",
            ),
            "no-tcp",
            "TCP: connected, but what was sent is not answered; UDP and ICMP pass",
        ),
        (
            asked("all", tcp_small="refused", udp_small="refused"),
            "no",
            "small: refused; full size (1450 bytes): no reply",
        ),
        (
            asked("tcp", udp_small="refused", udp_full="refused"),
            "ping",
            "ICMP passes, but TCP: no reply; UDP: refused",
        ),
    ],
)
def test_what_answers_mean(answers: list[Asked], word: str, fault: str) -> None:
    found = verdict.judge(answers)
    assert (found.word, found.fault) == (word, fault)


@pytest.mark.parametrize(
    ("answers", "muted"),
    [(asked(), False), (asked("icmp"), True), (asked("icmp full"), True), (asked("all"), False)],
)
def test_silence_of_icmp_alone_is_told_and_no_fault(answers: list[Asked], muted: bool) -> None:
    assert verdict.judge(answers).muted is muted


def test_a_pair_works_exactly_when_udp_and_tcp_do_at_both_sizes() -> None:
    for silent in itertools.product((False, True), repeat=6):
        names = [
            f"{protocol} {size}" for (protocol, size), no in zip(ALL, silent, strict=True) if no
        ]
        found = verdict.judge(asked(*names))
        works = not any(silent[2:])
        assert (found.fault == "") is works, names
        assert (found.word == "ok") is works, names


def test_the_reason_that_a_router_gave_is_told() -> None:
    answers = asked("udp full")
    answers[1] = Asked("icmp", True, 1450, "message too long: path MTU 1400", "10.244.2.1")
    assert verdict.judge(answers).fault == (
        "full size (1450 bytes): message too long: path MTU 1400 (said by 10.244.2.1); small is ok"
    )


@pytest.mark.parametrize(
    ("answers", "word", "fault"),
    [
        ([Asked("icmp", False, 84)], "ok", ""),
        ([Asked("icmp", False, 84, "no reply")], "no", "no reply"),
        (
            [Asked("icmp", False, 84), Asked("icmp", True, 1450, "no reply")],
            "small",
            "full size (1450 bytes): no reply; small is ok",
        ),
        (
            [Asked("icmp", False, 84, "no reply"), Asked("icmp", True, 1450, "no reply")],
            "no",
            "small and full size: no reply",
        ),
    ],
)
def test_where_only_icmp_can_be_asked(answers: list[Asked], word: str, fault: str) -> None:
    found = verdict.judge(answers)
    assert (found.word, found.fault) == (word, fault)

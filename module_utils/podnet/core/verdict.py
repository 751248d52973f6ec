"""What the answers to probes between two ends mean: a verdict. Pure.

A pair works when what pods use works: UDP and TCP, with small packets and with packets of the
pods' MTU (full size). An ICMP echo alone proves and disproves nothing: hosts and firewalls may drop
it and carry all else, or the other way round. The reasons that ICMP errors give are used.
"""

from __future__ import annotations

from typing import Iterable, NamedTuple, Sequence

OK, SMALL, NONE, PING, NO_TCP, NO_UDP = "ok", "small", "no", "ping", "no-tcp", "no-udp"
BULK, SLOW = "bulk", "slow"

#: What is printed below the matrix (run/matrix.py) to explain the words in it.
MEANINGS = {
    SMALL: "small: only small packets pass",
    NONE: "no: nothing passes",
    PING: "ping: ICMP passes, TCP and UDP do not",
    NO_TCP: "no-tcp: UDP passes, TCP does not",
    NO_UDP: "no-udp: TCP passes, UDP does not",
    BULK: "bulk: TCP works until much is sent",
    SLOW: "slow: TCP must send much again",
}

#: From which number of segments that TCP sent again, and from which share of all, a path is slow:
#: what a full queue drops now and then is below it.
_AGAIN, _SHARE = 10, 0.05

_SILENCE = "no reply"


class Asked(NamedTuple):
    """One probe and its outcome.

    `full` tells that it was of full size; `size` is in bytes. `error` is "" if it was answered,
    `router` the address that sent an ICMP error ("" for none). `bulk` is the number of bytes of an
    exchange over TCP that is about many (0: it is not), which took so many `segments`, `again` of
    them once more.
    """

    protocol: str
    full: bool
    size: int
    error: str = ""
    router: str = ""
    bulk: int = 0
    segments: int = 0
    again: int = 0


class Verdict(NamedTuple):
    """`word` is for the matrix, `fault` says what does not work ("" if the pair works).

    `muted`: the pair works, but ICMP echo is not answered.
    """

    word: str
    fault: str = ""
    muted: bool = False


def is_slow(again: int, segments: int) -> bool:
    """Whether TCP had to send so many of its segments again that pods feel it."""
    return again >= _AGAIN and again >= _SHARE * segments


def judge(asked: Sequence[Asked]) -> Verdict:
    """Judge one direction between two ends in one family.

    Where only ICMP was sent (to a gateway or an address outside), ICMP counts. A bulk says
    something only where all else passes.
    """
    found = _judge_packets([one for one in asked if not one.bulk])
    if found.word != OK:
        return found
    for one in asked:
        if one.bulk and one.error:
            what = f"{one.bulk // 1024} KiB over TCP: {_reason(one)}; short exchanges pass"
            return Verdict(BULK, what, found.muted)
        if is_slow(one.again, one.segments):
            what = f"TCP sent {one.again} of {one.segments} segments again: packets are lost"
            return Verdict(SLOW, what, found.muted)
    return found


def _judge_packets(asked: Sequence[Asked]) -> Verdict:
    wrong = [one for one in asked if one.error]
    protocols = {one.protocol for one in asked}
    if protocols <= {"icmp"}:
        return _by_size(wrong, asked) if wrong else Verdict(OK)
    used = {"udp", "tcp"} & protocols
    small = {one.protocol for one in wrong if not one.full} & used
    full = {one.protocol for one in wrong if one.full} & used
    echo = {one.full for one in wrong if one.protocol == "icmp"}
    if not small and not full:
        return Verdict(OK, muted=bool(echo))
    if not small:
        return Verdict(SMALL, _only_small(wrong, full, used))
    pings = "icmp" in protocols and False not in echo
    if small != used:
        return _one_of_two(wrong, small, full, pings)
    if pings:
        return Verdict(PING, f"ICMP passes, but {_each(wrong, used)}")
    return _by_size(wrong, asked)


def _one_of_two(wrong: Sequence[Asked], small: set[str], full: set[str], pings: bool) -> Verdict:
    """Judge where small packets of exactly one of UDP and TCP do not pass."""
    used = {"udp", "tcp"}
    [silent] = small
    [other] = used - small
    word = NO_TCP if silent == "tcp" else NO_UDP
    if other in full:
        return Verdict(word, f"{_each(wrong, small)}; {_only_small(wrong, {other}, used)}")
    passes = f"{other.upper()} and ICMP pass" if pings else f"{other.upper()} passes"
    return Verdict(word, f"{_each(wrong, small)}; {passes}")


def _only_small(wrong: Sequence[Asked], full: set[str], used: set[str]) -> str:
    """Return what fails at full size; TCP may pass there, having found a smaller size by itself."""
    one = _telling([one for one in wrong if one.full])
    over = " over TCP" if full == {"tcp"} and used != {"tcp"} else ""
    return f"full size ({one.size} bytes){over}: {_reason(one)}; small is ok"


def _each(wrong: Sequence[Asked], protocols: Iterable[str]) -> str:
    """Return for each of `protocols` why its small packets do not pass."""
    said: dict[str, list[str]] = {}
    for protocol in sorted(protocols):
        mine = [one for one in wrong if one.protocol == protocol and not one.full]
        said.setdefault(_reason(_telling(mine)), []).append(protocol.upper())
    return "; ".join(f"{' and '.join(names)}: {reason}" for reason, names in said.items())


def _by_size(wrong: Sequence[Asked], asked: Sequence[Asked]) -> Verdict:
    """Judge by packet size where all protocols fail alike, or only one was probed."""
    small = [one for one in wrong if not one.full]
    full = [one for one in wrong if one.full]
    if not small:
        one = _telling(full)
        return Verdict(SMALL, f"full size ({one.size} bytes): {_reason(one)}; small is ok")
    if not full:
        only = all(not one.full for one in asked)
        return Verdict(NONE if only else "full", _reason(_telling(small)))
    first, second = _telling(small), _telling(full)
    if _reason(first) == _reason(second):
        return Verdict(NONE, f"small and full size: {_reason(first)}")
    return Verdict(
        NONE, f"small: {_reason(first)}; full size ({second.size} bytes): {_reason(second)}"
    )


def _telling(wrong: Sequence[Asked]) -> Asked:
    """Return the failed probe that says most: a router's reason, else any reason, else silence."""
    return max(wrong, key=lambda one: (bool(one.router), one.error != _SILENCE))


def _reason(one: Asked) -> str:
    return f"{one.error} (said by {one.router})" if one.router else one.error

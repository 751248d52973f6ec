"""What a chain does to a pod's packet: the rules walked as the kernel walks them.

A condition holds for all packets of a kind, for none, or it cannot be said. One that cannot be
said never counts for a pod: an accept behind it is not relied on, and a drop behind it is a doubt
to name. So what `walk` calls dropped is dropped for sure unless such an accept saves it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from ..core.model import pack, split_cidr

NO, MAYBE, YES = 0, 1, 2


#: The ports of the packet that stands for all: a rule about a port that pods happen to use is
#: somebody's policy, one about nearly all ports is not.
SOURCE_PORT, DESTINATION_PORT = 50000, 40000


class Packet(NamedTuple):
    """A kind of packet: all from one range to another, of one protocol, new or not.

    `cluster` is the range of all pods; `state` is "new" or "established" (nf_conntrack).
    """

    iif: str
    oif: str
    source: tuple[int, int, int]
    destination: tuple[int, int, int]
    protocol: str
    state: str
    cluster: tuple[int, int, int]

    @property
    def family(self) -> int:
        """Return 4 or 6."""
        return self.source[0]


class Match(NamedTuple):
    """One comparison; `what` is a field of Packet, "sport", "dport", "syn", or a fixed answer."""

    what: str
    value: object = None


#: What podnet cannot say; what no packet of a pod is; what all are.
UNKNOWN, NEVER, ALWAYS = Match("maybe"), Match("never"), Match("always")


class Condition(NamedTuple):
    """Holds if all of one of `alternatives` do; with `negated`, if not."""

    alternatives: tuple[tuple[Match, ...], ...]
    negated: bool = False


class FilterRule(NamedTuple):
    """`verdict`: accept, drop, return, jump, goto or "" (goes on); `target` is a chain's name.

    `text` is how a person finds the rule; `own` tells that podnet made it.
    """

    conditions: tuple[Condition, ...]
    verdict: str
    target: str = ""
    text: str = ""
    own: bool = False


@dataclass
class Ruleset:
    """Chains by name; `base` is where a packet enters, and `policy` what happens at its end."""

    base: str
    policy: str
    chains: dict[str, list[FilterRule]] = field(default_factory=dict)


@dataclass
class WalkResult:
    """`verdict` is accept or drop, `by` the rule, or "its policy".

    `aimed` tells that the rule names pods' devices or addresses, so that somebody means them.
    `doubts` are rules that may drop before.
    """

    verdict: str = ""
    by: str = ""
    aimed: bool = False
    doubts: list[str] = field(default_factory=list)


def walk(rules: Ruleset, packet: Packet, with_own: bool = False) -> WalkResult:
    """Return what happens to `packet`; podnet's own rules count with `with_own` alone."""
    result = WalkResult()
    _chain(rules, rules.base, packet, with_own, result, sure=True, aimed=False, depth=0)
    if not result.verdict:
        result.verdict, result.by = rules.policy, "its policy"
    return result


#: nft's and iptables' own limit is 16.
_DEEPEST = 20


def _chain(
    rules: Ruleset,
    name: str,
    packet: Packet,
    with_own: bool,
    result: WalkResult,
    *,
    sure: bool,
    aimed: bool,
    depth: int,
) -> bool:
    """Walk one chain; return whether the packet goes on behind the jump."""
    for rule in rules.chains.get(name, ()) if depth < _DEEPEST else ():
        if rule.own and not with_own:
            continue
        answer = min((_condition(one, packet) for one in rule.conditions), default=YES)
        if answer == NO or not rule.verdict:
            continue
        certain = sure and answer == YES
        means_us = aimed or any(_aims(one, packet) for one in rule.conditions)
        if rule.verdict in ("jump", "goto"):
            goes_on = _chain(
                rules,
                rule.target,
                packet,
                with_own,
                result,
                sure=certain,
                aimed=means_us,
                depth=depth + 1,
            )
            if answer == YES and (not goes_on or rule.verdict == "goto"):
                # After a goto the packet goes on where the chain before was left (nft(8)).
                return goes_on
        elif rule.verdict == "drop" and not certain:
            result.doubts.append(rule.text)
            if answer == YES:
                return False
        elif answer == YES:
            if rule.verdict == "return":
                return True
            if sure:
                result.verdict, result.by, result.aimed = rule.verdict, rule.text, means_us
            return False
    return True


def _condition(one: Condition, packet: Packet) -> int:
    answer = max(
        (
            min((_match(match, packet) for match in those), default=YES)
            for those in one.alternatives
        ),
        default=NO,
    )
    return YES - answer if one.negated else answer


def _aims(one: Condition, packet: Packet) -> bool:
    """Whether a condition that holds names a device, or addresses of pods alone."""
    if one.negated:
        return False
    return any(
        match.what in ("iif", "oif")
        or (match.what in ("source", "destination") and _is_within(match.value, packet.cluster))
        for those in one.alternatives
        for match in those
        if _match(match, packet)
    )


def _is_within(inner: object, outer: tuple[int, int, int]) -> bool:
    return (
        isinstance(inner, tuple)
        and inner[0] == outer[0]
        and outer[1] <= inner[1]
        and inner[2] <= outer[2]
    )


def _match(match: Match, packet: Packet) -> int:
    what, value = match
    if what in _FIXED:
        return _FIXED[what]
    if what in ("source", "destination"):
        return _addresses(value, getattr(packet, what))
    if what in ("iif", "oif"):
        holds = _is_named(str(value), getattr(packet, what))
    elif what in ("sport", "dport"):
        first, last = value if isinstance(value, tuple) else (value, value)
        port = SOURCE_PORT if what == "sport" else DESTINATION_PORT
        holds = packet.protocol in ("tcp", "udp") and first <= port <= last
    elif what == "syn":
        holds = packet.protocol == "tcp" and packet.state == "new"
    else:
        holds = getattr(packet, what) == value
    return YES if holds else NO


_FIXED = {"maybe": MAYBE, "never": NO, "always": YES}


def _is_named(pattern: str, name: str) -> bool:
    if pattern.endswith(("*", "+")):
        return name.startswith(pattern[:-1])
    return name == pattern


def _addresses(value: object, have: tuple[int, int, int]) -> int:
    if not isinstance(value, tuple):
        return MAYBE
    family, first, last = value
    if family != have[0] or last < have[1] or have[2] < first:
        return NO
    if first <= have[1] and have[2] <= last:
        return YES
    # A rule about one address is about one pod; the others' packets pass it.
    return NO if first == last else MAYBE


def addresses(text: str) -> tuple[int, int, int]:
    """Return the range of an address, a CIDR or "FIRST-LAST"; raise ValueError for other text."""
    first, dash, last = text.partition("-")
    if dash:
        family = 6 if ":" in first else 4
        return (family, *(int.from_bytes(pack(one), "big") for one in (first, last)))  # type: ignore[return-value]
    family, most = (6, 128) if ":" in text else (4, 32)
    base, length = split_cidr(text) if "/" in text else (text, most)
    number, bits = int.from_bytes(pack(base), "big"), most - length
    return family, number >> bits << bits, number | ((1 << bits) - 1)

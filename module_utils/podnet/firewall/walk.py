"""Walk a chain's rules as the kernel does, to find out what happens to a kind of packet.

A condition matches all packets of the kind (YES), none (NO), or podnet cannot tell (MAYBE). A rule
that may match decides nothing: its accept is not relied on, and its drop is reported as a doubt. So
packets that `walk` calls dropped are dropped, unless an accept that may match comes first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from ..core.model import pack, split_cidr

NO, MAYBE, YES = 0, 1, 2


#: Ports of the one packet that is walked as an example of its kind. Rules about a few well-known
#: ports do not match it and are ignored, as somebody's policy; rules about nearly all ports match.
SOURCE_PORT, DESTINATION_PORT = 50000, 40000


class Packet(NamedTuple):
    """A kind of packet: all from one range to another, of one protocol, in one state.

    Ranges are (family, first, last), the addresses as integers; `cluster` is that of all pods.
    `protocol` is tcp, udp or icmp; `state` is "new" or "established" (nf_conntrack). `sport` and
    `dport` are the ports of the example.
    """

    iif: str
    oif: str
    source: tuple[int, int, int]
    destination: tuple[int, int, int]
    protocol: str
    state: str
    cluster: tuple[int, int, int]
    sport: int = SOURCE_PORT
    dport: int = DESTINATION_PORT

    @property
    def family(self) -> int:
        """Return 4 or 6."""
        return self.source[0]

    @property
    def bridged(self) -> bool:
        """Whether it passes from port to port of a bridge, as br_netfilter sees it."""
        return self.iif == self.oif


class Match(NamedTuple):
    """One comparison with `value`; `what` is a field of Packet, or "sport", "dport" or "syn".

    It may also be a fixed answer: "maybe", "never" or "always".
    """

    what: str
    value: object = None


#: Podnet cannot tell whether it holds; it holds for no packet of a pod; it holds for all.
UNKNOWN, NEVER, ALWAYS = Match("maybe"), Match("never"), Match("always")


class Condition(NamedTuple):
    """Holds if all comparisons of at least one alternative hold; with `negated`, if not."""

    alternatives: tuple[tuple[Match, ...], ...]
    negated: bool = False


class FilterRule(NamedTuple):
    """A rule; `verdict` is accept, drop, return, jump, goto or "" (go on with the next rule).

    `target` is the chain to jump or go to, `text` the rule for messages. `own`: podnet made it.
    """

    conditions: tuple[Condition, ...]
    verdict: str
    target: str = ""
    text: str = ""
    own: bool = False


@dataclass
class Ruleset:
    """Chains by name; packets enter at chain `base`, and `policy` is the verdict at its end."""

    base: str
    policy: str
    chains: dict[str, list[FilterRule]] = field(default_factory=dict)


@dataclass
class WalkResult:
    """What happens to a packet: `verdict` is accept or drop, by the rule `by` or "its policy".

    `aimed`: the rule, or a jump to it, names pods' devices or addresses, so somebody wrote it for
    them. `doubts` are rules before it that may drop the packet.
    """

    verdict: str = ""
    by: str = ""
    aimed: bool = False
    doubts: list[str] = field(default_factory=list)


def walk(rules: Ruleset, packet: Packet, with_own: bool = False) -> WalkResult:
    """Return what happens to `packet`; without `with_own`, podnet's own rules are skipped."""
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
    """Walk one chain, filling `result`; return whether the packet comes back to its caller.

    `sure`: all jumps that led here match for certain. `aimed`: one of them names pods.
    """
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
                # After a goto the packet does not come back here, but to this chain's caller
                # (nft(8)).
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
        port = packet.sport if what == "sport" else packet.dport
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
    # A rule about one address concerns one pod; it does not match packets of all others.
    return NO if first == last else MAYBE


def addresses(text: str) -> tuple[int, int, int]:
    """Return the range of an address, a CIDR or "FIRST-LAST" as (family, first, last).

    The addresses are integers. Raises ValueError for other text.
    """
    first, dash, last = text.partition("-")
    if dash:
        family = 6 if ":" in first else 4
        return (family, *(int.from_bytes(pack(one), "big") for one in (first, last)))  # type: ignore[return-value]
    family, most = (6, 128) if ":" in text else (4, 32)
    base, length = split_cidr(text) if "/" in text else (text, most)
    number, bits = int.from_bytes(pack(base), "big"), most - length
    return family, number >> bits << bits, number | ((1 << bits) - 1)

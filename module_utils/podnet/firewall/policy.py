"""Find policy rules (ip-rule(8)) that route pods' packets before table main is looked up.

podnet's routes are in table main. A VPN client, for example, adds a rule that is tried before it
and a route in a table of its own: pods' packets then take that route, although all of podnet's
routes are in place.
"""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping, NamedTuple

from .walk import MAYBE, NO, YES, addresses

#: Numbers of linux/rtnetlink.h: tables; types of rules and routes that drop a packet; the type of
#: route that sends the lookup on to the next rule.
LOCAL, MAIN = "255", "254"
_ENDS = {"6": "blackhole", "7": "unreachable", "8": "prohibit"}
_THROW = "9"


class Traffic(NamedTuple):
    """Packets from one range of addresses to another that come in by `device`.

    A range is (family, first, last), the addresses as integers. `device` is "" where it is not
    known: no rule with `iif` matches then.
    """

    source: tuple[int, int, int]
    destination: tuple[int, int, int]
    device: str


class Capture(NamedTuple):
    """A rule that sends pods' packets over `route`; `rule` is its text.

    `certain` is false where it depends on a mark or the like whether the rule matches.
    """

    priority: int
    rule: str
    route: str
    certain: bool


def captures(
    rules: Iterable[Mapping[str, Any]],
    traffic: Traffic,
    routes: Callable[[str], Iterable[Mapping[str, Any]]],
) -> list[Capture]:
    """Return the rules before table main's that take `traffic`, up to the first that is certain to.

    `routes` returns the routes of a table by its number. They and `rules` are as `ip -j -N` prints
    them.
    """
    found: list[Capture] = []
    skip = -1
    for rule in sorted(rules, key=lambda one: _number(one.get("priority"))):
        priority = _number(rule.get("priority"))
        answer = _selects(rule, traffic)
        if priority < skip or answer == NO:
            continue
        if "goto" in rule:
            skip = _number(rule["goto"]) if answer == YES else skip
            continue
        action, table = str(rule.get("action", "")), str(rule.get("table", ""))
        if table == MAIN and answer == YES and _number(rule.get("suppress_prefixlen", -1)) < 1:
            # The routes to pods are found here. suppress_prefixlength 0 hides default routes only.
            break
        route = ""
        if action in _ENDS:
            route = _ENDS[action]
        elif table not in ("", LOCAL, MAIN):
            suppressed = _number(rule.get("suppress_prefixlen", -1))
            route = _route(routes(table), traffic, suppressed, answer)
        if route:
            found.append(Capture(priority, rule_text(rule), route, answer == YES))
            if answer == YES:
                break
    return found


def _selects(rule: Mapping[str, Any], traffic: Traffic) -> int:
    answers = [
        _overlap(_prefix(rule, key), have)
        for key, have in (("src", traffic.source), ("dst", traffic.destination))
        if rule.get(key, "all") != "all"
    ]
    if "iif" in rule:
        answers.append(YES if rule["iif"] == traffic.device else NO)
    if {"oif", "uid_start", "uidrange", "l3mdev"} & rule.keys():
        # Such rules match packets of the host's own sockets, or of devices in a VRF.
        answers.append(NO)
    if {"ipproto", "sport", "dport", "tos", "tun_id"} & rule.keys():
        answers.append(MAYBE)
    if "fwmark" in rule and _number(rule["fwmark"]):
        # Few packets carry a mark. `not fwmark N` alone matches nearly all, so its answer is YES
        # (the NO here is inverted below); any other rule with fwmark may match.
        alone = "not" in rule and not answers
        answers.append(NO if alone else MAYBE)
    answer = min(answers, default=YES)
    return YES - answer if "not" in rule else answer


def _route(
    routes: Iterable[Mapping[str, Any]], traffic: Traffic, suppressed: int, answer: int
) -> str:
    """Return the route that `traffic` takes in a table, "" for none.

    Routes with a prefix no longer than `suppressed` bits are ignored. `answer` is whether the rule
    that leads to the table matches: YES or MAYBE.
    """
    best, text = -1, ""
    for route in routes:
        prefix = _prefix(route, "dst")
        length = _length(route)
        if prefix is None or length <= suppressed or length <= best:
            continue
        if answer != YES and length == 0:
            # A rule that depends on a mark and leads to a default route is meant for traffic to
            # the outside, not for packets between pods.
            continue
        if _overlap(prefix, traffic.destination, single=YES) != NO:
            best = length
            kind = str(route.get("type", "1"))
            where = _ENDS.get(kind, f"{route.get('dst')} dev {route.get('dev', '?')}")
            text = "" if kind == _THROW else where
    return text


def _prefix(entry: Mapping[str, Any], key: str) -> tuple[int, int, int] | None:
    text = str(entry.get(key, ""))
    if text in ("default", "all", "0/0", "::/0"):
        return (0, 0, 0)
    length = entry.get(f"{key}len")
    try:
        return addresses(text if length is None else f"{text}/{_number(length)}")
    except ValueError:
        return None


def _length(route: Mapping[str, Any]) -> int:
    text = str(route.get("dst", ""))
    if text == "default":
        return 0
    length = text.partition("/")[2]
    return int(length) if length.isdigit() else 128 if ":" in text else 32


def _overlap(
    value: tuple[int, int, int] | None, have: tuple[int, int, int], single: int = NO
) -> int:
    if value is None:
        return MAYBE
    family, first, last = value
    if family == 0:
        return YES
    if family != have[0] or last < have[1] or have[2] < first:
        return NO
    if first <= have[1] and have[2] <= last:
        return YES
    return single if first == last else MAYBE


def _number(value: object) -> int:
    try:
        return int(str(value), 0)
    except ValueError:
        return 0


def rule_text(rule: Mapping[str, Any]) -> str:
    """Return a rule as `ip rule` shows it, with its most common selectors only."""
    words = [f"{rule.get('priority')}:"] + ["not"] * ("not" in rule)
    for key, word in (("src", "from"), ("dst", "to")):
        if key in rule:
            length = f"/{rule[key + 'len']}" if f"{key}len" in rule else ""
            words.append(f"{word} {rule[key]}{length}")
    words += [f"{key} {rule[key]}" for key in ("fwmark", "iif") if key in rule]
    action = str(rule.get("action", ""))
    words.append(_ENDS.get(action, f"lookup {rule.get('table')}"))
    return " ".join(words)


def tell(found: Iterable[tuple[str, Capture]]) -> tuple[list[str], list[str]]:
    """Return messages about (rules that take pods' packets, rules that may).

    `found` holds pairs of a range of pods (CIDR) and a rule that takes packets to it.
    """
    sure: dict[tuple[str, Capture], None] = dict.fromkeys(found)
    told: dict[bool, list[str]] = {True: [], False: []}
    for cidr, one in sure:
        verb = "takes" if one.certain else "may take"
        told[one.certain].append(
            f'policy rule "{one.rule}" {verb} packets between pods before table main is asked '
            f"({one.route}), so they do not go the way that podnet sets. The rule is not podnet's: "
            "remove it, or put one before it: ip rule add pref "
            f"{max(one.priority - 1, 1)} to {cidr} lookup main"
        )
    return told[True], told[False]

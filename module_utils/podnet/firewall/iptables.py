"""Parse rules as `iptables -S` prints them (iptables(8), iptables-extensions(8)), for `walk`."""

from __future__ import annotations

import shlex
from typing import Iterable

from .walk import ALWAYS, NEVER, UNKNOWN, Condition, FilterRule, Match, Ruleset, addresses

#: Built-in targets that end the walk of a chain -> verdict of a FilterRule.
_VERDICTS = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "drop", "RETURN": "return"}

#: Targets that hand the packet to a program, which may drop it.
_QUEUES = ("NFQUEUE", "QUEUE")

_ICMP = {"icmpv6": "icmp", "ipv6-icmp": "icmp", "1": "icmp", "58": "icmp", "6": "tcp", "17": "udp"}

#: Options that are no condition on a packet -> how many words follow them.
_SILENT = {"-m": 1, "--match": 1, "--comment": 1}


def rules(lines: Iterable[str], base: str, mark: str) -> Ruleset:
    """Return the table that `lines` list, to be walked from chain `base`.

    Rules whose comment is `mark` are podnet's own.
    """
    result = Ruleset(base, "accept", {base: []})
    parsed = []
    for line in lines:
        try:
            words = shlex.split(line)
        except ValueError:
            continue
        if words[:2] == ["-P", base] and len(words) > 2:
            result.policy = "accept" if words[2] == "ACCEPT" else "drop"
        elif words[:1] == ["-N"] and len(words) > 1:
            result.chains[words[1]] = []
        elif words[:1] == ["-A"] and len(words) > 1:
            parsed.append((line, words))
    for line, words in parsed:
        result.chains.setdefault(words[1], []).append(_rule(line, words[2:], result, mark))
    return result


def _rule(line: str, words: list[str], table: Ruleset, mark: str) -> FilterRule:
    conditions: list[Condition] = []
    target, goes_to = "", ""
    own = False
    at = 0
    while at < len(words):
        negated = words[at] == "!"
        at += negated
        option = words[at] if at < len(words) else ""
        following = words[at + 1 :]
        if option in ("-j", "-g"):
            target, goes_to = (following or [""])[0], option
            break
        values = _until_option(following)
        if option == "--comment":
            own = own or values[:1] == [mark]
        if option not in _SILENT:
            conditions.append(Condition(_alternatives(option, values), negated))
        at += 1 + len(values)
    verdict, jump = _verdict(target, goes_to, table)
    if target in _QUEUES:
        conditions.append(Condition(((UNKNOWN,),)))
    return FilterRule(tuple(conditions), verdict, jump, line, own)


def _verdict(target: str, goes_to: str, table: Ruleset) -> tuple[str, str]:
    if target in table.chains:
        return ("goto" if goes_to == "-g" else "jump"), target
    if target in _QUEUES:
        return "drop", ""
    return _VERDICTS.get(target, ""), ""


def _until_option(words: list[str]) -> list[str]:
    """Return the words before the next option.

    The first may be a value that begins with a dash, such as a comment: it counts as an option only
    if it looks like one.
    """
    for number, word in enumerate(words):
        if number and (word == "!" or word.startswith("-")):
            return words[:number]
        if not number and (word == "!" or (word.startswith("--") or word in _SHORT)):
            return []
    return words


_SHORT = ("-s", "-d", "-i", "-o", "-p", "-m", "-j", "-g", "-f")


def _alternatives(option: str, values: list[str]) -> tuple[tuple[Match, ...], ...]:
    value = values[0] if values else ""
    several = value.split(",")
    if option in ("-i", "-o"):
        return ((Match("iif" if option == "-i" else "oif", value),),)
    if option in ("-s", "-d", "--src-range", "--dst-range"):
        what = "source" if option in ("-s", "--src-range") else "destination"
        return tuple((_address(what, one),) for one in several)
    if option == "-p":
        return ((Match("protocol", _ICMP.get(value, value)),),) if value != "all" else ((ALWAYS,),)
    if option in ("--ctstate", "--state"):
        return tuple((Match("state", one.lower()),) for one in several)
    if option in ("--dport", "--sport", "--dports", "--sports", "--ports"):
        kinds = {"d": ("dport",), "s": ("sport",), "p": ("sport", "dport")}[option[2]]
        return tuple((_port(kind, one),) for one in several for kind in kinds)
    return _others(option, values)


def _others(option: str, values: list[str]) -> tuple[tuple[Match, ...], ...]:
    if option in ("--dst-type", "--src-type", "--pkt-type"):
        is_usual = "unicast" in (values or [""])[0].lower()
        return ((ALWAYS if is_usual else NEVER,),)
    if option == "--tcp-flags":
        return ((Match("syn") if values == ["FIN,SYN,RST,ACK", "SYN"] else NEVER,),)
    if option in ("--icmp-type", "--icmpv6-type", "--mac-source", "-f"):
        return ((NEVER,),)
    if option == "--physdev-is-bridged":
        return ((Match("bridged", True),),)
    # `-m rpfilter --invert` matches packets that fail the strict reverse path test. Pods' packets
    # pass it: they come in by the device that replies to them go out by.
    return ((NEVER if option == "--invert" else UNKNOWN,),)


def _address(what: str, text: str) -> Match:
    try:
        return Match(what, addresses(text))
    except ValueError:
        return UNKNOWN


def _port(what: str, text: str) -> Match:
    first, _mark, last = text.partition(":")
    if first.isdigit() and (last or first).isdigit():
        return Match(what, (int(first), int(last or first)))
    return UNKNOWN

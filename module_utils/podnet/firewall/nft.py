"""Parse a table as `nft -j list table` prints it (libnftables-json(5)), for `walk`."""

from __future__ import annotations

from typing import Any, Iterator

from .walk import ALWAYS, NEVER, UNKNOWN, Condition, FilterRule, Match, Ruleset, addresses

_VERDICTS = ("accept", "drop", "return", "jump", "goto")
_PROTOCOLS = {"icmpv6": "icmp", "ipv6-icmp": "icmp", 1: "icmp", 58: "icmp", 6: "tcp", 17: "udp"}
_FAMILIES = {"ipv4": 4, "ip": 4, "ipv6": 6, "ip6": 6}

#: Statements that, like a match, may keep a packet from the rest of their rule.
_GATES = ("limit", "quota", "ct count", "meter", "xt")


def rules(document: Any, base: str, mark: str) -> Ruleset:
    """Return the table in `document`, to be walked from chain `base`.

    Rules whose comment begins with `mark` are podnet's own.
    """
    result = Ruleset(base, "accept")
    entries = document.get("nftables", ()) if isinstance(document, dict) else ()
    sets = {
        str(body.get("name")): body.get("elem", [])
        for entry in entries
        for body in (entry.get("set"), entry.get("map"))
        if isinstance(body, dict)
    }
    for entry in entries:
        chain, rule = entry.get("chain"), entry.get("rule")
        if isinstance(chain, dict):
            result.chains.setdefault(str(chain.get("name")), [])
            if chain.get("name") == base:
                result.policy = "drop" if chain.get("policy") == "drop" else "accept"
        if isinstance(rule, dict):
            own = str(rule.get("comment", "")).startswith(mark)
            text = f"chain {rule.get('chain')}, rule with handle {rule.get('handle')}"
            result.chains.setdefault(str(rule.get("chain")), []).extend(
                one._replace(text=text, own=own) for one in _rules(rule.get("expr", ()), sets)
            )
    return result


def _rules(parts: Any, sets: dict[str, Any]) -> Iterator[FilterRule]:
    """Yield one rule of nft as a FilterRule; a verdict map as one for each of its elements.

    At most one element of a map matches a packet, so they may be walked one after the other.
    """
    conditions: list[Condition] = []
    for part in parts:
        if not isinstance(part, dict) or len(part) != 1:
            conditions.append(Condition(((UNKNOWN,),)))
            continue
        ((kind, body),) = part.items()
        if kind == "match" and isinstance(body, dict):
            conditions += _conditions(body, sets)
        elif kind == "vmap" and isinstance(body, dict):
            yield from _map(conditions, body, sets)
            return
        elif kind in (*_VERDICTS, "reject", "queue"):
            if kind == "queue":
                conditions.append(Condition(((UNKNOWN,),)))
            yield _verdict(conditions, {"drop" if kind in ("reject", "queue") else kind: body})
            return
        elif kind in _GATES:
            conditions.append(Condition(((_foreign(body),),)))


def _foreign(body: Any) -> Match:
    """Return the condition that a statement of _GATES makes.

    Of an extension of iptables (`xt`) nft prints nothing but the name.
    """
    name = body.get("name") if isinstance(body, dict) else None
    return {"comment": ALWAYS, "rpfilter": NEVER}.get(str(name), UNKNOWN)


def _verdict(conditions: list[Condition], verdict: Any) -> FilterRule:
    ((kind, body),) = verdict.items() if isinstance(verdict, dict) and verdict else (("", None),)
    target = str(body.get("target", "")) if isinstance(body, dict) else ""
    return FilterRule(tuple(conditions), kind if kind in _VERDICTS else "", target)


def _map(
    conditions: list[Condition], body: dict[str, Any], sets: dict[str, Any]
) -> Iterator[FilterRule]:
    data = body.get("data")
    elements = data.get("set") if isinstance(data, dict) else None
    if isinstance(data, str):
        elements = sets.get(data.lstrip("@"))
    if not isinstance(elements, list):
        yield FilterRule((*conditions, Condition(((UNKNOWN,),))), "drop")
        return
    for element in elements:
        if isinstance(element, list) and len(element) == 2:
            key = Condition((_matches(body.get("key"), "==", element[0]),))
            yield _verdict([*conditions, key], element[1])


def _conditions(body: dict[str, Any], sets: dict[str, Any]) -> list[Condition]:
    operator, right = str(body.get("op")), body.get("right")
    values = [right]
    if isinstance(right, str) and right.startswith("@"):
        found = sets.get(right[1:])
        if not isinstance(found, list):
            return [Condition(((UNKNOWN,),))]
        values = found
    elif isinstance(right, dict) and isinstance(right.get("set"), list):
        values = right["set"]
    elif isinstance(right, list) and operator in ("in", "==", "!="):
        values = right
    compared = operator if operator in ("<", ">", "<=", ">=") else "=="
    alternatives = tuple(_matches(body.get("left"), compared, value) for value in values)
    if operator != "!=" or "concat" in (body.get("left") or ()):
        return [Condition(alternatives, negated=operator == "!=")]
    # The protocol that has the field must match, whatever the operator: `tcp dport != 22` does not
    # match UDP.
    implied = tuple(those[:-1] for those in alternatives)
    last = tuple(those[-1:] for those in alternatives)
    return [Condition(implied), Condition(last, negated=True)]


def _matches(left: Any, operator: str, value: Any) -> tuple[Match, ...]:
    if isinstance(value, dict) and isinstance(value.get("elem"), dict):
        value = value["elem"].get("val")
    ((kind, body),) = left.items() if isinstance(left, dict) and len(left) == 1 else (("", None),)
    if kind == "concat" and isinstance(body, list):
        values = value.get("concat") if isinstance(value, dict) else None
        if not isinstance(values, list) or len(values) != len(body):
            return (UNKNOWN,)
        pairs = zip(body, values)
        return tuple(match for one, other in pairs for match in _matches(one, operator, other))
    if kind == "&" and isinstance(body, list) and body and body[0] == _TCP_FLAGS:
        return (NEVER,)
    if kind == "payload" and isinstance(body, dict):
        return _payload(str(body.get("protocol")), str(body.get("field")), operator, value)
    if kind == "fib":
        # "missing": there is no route back to the sender by this device. Pods' packets have one.
        return (NEVER,) if value is False else (UNKNOWN,)
    return (_meta(f"{kind} {body.get('key')}" if isinstance(body, dict) else "", value),)


_TCP_FLAGS = {"payload": {"protocol": "tcp", "field": "flags"}}


def _meta(what: str, value: Any) -> Match:
    fields = {
        "ct state": Match("state", value),
        "meta nfproto": Match("family", _FAMILIES.get(str(value), 0)),
        "meta protocol": Match("family", _FAMILIES.get(str(value), 0)),
        "meta l4proto": Match("protocol", _protocol(value)),
        "meta pkttype": ALWAYS if value in ("host", "unicast") else NEVER,
    }
    for key in ("iif", "iifname", "oif", "oifname"):
        fields[f"meta {key}"] = Match(key[:3], value)
    fields["meta ibrname"], fields["meta obrname"] = Match("iif", value), Match("oif", value)
    if what == "ct status" and value in ("dnat", "snat"):
        return NEVER
    return fields.get(what, UNKNOWN)


def _protocol(value: Any) -> Any:
    return _PROTOCOLS.get(value, value) if isinstance(value, (str, int)) else value


def _payload(protocol: str, field: str, operator: str, value: Any) -> tuple[Match, ...]:
    if protocol in ("ip", "ip6"):
        family = Match("family", _FAMILIES[protocol])
        if field in ("saddr", "daddr"):
            return family, _address("source" if field == "saddr" else "destination", value)
        if field in ("protocol", "nexthdr"):
            return family, Match("protocol", _protocol(value))
        return family, UNKNOWN
    if field in ("sport", "dport"):
        port = _port(field, operator, value)
        return (port,) if protocol == "th" else (Match("protocol", protocol), port)
    # TCP flags, types of ICMP, single MACs: most packets of pods do not match such a rule.
    return (NEVER if protocol in ("ether", "icmp", "icmpv6", "tcp", "arp") else UNKNOWN,)


def _address(what: str, value: Any) -> Match:
    text = value
    if isinstance(value, dict) and isinstance(value.get("prefix"), dict):
        text = f"{value['prefix'].get('addr')}/{value['prefix'].get('len')}"
    elif isinstance(value, dict) and isinstance(value.get("range"), list):
        text = "-".join(str(one) for one in value["range"])
    try:
        return Match(what, addresses(str(text)))
    except ValueError:
        return UNKNOWN


def _port(what: str, operator: str, value: Any) -> Match:
    if isinstance(value, dict) and isinstance(value.get("range"), list):
        first, last = (value["range"] + [None, None])[:2]
    else:
        first = last = value
    if not isinstance(first, int) or not isinstance(last, int):
        return UNKNOWN
    limits = {"<": (0, first - 1), "<=": (0, first), ">": (first + 1, 65535), ">=": (first, 65535)}
    return Match(what, limits.get(operator, (first, last)))

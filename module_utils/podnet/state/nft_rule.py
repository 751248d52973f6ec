"""Turn nft's JSON of one of our rules back into the text that podnet wrote.

nft prints a rule's text differently from what it was given, and each version differently; its JSON
names the parts (libnftables-json(5)). podnet writes a handful of forms, and this reads only those.
"""

from __future__ import annotations

from typing import Any, Sequence

_VERDICTS = ("accept", "drop", "return", "continue")


#: What else stands on the left of a match -> what nft's JSON has there.
_LEFT = {
    "meta pkttype": {"meta": {"key": "pkttype"}},
    "meta nfproto": {"meta": {"key": "nfproto"}},
    "udp dport": {"payload": {"protocol": "udp", "field": "dport"}},
    "@th,96,24": {"payload": {"base": "th", "offset": 96, "len": 24}},
    "fib daddr type": {"fib": {"result": "type", "flags": ["daddr"]}},
}


_NUMBERS = ("udp dport", "@th,96,24")


def are_alike(one: str, other: str) -> bool:
    """Whether two rules are the same; the elements of a set stand in any order."""
    return one == other or _in_order(one) == _in_order(other)


def _in_order(rule: str) -> str:
    # nft's JSON has no quotes around names.
    head, brace, rest = rule.replace('"', "").partition("{ ")
    body, end, tail = rest.partition(" }")
    return head + brace + ", ".join(sorted(body.split(", "))) + end + tail


def text(parts: Sequence[Any]) -> str:
    """Return the text of a rule whose `expr` is `parts`; "" if one of the parts cannot be read.

    A statement that podnet never writes becomes "[KIND]", so that the rule differs from ours.
    """
    words = [_statement(one) for one in parts]
    return "" if None in words else " ".join(str(word) for word in words)


def _statement(part: Any) -> str | None:
    if not isinstance(part, dict) or len(part) != 1:
        return None
    ((kind, body),) = part.items()
    if kind in _VERDICTS or (kind == "counter" and not isinstance(body, str)):
        return str(kind)  # whatever a counter has counted
    if kind == "masquerade":
        return _masquerade(body)
    if kind in ("match", "mangle") and isinstance(body, dict):
        left = _left(body.get("left", body.get("key")))
        right = _right(body.get("right", body.get("value")), number=left in _NUMBERS)
        if left is not None:
            sign = {"==": "", "in": "", None: "set "}.get(body.get("op"), f"{body.get('op')} ")
            return None if right is None else f"{left} {sign}{right}"
    # Nothing that podnet ever asks for.
    return f"[{kind}]"


def _masquerade(body: Any) -> str | None:
    flags = body.get("flags", []) if isinstance(body, dict) else []
    flags = [flags] if isinstance(flags, str) else flags
    if not isinstance(flags, list) or not all(isinstance(one, str) for one in flags):
        return None
    extra = sorted({*body} - {"flags"}) if isinstance(body, dict) else []
    return " ".join(["masquerade", *(f"[{one}]" for one in extra), *sorted(flags)])


def _left(side: Any) -> str | None:
    if not isinstance(side, dict):
        return None
    payload, meta = side.get("payload"), side.get("meta")
    if isinstance(payload, dict) and payload.get("field") in ("saddr", "daddr"):
        return f"{payload.get('protocol')} {payload['field']}"
    if isinstance(meta, dict) and meta.get("key") in ("iifname", "oifname"):
        return str(meta["key"])
    return next((text for text, one in _LEFT.items() if side == one), None)


def _right(side: Any, *, number: bool) -> str | None:
    if isinstance(side, str):
        return side
    if number and isinstance(side, int) and not isinstance(side, bool):
        return str(side)
    if not isinstance(side, dict) or len(side) != 1:
        return None
    ((kind, body),) = side.items()
    if kind == "prefix" and isinstance(body, dict):
        return f"{body.get('addr')}/{body.get('len')}"
    if kind == "set" and isinstance(body, list) and all(isinstance(one, str) for one in body):
        return f"{{ {', '.join(sorted(body))} }}"
    return None

"""What the hosts on a packet's way say together: the report of trace.yml, and the cause."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Sequence

from ..core import schema
from .trace_way import node_of, not_asked

#: Host -> what it is asked (trace_way.questions), and the answers, one for each.
Asked = Mapping[str, Sequence[Mapping[str, Any]]]
Answers = Mapping[str, Sequence[Any]]


class Leg(NamedTuple):
    """The hops on one host in one direction; `missing` says why there are none."""

    host: str
    title: str
    hops: Sequence[Mapping[str, Any]]
    missing: str = ""


def report(
    document: Mapping[str, Any],
    found: Mapping[str, Any],
    asked: Asked,
    results: Answers,
) -> dict[str, Any]:
    """Return ``{lines, verdict, broken, cause, legs}``.

    `asked` is what `questions` returned and `results` are the answers, host -> one for each.
    `cause` is the hop that breaks the packet, with `host` and `direction`; {} for none.
    """
    there, back = _legs(found, asked, results)
    if found["target"]["kind"] == "pod":
        _compare_macs(found, asked, results, there, back)
    ends = _ends(found, asked)
    cause = _cause(there, back) or _silent_node(document, found, asked, results)
    sentence, broken = _verdict(found, ends, [*there, *back], cause, results)
    lines = [_headline(document, found, ends)]
    for title, legs in (("There", there), ("And back", back)):
        lines += ["", title]
        for leg in legs:
            lines += _shown(leg)
    lines += _probes(found, results)
    return {
        "lines": [*lines, "", sentence],
        "verdict": sentence,
        "broken": broken,
        "cause": cause,
        "legs": [
            {"direction": direction, "host": leg.host, "hops": list(leg.hops)}
            for direction, legs in (("there", there), ("back", back))
            for leg in legs
        ],
    }


def _ends(found: Mapping[str, Any], asked: Asked) -> tuple[str, str]:
    first = asked[str(found["source"]["host"])][0]
    return first["local"], first["remote"]


def _answer(
    host: str,
    role: str,
    asked: Asked,
    results: Answers,
) -> Any:
    for number, one in enumerate(asked.get(host, ())):
        if one["role"] == role:
            answers = results.get(host) or ()
            return answers[number] if number < len(answers) else None
    return None


def _legs(
    found: Mapping[str, Any],
    asked: Asked,
    results: Answers,
) -> tuple[list[Leg], list[Leg]]:
    """Return the legs there and back, in the packet's order."""
    source, target = found["source"], found["target"]
    begin = _answer(str(source["host"]), "from", asked, results)
    there = [_leg(str(source["host"]), "out of the pod", begin, "out")]
    back = []
    host = str(target["host"])
    if any(one["role"] == "to" for one in asked.get(host, ())):
        is_pod = target["kind"] == "pod"
        end = _answer(host, "to", asked, results)
        there.append(_leg(host, "in to the pod" if is_pod else "in", end, "in"))
        back.append(_leg(host, "out of the pod" if is_pod else "out", end, "out"))
    back.append(_leg(str(source["host"]), "in to the pod", begin, "in"))
    return there, back


def _compare_macs(
    found: Mapping[str, Any],
    asked: Asked,
    results: Answers,
    there: list[Leg],
    back: list[Leg],
) -> None:
    """Add to the legs what one host alone cannot see: another MAC than the node's at its address.

    Where the node answers ping all the same, somebody answers ARP for it, as clouds do.
    """
    source, target = str(found["source"]["host"]), str(found["target"]["host"])
    begin = _facts(_answer(source, "from", asked, results))
    end = _facts(_answer(target, "to", asked, results))
    for host, other, mine, theirs, legs in (
        (source, target, begin, end, there),
        (target, source, end, begin, back),
    ):
        if host == other or not mine or not theirs:
            continue
        outer = mine["outer"]
        if not outer["neighbour"] or not theirs["outer"]["device"]:
            continue
        one = outer["neighbour"][0]
        at, mac = str(one.get("dst", "")), str(one.get("lladdr", ""))
        link = theirs["links"].get(theirs["outer"]["device"], {})
        silent = [it for it in mine["probes"] if it["to"] == at and not it["ok"]]
        if not mac or at not in schema.held(link) or mac == link.get("address") or not silent:
            continue
        fault = f"{at} is at {mac} on {outer['device']}, and {other} has {link.get('address')}"
        mend = (
            f"on {host}: ip neigh del {at} dev {outer['device']}; see whether two hosts have {at}"
        )
        hops = [
            {**hop, "fault": fault, "mend": mend}
            if hop["key"] == "underlay" and not hop.get("fault")
            else hop
            for hop in legs[0].hops
        ]
        legs[0] = legs[0]._replace(hops=hops)


def _facts(result: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = result.get("facts", {}) if isinstance(result, Mapping) else {}
    return found


def _leg(host: str, title: str, result: Any, key: str) -> Leg:
    if isinstance(result, Mapping) and isinstance(result.get(key), list):
        return Leg(host, title, result[key])
    return Leg(host, title, (), not_asked(host, result))


def _cause(there: Sequence[Leg], back: Sequence[Leg]) -> dict[str, str]:
    """Return the first hop that breaks the packet, or the one that is its reason.

    A hop that breaks large packets alone counts only if no other hop breaks any.
    """
    every = [("there", leg) for leg in there] + [("back", leg) for leg in back]
    faults = [
        (direction, leg, hop) for direction, leg in every for hop in leg.hops if hop.get("fault")
    ]
    faults.sort(key=lambda one: bool(one[2].get("partial")))
    if not faults:
        return {}
    direction, leg, hop = faults[0]
    by_key = {one["key"]: one for one in leg.hops}
    for _step in leg.hops:
        reasons = [by_key[one] for one in hop.get("because", ()) if one in by_key]
        reason = next((one for one in reasons if one.get("fault")), None)
        if reason is None:
            break
        hop = reason
    if hop["key"] == "underlay":
        # The other node may tell itself why it does not answer.
        legs = there if direction == "there" else back
        for other in legs[legs.index(leg) + 1 :]:
            for one in other.hops:
                if one["key"] == "address" and one.get("fault"):
                    leg, hop = other, one
    kept = {key: str(hop.get(key, "")) for key in ("key", "answer", "plan", "fault", "mend")}
    return {"host": leg.host, "direction": direction, **kept}


def _silent_node(
    document: Mapping[str, Any],
    found: Mapping[str, Any],
    asked: Asked,
    results: Answers,
) -> dict[str, str]:
    """Return the other node as the cause if it answers neither Ansible nor a ping of the source's.

    The source's kernel may take a node for reachable for half a minute after it is gone.
    """
    host, source = str(found["target"]["host"]), str(found["source"]["host"])
    end = _answer(host, "to", asked, results)
    if not isinstance(end, Mapping) or not end.get("unreachable"):
        return {}
    node = node_of(document, host)
    silent = [
        one
        for one in _probed(source, results, "host")
        if not one["ok"] and one["to"] in (node.get("ip"), node.get("ip6"))
    ]
    if not silent:
        return {}
    return {
        "host": source,
        "direction": "there",
        "key": "underlay",
        "answer": str(silent[0]["error"] or "no reply"),
        "plan": "",
        "fault": f"{host} answers neither ping at {silent[0]['to']} nor Ansible",
        "mend": f"bring {host} back, or its way to the other nodes",
    }


def _pings(found: Mapping[str, Any], results: Answers) -> list[Mapping[str, Any]]:
    """Return the probes that the source pod has sent to the other end."""
    return _probed(str(found["source"]["host"]), results, "pod")


def _probed(host: str, results: Answers, sender: str) -> list[Mapping[str, Any]]:
    answers = results.get(host) or ()
    facts = _facts(answers[0] if answers else None)
    return [one for one in facts.get("probes", ()) if one["from"] == sender]


def _verdict(
    found: Mapping[str, Any],
    ends: tuple[str, str],
    legs: Sequence[Leg],
    cause: Mapping[str, str],
    results: Answers,
) -> tuple[str, bool]:
    """Return the last sentence, and whether something breaks the packet or may."""
    if cause:
        way_ = "on the way there" if cause["direction"] == "there" else "on the way back"
        mend = f" To mend it: {cause['mend']}." if cause["mend"] else ""
        return (
            f"It breaks on {cause['host']}, {way_}, at {cause['key']}: {cause['fault']}.{mend}",
            True,
        )
    missing = [leg.missing for leg in legs if leg.missing]
    if missing:
        return f"No hop that could be asked breaks it, but not all could: {missing[0]}", True
    pings = _pings(found, results)
    silent = [one for one in pings if not one["ok"]]
    if not silent:
        proof = f"; {len(pings)} of {len(pings)} echoes came back" if pings else ""
        return (
            f"Nothing breaks: {ends[0]} reaches {ends[1]}, and answers find the way back{proof}.",
            False,
        )
    said = f"{silent[0]['error'] or 'no reply'}"
    if silent[0].get("router"):
        said += f", says {silent[0]['router']}"
    sizes = " and ".join(str(one["size"]) for one in silent)
    rest = (
        "It may not answer ping."
        if found["target"]["kind"] != "pod"
        else "Either it does not answer ping (playbooks/verify.yml asks by UDP and TCP), or what "
        "lies between the nodes drops the packets: a switch, a router, a security group."
    )
    sentence = (
        f"No hop on the hosts breaks it, but {ends[1]} does not answer echoes of {sizes} bytes "
        f"from {ends[0]} ({said}). {rest}"
    )
    return sentence, found["target"]["kind"] == "pod"


def _headline(document: Mapping[str, Any], found: Mapping[str, Any], ends: tuple[str, str]) -> str:
    target = found["target"]
    where = {
        "pod": f"on {target['host']}",
        "node": f"the address of {target['host']}",
        "outside": "outside",
    }[str(target["kind"])]
    return (
        f"From {ends[0]} (on {found['source']['host']}) to {ends[1]} ({where}), network "
        f"{document['name']} ({document['backend']}), IPv{found['family']}"
    )


def _shown(leg: Leg) -> list[str]:
    lines = [f" {leg.host}, {leg.title}:"]
    if leg.missing:
        return [*lines, f"  ??  {leg.missing}"]
    for hop in leg.hops:
        mark = "!!" if hop.get("fault") else "ok"
        lines.append(f"  {mark}  {hop['key']}: {hop['question']}")
        lines.append(f"        {hop['answer']}")
        for key in ("plan", "fault", "mend", "note"):
            if hop.get(key):
                lines.append(f"        {key}: {hop[key]}")
    return lines


def _probes(found: Mapping[str, Any], results: Answers) -> list[str]:
    lines = []
    for one in _pings(found, results):
        said = "answered" if one["ok"] else f"not answered: {one['error'] or 'no reply'}"
        lines.append(f"  echo of {one['size']} bytes from the pod to {one['to']}: {said}")
    for host, answers in results.items():
        for answer in answers or ():
            for counter, number in _facts(answer).get("dropped", {}).items():
                lines.append(f"  meanwhile on {host}: {counter}: {number}")
    return ["", "Probes", *dict.fromkeys(lines)] if lines else []

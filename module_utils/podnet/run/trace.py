"""Which hosts a packet passes, and what their answers together say: the report of trace.yml."""

from __future__ import annotations

import ipaddress
from typing import Any, Mapping, NamedTuple, Sequence

from ..core.errors import PodnetError
from ..core.model import is_inside
from ..core.text import listed
from ..plan.checks import show

_FORMS = "HOST (any pod of it), HOST/NAMESPACE, or ADDRESS"


class End(NamedTuple):
    """One end of the way: `host` is the node that has it, "" outside of the pod network.

    `address` is "" where the host must be asked for it; `which` then names the pod (a namespace, ""
    for any). `kind` is "pod", "node" (a node's own address) or "outside".
    """

    kind: str
    host: str
    address: str = ""
    which: str = ""


def way(document: Mapping[str, Any], begin: Any, end: Any) -> dict[str, Any]:
    """Return ``{family, source, target, hosts, finds}`` for podnet_from and podnet_to.

    `hosts` are those on the way, `finds` maps an end to what its host must be asked first: host ->
    which. Raises PodnetError for ends that name nothing.
    """
    for name, value in (("podnet_from", begin), ("podnet_to", end)):
        if not isinstance(value, str) or not value.strip():
            raise PodnetError(
                f"{name}: missing; it is {_FORMS}, for example "
                "-e podnet_from=n1 -e podnet_to=10.244.1.5"
            )
    source = _end(document, "podnet_from", begin.strip())
    target = _end(document, "podnet_to", end.strip())
    if source.kind != "pod":
        raise PodnetError(
            f"podnet_from: {source.address} is no pod's address: a way begins at a pod. Give "
            f"{_FORMS} of a pod"
        )
    families = [6 if ":" in one.address else 4 for one in (source, target) if one.address]
    if len(set(families)) > 1:
        raise PodnetError(
            f"podnet_from, podnet_to: {source.address} and {target.address} are of two families"
        )
    family = families[0] if families else (4 if document["cluster_cidr"] else 6)
    for name, one in (("podnet_from", source), ("podnet_to", target)):
        if one.kind == "pod" and not _subnet(_node(document, one.host), family):
            raise PodnetError(
                f"{name}: {one.host} has no IPv{family} pods; podnet_cluster_cidr"
                f"{'6' if family == 6 else ''} gives them"
            )
    if source.address and source.address == target.address:
        raise PodnetError(f"podnet_from, podnet_to: {source.address} is both")
    if not source.address and source == target:
        raise PodnetError(f"podnet_from, podnet_to: both are the same pod of {source.host}")
    hosts = list(dict.fromkeys(one.host for one in (source, target) if one.kind == "pod"))
    return {
        "family": family,
        "source": source._asdict(),
        "target": target._asdict(),
        "hosts": hosts,
        "finds": {
            key: {"host": one.host, "which": one.which}
            for key, one in (("source", source), ("target", target))
            if not one.address
        },
    }


def _end(document: Mapping[str, Any], name: str, text: str) -> End:
    nodes = [str(one["name"]) for one in document["nodes"]]
    if text in nodes:
        return End("pod", text)
    try:
        address = str(ipaddress.ip_address(text))
    except ValueError:
        host, slash, namespace = text.partition("/")
        if slash and host in nodes and namespace and "/" not in namespace:
            return End("pod", host, "", namespace)
        raise PodnetError(
            f"{name}: {show(text)} is no host of the plan, which has {listed(nodes, 5)}, and no "
            f"address; give {_FORMS}"
        ) from None
    single = f"{address}/{128 if ':' in address else 32}"
    for node in document["nodes"]:
        for subnet in (node.get("subnet"), node.get("subnet6")):
            if subnet and is_inside(single, subnet):
                return End("pod", str(node["name"]), address)
        if address in (node.get("ip"), node.get("ip6")):
            return End("node", str(node["name"]), address)
    for cidr in (document["cluster_cidr"], document["cluster_cidr6"]):
        if cidr and is_inside(single, cidr):
            six = "6" if ":" in cidr else ""
            have = [f"{one['name']} {one[f'subnet{six}']}" for one in document["nodes"]]
            raise PodnetError(
                f"{name}: {address} is free: it is in {cidr}, and no node has it. Nodes have "
                f"{listed(have, 5)} (playbooks/plan.yml shows all)"
            )
    return End("outside", "", address)


def _node(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(one for one in document["nodes"] if one["name"] == name)
    return found


def _subnet(node: Mapping[str, Any], family: int) -> str:
    return str(node.get("subnet" if family == 4 else "subnet6") or "")


def questions(found: Mapping[str, Any], pods: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return host -> what it is asked (`local`, `remote`, `role` of podnet_trace).

    `found` is what `way` returned; `pods` are the results of the hosts that were asked for a pod,
    by "source" and "target". Raises PodnetError where one of them gave none.
    """
    ends = {}
    for key in ("source", "target"):
        ends[key] = str(found[key]["address"])
        if key in found["finds"]:
            result = pods.get(key)
            pod = result.get("pod") if isinstance(result, Mapping) else None
            if not isinstance(pod, Mapping):
                raise PodnetError(_not_asked(str(found["finds"][key]["host"]), result))
            ends[key] = str(pod["address"])
    if ends["source"] == ends["target"]:
        raise PodnetError(f"podnet_from, podnet_to: both are {ends['source']}")
    asked: dict[str, list[dict[str, str]]] = {}
    for key, other, role in (("source", "target", "from"), ("target", "source", "to")):
        if found[key]["kind"] == "pod":
            one = {"local": ends[key], "remote": ends[other], "role": role}
            asked.setdefault(str(found[key]["host"]), []).append(one)
    return asked


def _not_asked(host: str, result: Any) -> str:
    if not isinstance(result, Mapping) or result.get("skipped"):
        return (
            f"{host} is on the way and not in this run; run without --limit, or with {host} in it"
        )
    said = " ".join(str(result.get("msg", "")).split())
    if result.get("unreachable"):
        return f"{host} is on the way and does not answer Ansible: {said}"
    return said or f"{host}: gave no answer"


class Leg(NamedTuple):
    """The hops on one host in one direction; `missing` says why there are none."""

    host: str
    title: str
    hops: Sequence[Mapping[str, Any]]
    missing: str = ""


def report(
    document: Mapping[str, Any],
    found: Mapping[str, Any],
    asked: Mapping[str, Sequence[Mapping[str, str]]],
    results: Mapping[str, Sequence[Any]],
) -> dict[str, Any]:
    """Return ``{lines, verdict, broken, cause, legs}``.

    `asked` is what `questions` returned and `results` are the answers, host -> one for each.
    `cause` is the hop that breaks the packet, with `host` and `direction`; {} for none.
    """
    there, back = _legs(found, asked, results)
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


def _ends(
    found: Mapping[str, Any], asked: Mapping[str, Sequence[Mapping[str, str]]]
) -> tuple[str, str]:
    first = asked[str(found["source"]["host"])][0]
    return first["local"], first["remote"]


def _answer(
    host: str,
    role: str,
    asked: Mapping[str, Sequence[Mapping[str, str]]],
    results: Mapping[str, Sequence[Any]],
) -> Any:
    for number, one in enumerate(asked.get(host, ())):
        if one["role"] == role:
            answers = results.get(host) or ()
            return answers[number] if number < len(answers) else None
    return None


def _legs(
    found: Mapping[str, Any],
    asked: Mapping[str, Sequence[Mapping[str, str]]],
    results: Mapping[str, Sequence[Any]],
) -> tuple[list[Leg], list[Leg]]:
    """Return the legs there and back, in the packet's order."""
    source, target = found["source"], found["target"]
    begin = _answer(str(source["host"]), "from", asked, results)
    there = [_leg(str(source["host"]), "out of the pod", begin, "out")]
    back = []
    if target["kind"] == "pod":
        end = _answer(str(target["host"]), "to", asked, results)
        there.append(_leg(str(target["host"]), "in to the pod", end, "in"))
        back.append(_leg(str(target["host"]), "out of the pod", end, "out"))
    back.append(_leg(str(source["host"]), "in to the pod", begin, "in"))
    return there, back


def _leg(host: str, title: str, result: Any, key: str) -> Leg:
    if isinstance(result, Mapping) and isinstance(result.get(key), list):
        return Leg(host, title, result[key])
    return Leg(host, title, (), _not_asked(host, result))


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
    kept = {key: str(hop.get(key, "")) for key in ("key", "answer", "plan", "fault", "mend")}
    return {"host": leg.host, "direction": direction, **kept}


def _silent_node(
    document: Mapping[str, Any],
    found: Mapping[str, Any],
    asked: Mapping[str, Sequence[Mapping[str, str]]],
    results: Mapping[str, Sequence[Any]],
) -> dict[str, str]:
    """Return the other node as the cause if it answers neither Ansible nor a ping of the source's.

    The source's kernel may take a node for reachable for half a minute after it is gone.
    """
    host, source = str(found["target"]["host"]), str(found["source"]["host"])
    end = _answer(host, "to", asked, results)
    if not isinstance(end, Mapping) or not end.get("unreachable"):
        return {}
    node = _node(document, host)
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


def _pings(
    found: Mapping[str, Any], results: Mapping[str, Sequence[Any]]
) -> list[Mapping[str, Any]]:
    """Return the probes that the source pod has sent to the other end."""
    return _probed(str(found["source"]["host"]), results, "pod")


def _probed(
    host: str, results: Mapping[str, Sequence[Any]], sender: str
) -> list[Mapping[str, Any]]:
    answers = results.get(host) or ()
    first = answers[0] if answers else None
    facts = first.get("facts", {}) if isinstance(first, Mapping) else {}
    return [one for one in facts.get("probes", ()) if one["from"] == sender]


def _verdict(
    found: Mapping[str, Any],
    ends: tuple[str, str],
    legs: Sequence[Leg],
    cause: Mapping[str, str],
    results: Mapping[str, Sequence[Any]],
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


def _probes(found: Mapping[str, Any], results: Mapping[str, Sequence[Any]]) -> list[str]:
    lines = []
    for one in _pings(found, results):
        said = "answered" if one["ok"] else f"not answered: {one['error'] or 'no reply'}"
        lines.append(f"  echo of {one['size']} bytes from the pod to {one['to']}: {said}")
    for host, answers in results.items():
        for answer in answers or ():
            facts = answer.get("facts", {}) if isinstance(answer, Mapping) else {}
            for counter, number in facts.get("dropped", {}).items():
                lines.append(f"  meanwhile on {host}: {counter}: {number}")
    return ["", "Probes", *dict.fromkeys(lines)] if lines else []

"""Which hosts a packet passes, and what each of them is asked: what trace.yml finds in the plan."""

from __future__ import annotations

import ipaddress
from typing import Any, Mapping, NamedTuple

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
    """Return ``{family, source, target, hosts, seen_as, finds}`` for podnet_from and podnet_to.

    `hosts` are those on the way, `finds` maps an end to what its host must be asked first: host ->
    which. `seen_as` is the address by which another node sees the pod, "" for the pod's own.
    Raises PodnetError for ends that name nothing.
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
        if one.kind == "pod" and not _subnet(node_of(document, one.host), family):
            raise PodnetError(
                f"{name}: {one.host} has no IPv{family} pods; podnet_cluster_cidr"
                f"{'6' if family == 6 else ''} gives them"
            )
    if source.address and source.address == target.address:
        raise PodnetError(f"podnet_from, podnet_to: {source.address} is both")
    if not source.address and source == target:
        raise PodnetError(f"podnet_from, podnet_to: both are the same pod of {source.host}")
    hosts = list(dict.fromkeys(one.host for one in (source, target) if one.host))
    return {
        "family": family,
        "source": source._asdict(),
        "target": target._asdict(),
        "hosts": hosts,
        "seen_as": _seen_as(document, source, target),
        "finds": {
            key: {"host": one.host, "which": one.which}
            for key, one in (("source", source), ("target", target))
            if not one.address
        },
    }


def _seen_as(document: Mapping[str, Any], source: End, target: End) -> str:
    """Return the source node's address where packets to the target's leave with it."""
    if target.kind != "node" or not document["masquerade"]:
        return ""
    six = ":" in target.address
    single = f"{target.address}/{128 if six else 32}"
    if any(is_inside(single, cidr) for cidr in document.get("masquerade_exclude", ())):
        return ""
    return str(node_of(document, source.host).get("ip6" if six else "ip") or "")


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


def node_of(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a node's entry in the plan."""
    found: Mapping[str, Any] = next(one for one in document["nodes"] if one["name"] == name)
    return found


def gateway(subnet: str) -> str:
    """Return the address of pods' gateway in a node's subnet: its first one."""
    return str(next(ipaddress.ip_network(subnet).hosts()))


def _subnet(node: Mapping[str, Any], family: int) -> str:
    return str(node.get("subnet" if family == 4 else "subnet6") or "")


def questions(found: Mapping[str, Any], pods: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return host -> what it is asked (`local`, `remote`, `role`, `any_pod` of podnet_trace).

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
                raise PodnetError(not_asked(str(found["finds"][key]["host"]), result))
            ends[key] = str(pod["address"])
    if ends["source"] == ends["target"]:
        raise PodnetError(f"podnet_from, podnet_to: both are {ends['source']}")
    asked: dict[str, list[dict[str, Any]]] = {}
    for key, other, role in (("source", "target", "from"), ("target", "source", "to")):
        if found[key]["kind"] == "pod":
            one: dict[str, Any] = {"local": ends[key], "remote": ends[other], "role": role}
            if key in found["finds"] and not found["finds"][key]["which"]:
                one["any_pod"] = True
            asked.setdefault(str(found[key]["host"]), []).append(one)
    target = found["target"]
    if target["kind"] == "node" and target["host"] != found["source"]["host"]:
        seen = str(found["seen_as"]) or ends["source"]
        asked[str(target["host"])] = [{"local": ends["target"], "remote": seen, "role": "to"}]
    return asked


def not_asked(host: str, result: Any) -> str:
    """Return why a host on the way has not told what it was asked."""
    if not isinstance(result, Mapping) or result.get("skipped"):
        return (
            f"{host} is on the way and not in this run; run without --limit, or with {host} in it"
        )
    said = " ".join(str(result.get("msg", "")).split())
    if result.get("unreachable"):
        return f"{host} is on the way and does not answer Ansible: {said}"
    return said or f"{host}: gave no answer"

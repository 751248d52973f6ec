"""All that the report says, as JSON types; docs/results.md describes them.

The page embeds this dict, and the next report compares itself with it. Its size grows with the
number of hosts and of failures, not with that of pairs.
"""

from __future__ import annotations

import shlex
from typing import Any, Iterator, Mapping, Sequence

from ..backends.document import plan_from
from ..backends.planners import PLANNERS, suspect
from ..backends.registry import BACKENDS
from ..core.document import unpack_plan
from ..core.model import Plan
from ..core.segments import network
from ..run import matrix
from ..run.results import said
from .changes import changes
from .ranges import space

SCHEMA = 1

#: Of more hosts than this, the objects for each peer are counted and not listed, and the matrix is
#: one of segments.
MOST_LISTED = 60

#: A host's state in a word.
OK, DIFFERS, PROBLEM, UNREACHABLE, LEFT_OUT = "ok", "differs", "problem", "unreachable", "left out"

#: Keys of podnet_info's `state` that grow with the number of peers.
_BY_PEER = ("routes", "neighbours", "fdb", "members", "peers")


def data(
    plan: Mapping[str, Any],
    looked: Mapping[str, Any],
    made: Mapping[str, Any],
    probed: Mapping[str, Any],
    *,
    moment: int,
    before: Mapping[str, Any] | None = None,
    traces: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the report's data.

    `plan` is what podnet_plan returned. `looked` is host -> what podnet_info returned there with
    all of its `gather`, `made` and `probed` are as in `matrix.report`; None stands for a host
    without an answer. Both are empty if nothing was probed. `moment` is in seconds since 1970,
    `before` the data of the last report. `traces` are ways that fail, explained: ``{from, to,
    lines}``.
    """
    document = unpack_plan(plan["document"])
    parsed = plan_from(document)
    hosts = [_host(document, node, looked, parsed) for node in document["nodes"]]
    pairs = _pairs(document, made, probed) if made else None
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": "report",
        "time": moment,
        "network": str(document["name"]),
        "backend": str(document["backend"]),
        "ok": all(one["state"] == OK for one in hosts) and bool(pairs and pairs["ok"]),
        "facts": _facts(document, plan, hosts),
        "ways": _ways(parsed),
        "hosts": hosts,
        "segments": _segments(hosts),
        "ranges": list(_ranges(document, plan)),
        "notes": [str(one) for one in plan.get("notes", ())],
        "pairs": pairs,
        "traces": [
            {
                "from": str(one["from"]),
                "to": str(one["to"]),
                "lines": [str(line) for line in one["lines"]],
            }
            for one in traces
        ],
    }
    found["since"] = changes(before, found) if before else None
    return found


def _facts(
    document: Mapping[str, Any], plan: Mapping[str, Any], hosts: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    mtus = sorted({str(one["mtu"]) for one in hosts if one["mtu"]})
    return {
        "network": str(plan["summary"][0]),
        "pods": ", ".join(
            str(document[key]) for key in ("cluster_cidr", "cluster_cidr6") if document[key]
        ),
        "bridge": str(document["bridge"]),
        "mtu": f"{', '.join(mtus) or 'not known'} (podnet_mtu: {document['mtu']})",
        "masquerade": "on" if document["masquerade"] else "off",
        "allocations": str(plan.get("allocations_file", "")),
        "podnet": str(document.get("podnet_version", "")),
    }


def _ways(plan: Plan) -> dict[str, str]:
    """Return how packets go between hosts of one segment and of different ones."""
    backend = BACKENDS[plan.backend]
    tunnel = PLANNERS[plan.backend].tunnel or plan.backend
    inside = "plain routes" if backend.has_plain_routes(plan) else tunnel
    between = tunnel if backend.own_devices(plan) else "plain routes"
    unknown = inside if inside == between else f"{inside} on-link, else {between}"
    return {"inside": inside, "between": between, "unknown": unknown}


def _segments(hosts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    members: dict[str, list[str]] = {}
    for host in hosts:
        members.setdefault(host["segment"], []).append(host["name"])
    return [{"cidr": cidr, "hosts": names} for cidr, names in members.items()]


def _ranges(document: Mapping[str, Any], plan: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for suffix in ("", "6"):
        cidr = document["cluster_cidr" + suffix]
        found = plan["free"].get("podnet_cluster_cidr" + suffix)
        if not cidr or not found:
            continue
        owners = {
            str(row["subnet" + suffix]): (str(row["name"]), str(row["state"]))
            for row in plan["nodes"]
            if row["subnet" + suffix] and row["state"] != "released"
        }
        yield space(str(cidr), int(found["total"]), owners)


# Hosts


def _host(
    document: Mapping[str, Any], node: Mapping[str, Any], looked: Mapping[str, Any], plan: Plan
) -> dict[str, Any]:
    name = str(node["name"])
    result = looked.get(name)
    state, why = _state(result) if name in looked else (LEFT_OUT, "not in this run (--limit)")
    result = result if isinstance(result, Mapping) else {}
    pending, has, cni = (_mapping(result.get(key)) for key in ("pending", "state", "cni"))
    key = "" if plan.underlay == 4 else "6"
    return {
        "name": name,
        "ip": str(node.get("ip", "")),
        "ip6": str(node.get("ip6", "")),
        "subnet": str(node.get("subnet", "")),
        "subnet6": str(node.get("subnet6", "")),
        "segment": network(str(node.get("ip" + key, "")), node.get(f"ip{key}_prefix")),
        "mac": str(node.get("mac", "")),
        "state": state,
        "why": why,
        "mtu": pending.get("mtu") or "",
        "podnet": str(_mapping(has.get("record")).get("podnet_version", "")),
        "drift": {
            kind: int(pending.get(kind) or 0)
            for kind in ("network", "cni", "endpoints")
            if pending.get(kind)
        },
        "addresses": {
            str(family): {key: int(one[key]) for key in ("size", "used", "free")}
            for family, one in _mapping(cni.get("addresses")).items()
        },
        "has": list(_has(has, len(document["nodes"]))),
        "others": [*(str(one) for one in result.get("warnings") or ()), *_others(has, cni)],
    }


def _mapping(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}


def _state(result: Any) -> tuple[str, str]:
    if not isinstance(result, Mapping):
        return UNREACHABLE, "it gave no answer"
    if result.get("unreachable"):
        return UNREACHABLE, str(result.get("msg") or "unreachable")
    if result.get("failed"):
        return PROBLEM, said(result)
    total = int(_mapping(result.get("pending")).get("total") or 0)
    return (DIFFERS, f"a run of site.yml would change {total} things") if total else (OK, "")


def _has(state: Mapping[str, Any], hosts: int) -> Iterator[dict[str, Any]]:
    """Yield what podnet has on a host: ``{what, count, lines}``."""
    for what, found in state.items():
        if not found or what == "record":
            continue
        if what == "boot":
            # Their lines are those of the other objects once more.
            yield {"what": "boot files", "count": len(found), "lines": [str(one) for one in found]}
            continue
        short = what in _BY_PEER and hosts > MOST_LISTED
        yield {"what": what, "count": len(found), "lines": [] if short else list(_lines(found))}


def _lines(found: Any) -> Iterator[str]:
    if isinstance(found, Mapping):
        for key, value in found.items():
            if isinstance(value, str):
                yield f"{key} {value}"
            else:
                yield f"{key}: {_flat(value)}"
    else:
        for one in found:
            yield _flat(one)


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(
            f"{key} {_flat(one)}" for key, one in value.items() if one not in ("", None, [], {})
        )
    if isinstance(value, (list, tuple)):
        return "; ".join(_flat(one) for one in value)
    return str(value)


def _others(state: Mapping[str, Any], cni: Mapping[str, Any]) -> Iterator[str]:
    """Yield what of others touches the network on a host, besides the look's warnings."""
    path, first = cni.get("path"), cni.get("first")
    if path and first and first != path:
        yield f"container runtimes take {first} and not {path}, because it sorts first"
    for one in cni.get("others") or ():
        plugins = ", ".join(str(kind) for kind in one.get("plugins") or ())
        network_of = f"network {one.get('network')}" + (f" ({plugins})" if plugins else "")
        yield f"CNI configuration {one.get('path')}: {network_of}"
    for one in cni.get("aside") or ():
        yield f"moved aside (podnet_cni_exclusive): {one}"
    for one in state.get("accepts") or ():
        yield f"drops what is forwarded, so podnet accepts pods' packets there: {one}"


# Pairs


def _pairs(
    document: Mapping[str, Any], made: Mapping[str, Any], probed: Mapping[str, Any]
) -> dict[str, Any]:
    seen = matrix.Gathered.of(document, made, probed)
    told = matrix.report(document, made, probed, suspect(document))
    failures = [
        {
            "from": source,
            "to": str(one["address"]) if kind in ("gateway", "outside") else node,
            "kind": kind,
            **{key: one[key] for key in ("family", "word", "what")},
        }
        for (source, kind, node), those in seen.cells.items()
        for one in those
    ]
    asked = seen.ways()
    failed = {(one["from"], one["to"]) for one in failures if one["kind"] in ("pod", "host")}
    most = len(seen.targets) * (len(seen.targets) - 1)
    present = [host for host in seen.hosts if host not in seen.absent]
    return {
        "ok": not failures and not seen.absent,
        "asked": len(asked),
        "of": len(document["nodes"]) * (len(document["nodes"]) - 1),
        "failed": len(failed),
        "probes": {
            key: sum(int(probed[host][key]) for host in present) for key in ("asked", "answered")
        },
        # Whom each host asked, where that is a part of those with a pod; else empty.
        "peers": {host: [str(one) for one in probed[host]["peers"]] for host in present}
        if len(asked) < most and all("peers" in probed[host] for host in present)
        else {},
        "pods": list(seen.targets),
        "not_probed": dict(seen.absent),
        "failures": failures,
        "told": told.failures,
    }


def asked(found: Mapping[str, Any], source: str, node: str) -> bool:
    """Whether `source` asked `node`; `found` is the report's `pairs`."""
    if source == node or source in found["not_probed"] or node not in found["pods"]:
        return False
    peers = found["peers"]
    return source in found["pods"] and (not peers or node in peers.get(source, ()))


def by_way(found: Mapping[str, Any] | None) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return (from, to) -> its failures, of the report's `pairs`."""
    ways: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in found["failures"] if found else ():
        ways.setdefault((one["from"], one["to"]), []).append(one)
    return ways


def trace_command(source: str, target: str) -> str:
    """Return the command that explains a way that fails."""
    ends = " ".join(
        f"-e {shlex.quote(f'podnet_{end}={name}')}"
        for end, name in (("from", source), ("to", target))
    )
    return f"ansible-playbook -i INVENTORY playbooks/trace.yml {ends}"

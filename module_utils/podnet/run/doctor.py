"""What is wrong with the network: causes, each once, from what hosts and probes have told. Pure.

Three kinds of witnesses speak of the same fault: what a run would change (drift), a packet's way
that breaks at a hop, and pairs that fail. They are joined by the host and by the sort of object.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Mapping, NamedTuple, Sequence

from ..core.text import listed
from . import doctor_hosts
from .doctor_cause import BROKEN, DEGRADED, HEALTHY, Cause

#: Hop of a trace -> the sorts of drift that may be what breaks it (doctor_hosts.SORTS).
_HOPS = {
    "route": {"route", "device"},
    "neighbour": {"neighbour", "device"},
    "entry": {"entry", "device"},
    "device": {"device"},
    "bridge": {"device", "address"},
    "guard": {"table"},
    "masquerade": {"table"},
    "forwarding": {"sysctl", "device"},
    "reverse path": {"sysctl", "route"},
    "firewall": {"accept"},
    "input": {"accept"},
    "veth": {"pod"},
    "pod": {"pod"},
    "pod route": {"pod"},
    "rules": {"rules"},
    "address": {"refused"},
    "outer": {"mtu"},
}

#: A sysctl's name: what is refused for it, and breaks packets at a hop, is one fault.
_SYSCTL = re.compile(r"\bnet\.ipv[46]\.[\w./-]*\w")

#: Lines of evidence that are printed with a cause.
_MOST = 6


class Diagnosis(NamedTuple):
    """All that doctor.yml found: `status`, the ranked `causes`, and what is worth knowing."""

    status: str
    causes: Sequence[Cause]
    notes: Sequence[str]


@dataclass(frozen=True)
class Probed:
    """What verify.yml found: `results` of exports.results, `why_not` by host, and in sentences.

    `cures` are matrix.cures of what failed. `asked` tells whether packets were sent at all.
    """

    results: Sequence[Mapping[str, Any]] = ()
    why_not: Mapping[str, str] = field(default_factory=dict)
    sentences: Sequence[str] = ()
    cures: Sequence[str] = ()
    asked: bool = True


def judge(
    seen: Mapping[str, Any],
    proof: Probed,
    traces: Sequence[Mapping[str, Any]],
    objections: Sequence[str] = (),
) -> Diagnosis:
    """Return what is wrong.

    `seen` maps each host of the run to the result of podnet_info for its health, `traces` are
    reports of run/trace.py with the hosts on the way as `hosts`, `objections` are those of
    run/objections.py.
    """
    causes = doctor_hosts.causes(seen)
    if objections:
        causes.append(
            Cause("allocations", DEGRADED, [], objections[0], [*objections[1:]], "as it says")
        )
    silent = {host for one in causes if one.kind == "unreachable" for host in one.hosts}
    for host, reason in proof.why_not.items():
        if host not in silent and proof.asked:
            _add_not_probed(causes, host, reason)
    _add_traces(causes, traces)
    failed = [one for one in proof.results if one["what"]]
    left = [one for one in failed if not _explain(causes, one)]
    _add_unexplained(causes, left, proof, traces)
    causes.sort(key=_rank)
    status = HEALTHY
    if causes:
        status = BROKEN if any(one.status == BROKEN for one in causes) else DEGRADED
    notes = doctor_hosts.notes(seen)
    if not proof.asked:
        notes.insert(0, "No packet was sent, because this was a check run: nothing is proven")
    return Diagnosis(status, causes, notes)


def _rank(cause: Cause) -> tuple[int, int, int, str]:
    order = doctor_hosts.ORDER.index(cause.kind) if cause.kind in doctor_hosts.ORDER else 0
    return int(cause.status != BROKEN), -cause.pairs, order, cause.what


def _add_not_probed(causes: list[Cause], host: str, reason: str) -> None:
    for one in causes:
        if one.kind in ("refused", "new") and host in one.hosts:
            one.status = BROKEN
            one.evidence.append(f"{host}: not probed: {reason}")
            return
    causes.append(
        Cause(
            "not probed",
            BROKEN,
            [host],
            f"{host} has no pod that could be asked: {reason}",
            [],
            f"mend what it says, on {host}",
        )
    )


def _add_traces(causes: list[Cause], traces: Sequence[Mapping[str, Any]]) -> None:
    for trace in traces:
        found = trace["cause"]
        if not found:
            continue
        host, fault, key = str(found["host"]), str(found["fault"]), str(found["key"])
        line = f"{trace['way']}: breaks on {host} at {key}: {fault}"
        mine = [one for one in causes if _is_same(one, host, key, fault)]
        if not mine:
            cure = str(found["mend"])
            mine = [Cause("trace", BROKEN, [host], f"{host}: {fault}", [], cure, {key}, [fault])]
            causes += mine
        one = mine[0]
        if fault not in one.faults:
            one.faults.append(fault)
        if one.kind in doctor_hosts.DRIFT and one.status != BROKEN:
            # What breaks packets says more than how an object differs.
            one.what = f"{host}: {fault}"
        if host not in one.hosts:
            one.hosts.append(host)
            one.what = fault
            if found["mend"] and str(found["mend"]) not in one.cure:
                one.cure += f"; {found['mend']}"
        one.status = BROKEN
        one.ways.append({str(it) for it in trace["hosts"]})
        if line not in one.evidence:
            one.evidence.insert(0, line)


def _is_same(cause: Cause, host: str, key: str, fault: str) -> bool:
    """Whether a hop's fault is about what the cause is about."""
    if cause.kind == "trace":
        # The same fault on another host, or the same one seen from another pair.
        return fault in cause.faults
    if cause.kind == "refused" and any(one in cause.what for one in _SYSCTL.findall(fault)):
        return host in cause.hosts
    return host in cause.hosts and bool(cause.sorts & _HOPS.get(key, {key}))


def _explain(causes: Sequence[Cause], failed: Mapping[str, Any]) -> bool:
    """Count a failed result with the cause that explains it; whether there is one."""
    ends = {str(failed["from"]), str(failed["to"])}
    for one in causes:
        if one.status == BROKEN and any(way == ends for way in one.ways):
            one.pairs += 1
            return True
    for one in causes:
        if one.status == BROKEN and ends & set(one.hosts):
            one.pairs += 1
            return True
    return False


def _add_unexplained(
    causes: list[Cause],
    left: Sequence[Mapping[str, Any]],
    proof: Probed,
    traces: Sequence[Mapping[str, Any]],
) -> None:
    """Add the cause for pairs that fail though no hop on the hosts breaks them."""
    if not left:
        return
    hosts = list(dict.fromkeys(str(one["from"]) for one in left))
    hosts += [str(one["to"]) for one in left if one["kind"] in ("pod", "host")]
    slow = all(one["word"] == "slow" for one in left)
    pairs = list(dict.fromkeys(f"{one['from']} -> {one['to']}" for one in left))
    evidence = [one for one in proof.sentences if any(one.startswith(it) for it in hosts)]
    evidence += [str(one["verdict"]) for one in traces if not one["cause"]]
    causes.append(
        Cause(
            "slow" if slow else "between",
            DEGRADED if slow else BROKEN,
            list(dict.fromkeys(hosts)),
            f"packets are lost on the way: {listed(pairs, 5)}"
            if slow
            else f"nothing on the hosts breaks it, and packets do not arrive: {listed(pairs, 5)}",
            list(dict.fromkeys(evidence or proof.sentences)),
            " ".join(proof.cures)
            or "look at what lies between the nodes: switches, routers, security groups",
            pairs=len(left),
        )
    )


def headline(
    document: Mapping[str, Any], hosts: Sequence[str], left_out: Sequence[str] = ()
) -> str:
    """Return the first line: which network, how many hosts, and which are not in the run."""
    count = f"{len(hosts)} {'host' if len(hosts) == 1 else 'hosts'}"
    rest = f"; not in this run: {listed(left_out)}" if left_out else ""
    return f"Network {document['name']} ({document['backend']}), {count}{rest}"


def lines(found: Diagnosis, first: str) -> list[str]:
    """Return the diagnosis as lines that people read."""
    said = [first]
    for number, one in enumerate(found.causes, 1):
        where = f" [{listed(one.hosts)}]" if one.hosts else ""
        said += ["", f"{number}. {one.status}{where}: {one.what}"]
        said += [f"     {line}" for line in one.evidence[:_MOST]]
        if len(one.evidence) > _MOST:
            said.append(f"     ... and {len(one.evidence) - _MOST} more")
        if one.pairs:
            said.append(f"     explains {one.pairs} of the probes that failed")
        said.append(f"   To mend it: {one.cure}")
    if found.notes:
        said += ["", "Worth knowing, and no fault:", *(f"  {one}" for one in found.notes)]
    return [*said, "", sentence(found)]


def sentence(found: Diagnosis) -> str:
    """Return the status in one sentence, with the first cause."""
    if not found.causes:
        return "The network is healthy: no cause of a fault was found."
    count = len(found.causes)
    many = f"{count} causes, the first" if count > 1 else "one cause"
    works = {BROKEN: "", DEGRADED: " (it works now, and will not last)"}[found.status]
    first = found.causes[0]
    return f"The network is {found.status}{works}; {many}: {first.what}. To mend it: {first.cure}"

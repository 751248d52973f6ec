"""What hosts know of the network that the allocations file may have forgotten.

A second admin's copy and a restored backup are good files, only not the newest. Hosts remember
which edition of the allocations they have seen, and whose subnets (record.py). Each compares that
with the plan when it is looked at (`testify`); what all of them say decides together
(`objections`), so one host that knows better is enough.
"""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Sequence

from .edition import NONE, Edition
from .model import Plan
from .record import Record

#: Subnets a host names at most; one is enough to refuse a plan.
_MOST = 20


class Noted(NamedTuple):
    """What goes into a record: an edition, and node -> its subnets with a space between."""

    edition: Edition
    nodes: dict[str, str]


def note(plan: Plan, known: Record | None) -> Noted:
    """Return what a host's record says of the allocations when the plan is applied.

    A newer edition that says the same of all nodes is noted with the next change, not as one: a
    host that knows the older one can refuse no less.
    """
    if not plan.edition.id:
        return Noted(NONE, {})
    nodes = {node.name: f"{node.subnet} {node.subnet6}".strip() for node in plan.nodes.values()}
    if (
        known is not None
        and known.nodes == nodes
        and known.network == plan.edition.id
        and known.generation < plan.edition.generation
    ):
        return Noted(known.edition, nodes)
    return Noted(plan.edition, nodes)


def testify(plan: Plan, known: Record | None) -> dict[str, Any] | None:
    """Return what this host knows, as JSON types; None where it knows of no edition.

    "node" is its own name by its record, "edition" what it has seen, and "taken" the subnets that
    it knows as another node's than the plan does: {"subnet", "owner", "to"}.
    """
    if known is None or not known.network:
        return None
    owners = {
        subnet: name for name, subnets in known.nodes.items() for subnet in subnets.split(" ")
    }
    taken = [
        {"subnet": subnet, "owner": owners[subnet], "to": node.name}
        for node in plan.nodes.values()
        for subnet in (node.subnet, node.subnet6)
        if owners.get(subnet, node.name) != node.name
    ]
    return {"node": known.node, "edition": known.edition._asdict(), "taken": taken[:_MOST]}


def objections(
    edition: Edition,
    file: str,
    release: Sequence[str],
    said: Mapping[str, Mapping[str, Any] | None],
) -> list[str]:
    """Return why the plan must not be applied, a sentence each; none where all hosts agree.

    `edition` is the plan's and `file` the allocations file it comes from; `release` are nodes that
    the user says are gone. `said` maps each host of the run to what it testified.
    """
    known = {host: one for host, one in said.items() if one}
    seen = {host: Edition(**one["edition"]) for host, one in known.items()}
    lines = _other_network(edition, file, seen) + _other_edition(edition, file, seen)
    for (subnet, owner, to), hosts in _taken(release, known, seen, bool(lines)).items():
        lines.append(
            f"{_names(hosts)}: {subnet} belongs to {owner} by what was seen there, and {file} "
            f"gives it to {to}: pods of both would have the same addresses. If {owner} is gone for "
            f"good, say so with -e podnet_release={owner}; if it is in the inventory, let this run "
            "reach it; else get the newest allocations file from version control"
        )
    return lines


def _other_network(edition: Edition, file: str, seen: Mapping[str, Edition]) -> list[str]:
    by_id: dict[str, list[str]] = {}
    for host, one in seen.items():
        if one.id != edition.id:
            by_id.setdefault(one.id, []).append(host)
    return [
        f"{_names(hosts)}: in the network {other}, which is "
        + (
            f"not the one of {file} ({edition.id})"
            if edition.id
            else f"newer than {file}, a file from before networks had an id"
        )
        + ". Get the network's own allocations file from version control; if the host shall leave "
        "that network, run playbooks/reset.yml for it first; if the file is lost, and this one is "
        "meant to replace it, run with -e podnet_force_allocations=true"
        for other, hosts in by_id.items()
    ]


def _other_edition(edition: Edition, file: str, seen: Mapping[str, Edition]) -> list[str]:
    newer = {
        host: one.generation
        for host, one in seen.items()
        if one.id == edition.id and one.generation > edition.generation
    }
    lines = []
    way_out = (
        "Get the newest allocations file from version control (or from whoever ran podnet last); "
        "if this one is meant, run with -e podnet_force_allocations=true"
    )
    if newer:
        lines.append(
            f"{_names(newer)}: has seen generation {max(newer.values())} of the allocations, and "
            f"this plan is generation {edition.generation}, from {file}: an old copy. {way_out}"
        )
    twins = [
        host
        for host, one in seen.items()
        if (one.id, one.generation) == (edition.id, edition.generation)
        and one.digest != edition.digest
    ]
    if twins:
        lines.append(
            f"{_names(twins)}: has seen another generation {edition.generation} of the allocations "
            f"than {file} makes: two people have changed the same one. {way_out}"
        )
    return lines


def _taken(
    release: Sequence[str],
    known: Mapping[str, Mapping[str, Any]],
    seen: Mapping[str, Edition],
    doubted: bool,
) -> dict[tuple[str, str, str], list[str]]:
    """Return (subnet, owner, new owner) -> hosts that say so, for those that nothing clears up.

    `doubted`: the plan is refused anyway, so an owner that is here is named, too.
    """
    claims: dict[tuple[str, str, str], list[str]] = {}
    for host, one in known.items():
        for entry in one["taken"]:
            key = entry["subnet"], entry["owner"], entry["to"]
            claims.setdefault(key, []).append(host)
    found = {}
    for (subnet, owner, to), hosts in claims.items():
        latest = max(seen[host].generation for host in hosts)
        # A host that has seen more may have seen the owner leave.
        outdated = any(
            one.id == seen[hosts[0]].id and one.generation > latest for one in seen.values()
        )
        # The owner itself is here: under its new name, or with another subnet. What its pods would
        # lose it says itself.
        present = not doubted and any(
            one["node"] == owner and host in (owner, to) for host, one in known.items()
        )
        if owner not in release and not outdated and not present:
            found[subnet, owner, to] = hosts
    return found


def _names(hosts: Sequence[str] | Mapping[str, Any]) -> str:
    shown = list(hosts)
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")

"""Whether the hosts' records of the network contradict the plan, judged for all hosts together.

Each host compares its record with the plan when podnet_info looks at it (state/knowledge.py). One
host that has seen a newer edition of the allocations is enough to refuse the plan.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ..core.edition import Edition
from ..core.text import listed


def objections(
    edition: Edition,
    file: str,
    release: Sequence[str],
    said: Mapping[str, Mapping[str, Any] | None],
) -> list[str]:
    """Return why the plan must not be applied, a sentence each; none where all hosts agree.

    `edition` is the plan's and `file` the allocations file it comes from; `release` are nodes that
    the user says are gone. `said` maps each host of the run to what `knowledge.testify` returned
    there.
    """
    known = {host: one for host, one in said.items() if one}
    seen = {host: Edition(**one["edition"]) for host, one in known.items()}
    lines = _other_network(edition, file, seen) + _other_edition(edition, file, seen)
    for (subnet, owner, to), hosts in _taken(release, known, seen, bool(lines)).items():
        lines.append(
            f"{listed(hosts)}: {subnet} belongs to {owner} by what was seen there, and {file} "
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
        f"{listed(hosts)}: in the network {other}, which is "
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
            f"{listed(newer)}: has seen generation {max(newer.values())} of the allocations, and "
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
            f"{listed(twins)}: has seen another generation {edition.generation} of the allocations "
            f"than {file} makes: two people have changed the same one. {way_out}"
        )
    return lines


def _taken(
    release: Sequence[str],
    known: Mapping[str, Mapping[str, Any]],
    seen: Mapping[str, Edition],
    doubted: bool,
) -> dict[tuple[str, str, str], list[str]]:
    """Return (subnet, recorded owner, owner by the plan) -> hosts with that record.

    Subnets whose change of owner is explained are left out: the old owner is in `release`, a host
    with a newer record does not know it as the owner any more, or it is itself in this run.
    `doubted`: the plan is refused anyway; then being in this run explains nothing.
    """
    claims: dict[tuple[str, str, str], list[str]] = {}
    for host, one in known.items():
        for entry in one["taken"]:
            key = entry["subnet"], entry["owner"], entry["to"]
            claims.setdefault(key, []).append(host)
    found = {}
    for (subnet, owner, to), hosts in claims.items():
        latest = max(seen[host].generation for host in hosts)
        # A host with a newer record may have seen the owner leave.
        outdated = any(
            one.id == seen[hosts[0]].id and one.generation > latest for one in seen.values()
        )
        # The owner itself is in this run, renamed or with another subnet. Whether its running pods
        # would lose their addresses, it checks itself (host/look.py).
        present = not doubted and any(
            one["node"] == owner and host in (owner, to) for host, one in known.items()
        )
        if owner not in release and not outdated and not present:
            found[subnet, owner, to] = hosts
    return found

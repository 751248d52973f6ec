"""What a host has of a network, as JSON types, and what a run would change there."""

from __future__ import annotations

from typing import Any

from ..backends.registry import KINDS, MAIN_KINDS, entries_by_kind
from ..cni import addresses, cni_record, others, podman_file
from ..core.errors import PodnetError
from ..core.model import Plan, is_network_name
from ..core.state import Link, State
from ..kernel import preflight as edge
from ..state import knowledge, preflight
from ..state.phases import ALL
from . import attachments, target
from .look import Look, directories, look


def observed(name: str) -> dict[str, Any]:
    """Return what network `name` has on this host as JSON types; raises PodnetError.

    Numbers that differ between hosts in the same state (interface indexes) are left out, so two
    results can be compared.
    """
    if not is_network_name(name):
        raise PodnetError(f"name: {name!r} is no name of a network")
    state, known = target.observed(name)
    result = plain(state)
    result["record"] = vars(known) if known else None
    return result


def cni(name: str) -> dict[str, Any]:
    """Return what network `name` has of the CNI on this host, and which addresses are left."""
    if not is_network_name(name):
        raise PodnetError(f"name: {name!r} is no name of a network")
    record = cni_record.read_record(name)
    those = others.read(record.directory) if record.path else []
    return {
        "path": record.path,
        "first": others.first(record.path, those),
        "others": [
            {"path": one.path, "network": one.network, "plugins": list(one.kinds)}
            for one in those
            if one.path != record.path
        ],
        "aside": [one + others.SUFFIX for one in others.aside(record.directory)]
        if record.path
        else [],
        "addresses": {
            f"ipv{one.family}": {"size": one.size, "used": one.used, "free": one.free}
            for one in addresses.usage(name)
        },
    }


def plain(state: State) -> dict[str, Any]:
    """Return a state as JSON types."""
    return {
        "links": {device: _plain_link(link) for device, link in sorted(state.links.items())},
        "addresses": sorted(f"{cidr} dev {device}" for device, cidr in state.addresses),
        "neighbours": [
            {"dev": device, "address": address, "lladdr": mac}
            for (device, address), mac in sorted(state.neighbours.items())
        ],
        "routes": dict(sorted(state.routes.items())),
        "ports": {device: {"mtu": port.mtu} for device, port in sorted(state.ports.items())},
        "sysctls": dict(state.sysctls),
        "tables": {
            table: [
                {
                    "chain": chain.name,
                    "hook": chain.hook,
                    "rules": [one.text for one in chain.rules],
                }
                for chain in chains
            ]
            for table, chains in state.tables.items()
        },
        "members": sorted(
            f"{element} in {name} of {table}" for (table, element), name in state.members.items()
        ),
        "accepts": sorted(" ".join(one) for one in state.accepts),
        "boot": dict(state.boot),
        **{
            MAIN_KINDS[name].entries: [
                MAIN_KINDS[name].plain_entry(key, entry) for key, entry in sorted(entries.items())
            ]
            for name, entries in entries_by_kind(state).items()
        },
    }


def _plain_link(link: Link) -> dict[str, Any]:
    fields = link._asdict()
    del fields["ifindex"]
    options = fields.pop("options")
    return {**fields, **(KINDS[link.kind].plain_options(options) if link.kind in KINDS else {})}


def _may_be_timed(seen: Look) -> bool:
    # Imported here, because a host loads all imports in every call, and most need none of this.
    from . import rollback, ssh_clients

    return rollback.may_endanger([seen.before, seen.final], ssh_clients.clients().addresses)


def pending(
    plan: Plan, node: str, cni_install: str, cni_archive_dir: str = ""
) -> tuple[dict[str, Any], list[str]]:
    """Return (what a run would change, warnings); raises PodnetError for what prevents a run.

    It calls the same functions as check mode and a real run, so it cannot differ from them.
    """
    seen = look(plan, node)
    found = target.outcome(seen, ALL)
    mtu = seen.final.links[plan.bridge].mtu
    attached = attachments.inspect(plan, node, mtu, cni_install, cni_archive_dir)
    counts = {
        "network": len(found.changes),
        "cni": attached.cni,
        "endpoints": attached.endpoints,
    }
    if sum(counts.values()):
        _demand_room(seen, cni_install)
    return (
        {
            **counts,
            "total": sum(counts.values()),
            "switching": found.switching,
            "detour": bool(seen.stuck),
            "moving": seen.moving,
            "mtu": mtu,
            "timed": bool(found.changes) and _may_be_timed(seen),
            "knowledge": knowledge.testify(plan, seen.record),
        },
        [*found.warnings, *attached.warnings],
    )


def _demand_room(seen: Look, cni_install: str) -> None:
    """Raise PodnetError if a directory that a run writes to is full or read-only."""
    where = directories(seen.plan)
    if cni_install != "none":
        where += ["/opt/podnet", seen.plan.cni.bin_dir]
    if seen.node.podman:
        where.append(podman_file.DIRECTORY)
    if seen.node.health_interval:
        where.append(seen.node.health_dir)
    # 1 KiB for each node: batches have some lines for each peer, and old and new ones coexist.
    found = edge.unwritable(where, 1024 * len(seen.plan.nodes))
    if found:
        problems = preflight.full_or_read_only(seen.node.name, found)
        raise PodnetError(preflight.refusal(seen.node.name, problems))

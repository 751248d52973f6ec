"""One network on one host: the state that a phase ends in, and what it changes.

`look` reads the host, this module decides, and `converge` makes the changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Sequence

from ..backends.registry import BACKENDS, TOOLS
from ..core.state import BATCHES, Change, State
from ..core.version import VERSION
from ..keep import boot, health, leases, record_file, repair
from ..kernel import observe as eyes
from ..state import bridge_netfilter, forwarding, knowledge, managers, phases, record
from ..state.desire import bridge_mac
from ..state.diff import changes
from ..state.record import DONE, Record
from .look import Look


@dataclass
class NetworkResult:
    """What a call did or, in check mode, would do.

    `switching` is as in `Look`. `armed`: a timed rollback waits for a confirmation. `mtu` is what
    pods have in the end, in bytes. `proof` is what other hosts need to probe this one
    (`switch_proof.begin`).
    """

    changes: list[Change]
    warnings: list[str]
    switching: bool = False
    armed: bool = False
    mtu: int = 0
    proof: dict[str, Any] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        """Whether anything was or would be changed."""
        return bool(self.changes)

    def diff(self) -> dict[str, str]:
        """Return the changed objects before and after, one a line, as Ansible prints diffs."""
        return {
            "before": "".join(f"{change.before}\n" for change in self.changes if change.before),
            "after": "".join(f"{change.after}\n" for change in self.changes if change.after),
        }


def outcome(seen: Look, phase: str) -> NetworkResult:
    """Return what `phase` would change on a host that was looked at.

    It assumes that the phases before `phase` are done, so a check of all three shows each change
    once.
    """
    before = seen.before
    for earlier in phases.PHASES[: phases.PHASES.index(phase)] if phase != phases.ALL else ():
        after = target(seen, earlier)
        planned(seen, before, after)
        before = after
    return begin(seen, planned(seen, before, target(seen, phase)))


def planned(seen: Look, before: State, after: State) -> list[Change]:
    """Return the changes from `before` to `after`, and note in `after` which podnet makes them.

    Without changes the record keeps the version that it has: the host is as that one has left it,
    and a run of another version that finds nothing to do changes nothing.
    """
    todo = changes(before, after)
    path = record_file.path(seen.plan.name)
    if todo:
        text = record.noted(after.files[path])
        if text != after.files[path]:
            after.files[path] = text
            todo = changes(before, after)
    return todo


def begin(seen: Look, todo: list[Change]) -> NetworkResult:
    """Return the result of a call that makes the changes `todo` on a host that was looked at."""
    mtu = seen.final.links[seen.plan.bridge].mtu
    return NetworkResult(todo, seen.warnings, seen.switching, mtu=mtu)


def target(seen: Look, phase: str) -> State:
    """Return the state that `phase` ends in, with its files."""
    after = phases.target(
        seen.before, seen.final, phase, seen.strict, seen.held, late=seen.late
    ).copy()
    name = seen.plan.name
    after.files = {
        **boot.unit_files(name),
        **repair.unit_files(
            name, seen.node.repair_interval, networkd=managers.NETWORKD in seen.managers
        ),
        **health.unit_files(name, seen.node.health_interval, seen.node.health_dir),
    }
    after.files[record_file.path(seen.plan.name)] = record.dump(record_after(seen, phase, after))
    lasting = after.copy()
    if phase in (phases.COMMIT, phases.ALL):
        # A sysctl that is put back is the host's again, so podnet's boot files do not set it.
        lasting.sysctls = {
            key: value for key, value in after.sysctls.items() if key not in seen.restored
        }
    ranges = [one for one in (seen.plan.cluster_cidr, seen.plan.cluster_cidr6) if one]
    after.files.update(
        managers.drop_ins(
            name, after.links, seen.managers, lasting.sysctls, ranges, modules=lasting.modules
        )
    )
    after.boot = boot.by_address(boot.render(lasting), seen.host)
    if "forward" not in seen.node.leave_alone:
        families = " ".join("6" if ":" in cidr else "4" for cidr in ranges)
        after.boot["forward"] = f"{seen.plan.bridge} {families}\n"
    if "leases" not in seen.node.leave_alone:
        after.boot["leases"] = f"{seen.plan.bridge} {leases.directory(name)}\n"
    return after


def record_after(seen: Look, phase: str, after: State) -> Record:
    """Return the record that stands when `phase` has led to `after`.

    Which podnet changes the host, if one does, `planned` notes.
    """
    finished = phase in (phases.COMMIT, phases.ALL)
    bridge = after.links[seen.plan.bridge]
    noted = knowledge.note(seen.plan, seen.record)
    return Record(
        node=seen.node.name,
        parameters=record.parameters(seen.plan),
        phase=DONE if finished else phase,
        devices=sorted(after.links) if finished else devices(seen, after),
        cidrs=[one for one in (seen.plan.cluster_cidr, seen.plan.cluster_cidr6) if one]
        if finished
        else cidrs(seen),
        pod_mtu=after.links[seen.plan.bridge].mtu,
        mac=_known_mac(seen, finished),
        bridge_mac="" if bridge.mac == bridge_mac(seen.node) else bridge.mac,
        network=noted.edition.id,
        generation=noted.edition.generation,
        digest=noted.edition.digest,
        nodes=noted.nodes,
        podnet_version=seen.record.podnet_version if seen.record else VERSION,
    )


def _known_mac(seen: Look, finished: bool) -> str:
    """Return the MAC by which peers know this node at the end of a phase, "" for none."""
    if not finished and (seen.held or seen.record):
        return seen.held or (seen.record.mac if seen.record else "")
    return BACKENDS[seen.plan.backend].mac(seen.plan, seen.node)


def devices(seen: Look, after: State) -> list[str]:
    """Return the names of this network's devices before, during and after the change to `after`."""
    recorded = seen.record.devices if seen.record else []
    return sorted({*recorded, *seen.before.links, *after.links})


def cidrs(seen: Look) -> list[str]:
    """Return the ranges (CIDR) of this network by the plan and by the record."""
    own = [one for one in (seen.plan.cluster_cidr, seen.plan.cluster_cidr6) if one]
    recorded = seen.record.cidrs if seen.record else []
    return own + [one for one in recorded if one not in own]


def observed(name: str) -> tuple[State, Record | None]:
    """Return what network `name` has on this host, and its record; needs no plan."""
    known = record_file.load(name)
    links = eyes.read_links()
    ours = eyes.owned_links(links, name, known.devices if known else [])
    state = eyes.observe(
        name,
        links,
        ours=ours,
        cidrs=known.cidrs if known else [],
        wanted=set(),
        sysctls=[
            forwarding.IP_FORWARD,
            "net.ipv6.conf.all.forwarding",
            phases.RP_FILTER,
            *bridge_netfilter.KEYS.values(),
            *forwarding.wanted(ours),
        ],
        also_tables=record.transient_tables(name, known),
    ).state
    state.boot = boot.read(name)
    return state, known


def changed_files(todo: Sequence[Change]) -> list[str]:
    """Return the paths of the files among a list of changes."""
    return [line for change in todo if change.tool == "file" for line in change.lines]


#: Tool of a change -> the program that its lines are words for.
_PROGRAMS = {**BATCHES, **{one: one for one in TOOLS}}


def commands(todo: Sequence[Change], most: int) -> list[str]:
    """Return the first `most` commands behind a list of changes, for people to read."""
    lines = [
        f"{_PROGRAMS[change.tool]} {line}" if change.tool in _PROGRAMS else f"{change.tool}: {line}"
        for change in todo
        for line in change.lines
    ]
    return lines[:most]

"""Change one host: apply, look again, undo what failed.

The module `podnet_network` calls this, which takes the lock, looks, records what it is about to do,
does it, and reads back whether the kernel has taken all of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Mapping, Sequence

from ..backends.registry import BACKENDS
from ..core.errors import PodnetError, undone
from ..core.model import Plan
from ..core.state import Change, State
from ..core.version import VERSION
from ..keep import boot, claim, files, health, originals, record_file
from ..keep.lock import held
from ..kernel import adopt as flannel
from ..kernel import apply as edge
from ..kernel import observe as eyes
from ..kernel import pods, services
from ..kernel.run import TOOLS, demand_root
from ..state import forwarding, phases, record
from ..state.diff import changes, leftovers
from . import rollback, ssh_clients
from . import switch_proof as proofs
from .look import Look, add_secrets, look, read_files
from .target import (
    NetworkResult,
    begin,
    changed_files,
    cidrs,
    devices,
    outcome,
    planned,
    record_after,
    target,
)


def converge(
    plan: Plan,
    name: str,
    phase: str,
    check: bool,
    *,
    timeout: int = 60,
    confirming: bool = False,
    run: str = "",
    over: Sequence[str] = (),
    proof: Mapping[str, Any] | None = None,
    force_unproven: bool = False,
    secrets: Mapping[str, str] | None = None,
) -> NetworkResult:
    """Bring this host to the end of `phase`; with `check` only say what that would change.

    Raises PodnetError. If a change fails, or a peer stops answering after `shift`, the host is put
    back into the state in which it was found, and the error says so.

    `proof` is what all hosts returned as proof at the end of `prepare`; None switches without
    proof. `shift` is refused on a host whose new routes are not proven, unless `force_unproven`
    (see `switch_proof.Proof`). `secrets` are those that the controller has sent, by the plan's
    setting that they belong to.

    A change that may cut the SSH session off is undone after `timeout` seconds unless a second
    call, with `confirming`, comes in over a fresh connection; only that call writes the boot files.

    `run` is the run that this call belongs to. It is refused on a host that another run has
    claimed, unless that one is among `over`, the runs that have ended.
    """
    if check:
        return outcome(look(plan, name), phase)
    # Not under the lock: the replay needs it.
    services.await_replay(plan.name, boot.top(plan.name))
    with held(plan.name):
        if run:
            claim.renew(plan.name, run, over)
        if confirming:
            rollback.confirm(plan.name)
        notes = rollback.settle(plan.name)
        boot.sweep(plan.name)
        if phase != phases.SHIFT:
            notes += proofs.end(plan.name)
        seen = look(plan, name)
        seen.warnings.extend(notes)
        seen.warnings.extend(_ready(seen, phase, confirming))
        asked = None
        if phase == phases.SHIFT and proof is not None and not confirming:
            asked = proofs.Proof(seen, proof, force_unproven)
            seen.warnings.extend(asked.new_way())
        after = target(seen, phase)
        contents = BACKENDS[plan.backend].secret_contents(plan, TOOLS, secrets or {})
        after.contents = {**seen.before.contents, **contents}
        result = begin(seen, planned(seen, seen.before, after))
        if result.changed:
            # Until the phase is done, and after it was undone, devices from before may exist, too.
            ahead = replace(
                record_after(seen, phase, after),
                phase=phase,
                devices=devices(seen, after),
                cidrs=cidrs(seen),
                unsettled=_unsettled(seen, result.changes),
                podnet_version=VERSION,
            )
            watched = ssh_clients.clients(run)
            result.armed = rollback.endangers(seen.before, after, watched.addresses)
            if result.armed:
                result.warnings += filter(None, [watched.note()])
                _arm(seen, after, timeout, confirming)
            record_file.save(plan.name, ahead)
            ours = {*seen.before.links, *after.links}
            kept = forwarding.lasting_originals(after.sysctls, ours)
            originals.keep(plan.name, seen.before.sysctls, kept)
            begun = seen.before.copy()
            begun.files[record_file.path(plan.name)] = record.dump(ahead)
            if result.armed:
                rollback.note_written(plan.name, _written_ahead(plan.name))
                # Boot files and units are written only when the change is confirmed.
                after.files, after.boot = begun.files, begun.boot
                after.secrets = {**begun.secrets, **after.secrets}
                after.leftovers = begun.leftovers
            result.warnings += _apply_or_undo(seen, begun, after, asked)
            _demand_reached(seen, after)
        elif asked:
            asked.real_way()
        if phase == phases.PREPARE and proof is not None and not result.armed:
            result.proof = proofs.begin(seen, after)
        if not result.armed:
            _settle_originals(seen, after, undone=False)
        return result


def _ready(seen: Look, phase: str, confirming: bool) -> list[str]:
    """Do what must be done before a phase; return warnings.

    Raises PodnetError for a switch that must go by a detour.
    """
    if seen.stuck and phase in (phases.PREPARE, phases.SHIFT):
        raise PodnetError("; ".join(seen.stuck))
    if phase != phases.SHIFT or confirming:
        return []
    return BACKENDS[seen.plan.backend].warm_up(seen.plan, seen.node, TOOLS)


def _arm(seen: Look, after: State, timeout: int, confirming: bool) -> None:
    if confirming:
        raise PodnetError(
            f"{seen.node.name}: the change to confirm is not there any more; the host may have "
            "rebooted meanwhile, into its state from before. Nothing was changed; run again"
        )
    way_back = [
        change
        for change in changes(after, seen.before)
        if change.tool not in ("file", "boot", "secret")
    ]
    kept = {path: files.read_text(path) for path in _written_ahead(seen.plan.name)}
    rollback.arm(seen.plan.name, way_back, kept, timeout)


def _written_ahead(name: str) -> list[str]:
    """Return the paths of files that are written before the first change; an undo restores them."""
    return [record_file.path(name), originals.PATH]


def _apply_or_undo(seen: Look, begun: State, after: State, asked: proofs.Proof | None) -> list[str]:
    """Change the host from `begun` to `after`; on any error undo it and raise PodnetError.

    `seen` holds the state to go back to. `asked` proves the new routes after they moved, None if
    there is nothing to prove. Returns warnings.
    """
    rest = leftovers(begun, after, first=False)
    todo = [one for one in changes(begun, after) if one not in rest]
    todo, last = _record_apart(seen.plan.name, todo)
    paths = _unsettled(seen, todo)
    if seen.record and seen.record.phase != record.DONE:
        # The run before did not end, and its record may be of a podnet that did not list the units.
        paths += [path for path in boot.unit_files(seen.plan.name) if path not in paths]
    try:
        edge.apply(todo, after)
        if asked:
            asked.real_way()
        if any(change.tool == "boot" for change in todo):
            boot.write(seen.plan.name, after.boot)
        warnings = services.settle(paths)
        edge.apply(last, after)
    except Exception as error:  # whatever it is, the host must not stay half-way
        what = "All of this run's changes on this host"
        raise undone(error, lambda: _take_back(seen, after, paths), what) from error
    # Leftovers of flannel go last: nothing uses them any more, and they cannot be brought back.
    edge.apply(rest, after)
    if not seen.node.health_interval:
        health.forget(seen.plan.name)
    elif any(change.tool == "boot" for change in todo):
        # It waits for the lock, and then notes what this run has left.
        warnings += services.begin(health.unit(seen.plan.name))
    return warnings


def _unsettled(seen: Look, todo: Sequence[Change]) -> list[str]:
    """Return the paths of files that services must read again: those that `todo` changes, and more.

    A run that died may have written files and not told the services; the record lists those.
    """
    own = {record_file.path(seen.plan.name)}
    left = seen.record.unsettled if seen.record else []
    return sorted({*changed_files(todo), *left} - own)


def _record_apart(name: str, todo: Sequence[Change]) -> tuple[list[Change], list[Change]]:
    """Return (the changes without that of the record, that change).

    The record is written last, because it says that all other changes are done.
    """
    last = [one for one in todo if one.tool == "file" and one.lines == (record_file.path(name),)]
    return [one for one in todo if one not in last], last


def _demand_reached(seen: Look, after: State) -> None:
    """Raise PodnetError if the host is not as in `after` although every command succeeded."""
    rest = changes(_observe_again(seen, after), after)
    if rest:
        shown = "; ".join(
            f"wanted {change.after or 'none'}, found {change.before or 'none'}"
            for change in rest[:5]
        )
        raise PodnetError(
            f"{seen.node.name}: after all changes the host still differs: {shown}. Another tool "
            "may manage the same objects; see docs/troubleshooting.md"
        )


def _take_back(seen: Look, after: State, paths: Sequence[str]) -> None:
    """Bring the host back to what it was, from wherever the changes to `after` have led."""
    now = _observe_again(seen, after)
    back, last = _record_apart(seen.plan.name, changes(now, seen.before))
    edge.apply(back, seen.before)
    if now.boot != seen.before.boot:
        boot.write(seen.plan.name, seen.before.boot)
    edge.apply(last, seen.before)
    rollback.settle(seen.plan.name)
    _settle_originals(seen, seen.before, undone=True)
    services.settle(paths)
    files.prune_directories([record_file.directory(seen.plan.name)])


def _observe_again(seen: Look, after: State) -> State:
    links = eyes.read_links()
    ours = eyes.owned_links(links, seen.plan.name, devices(seen, after))
    wanted = set(seen.final.routes) | set(seen.before.routes)
    transient = {one for one in (*seen.before.tables, *after.tables) if " " in one}
    state = eyes.observe(
        seen.plan.name,
        links,
        ours=ours,
        cidrs=cidrs(seen),
        wanted=wanted,
        sysctls=after.sysctls,
        also_tables=sorted(transient),
    ).state
    if seen.before.leftovers:
        state.leftovers = dict(flannel.read(seen.plan.name, seen.plan.cni.conf_dir).leftovers)
    if any(port.inner for port in after.ports.values()):
        state.ports = pods.with_inner_ends(state.ports, links)
    # Pods may come and go meanwhile. One that is gone need not be changed; one that is new has
    # the bridge's new MTU.
    after.ports = {name: port for name, port in after.ports.items() if name in state.ports}
    state.files = dict(read_files(list(after.files) + list(seen.before.files)))
    state.boot = boot.read(seen.plan.name)
    add_secrets(state, seen.plan.name)
    return state


def _settle_originals(seen: Look, after: State, undone: bool) -> None:
    """Forget the original values of sysctls that have them again and are no longer needed.

    `undone`: the changes of this call were undone.
    """
    name = seen.plan.name
    needed = {
        key
        for key in seen.final.sysctls.keys() - seen.restored.keys()
        if forwarding.device(key) and (seen.record or not undone)
    }
    done = [
        key
        for key, value in originals.restorable(name).items()
        if key not in needed and after.sysctls.get(key, value) == value
    ]
    if done:
        originals.forget(name, done)


def remove(name: str, check: bool, run: str = "", over: Sequence[str] = ()) -> NetworkResult:
    """Remove all that network `name` has on this host, and put back the sysctls it changed.

    `check`, `run` and `over` are as in `converge`. Raises PodnetError.
    """
    demand_root()
    if check:
        return _removal(name)[0]
    with held(name):
        if run:
            claim.renew(name, run, over)
        # First of all: the timer of a rollback would restore what is removed here.
        notes = rollback.settle(name)
        notes += proofs.end(name)
        result, after = _removal(name)
        result.warnings += notes
        todo, last = _record_apart(name, result.changes)
        paths = boot.own_paths(name)
        edge.apply(todo, after)
        if result.changed:
            boot.write(name, {})
            result.warnings += services.settle(paths)
        if originals.claimed(name):
            originals.forget(name, originals.claimed(name))
        edge.apply(last, after)
        files.prune_directories([record_file.directory(name)])
        if run:
            claim.release(name, run)
    return result


def _removal(name: str) -> tuple[NetworkResult, State]:
    known = record_file.load(name)
    links = eyes.read_links()
    ours = eyes.owned_links(links, name, known.devices if known else [])
    cidrs = known.cidrs if known else []
    restorable = originals.restorable(name)
    before = eyes.observe(
        name,
        links,
        ours=ours,
        cidrs=cidrs,
        wanted=set(),
        sysctls=restorable,
        also_tables=record.transient_tables(name, known),
    ).state
    warnings = []
    if before.ports:
        warnings.append(
            f"{len(before.ports)} pods were attached to the bridge and have no network any more: "
            f"{', '.join(sorted(before.ports)[:5])}"
        )
    before.ports = {}
    left = known.unsettled if known else []
    own = [record_file.path(name), *boot.own_paths(name), *left]
    before.files = dict(read_files([*own, *map(files.beside, own)]))
    before.boot = boot.read(name)
    add_secrets(before, name)
    # Sysctls of devices that are gone cannot be put back.
    after = State(sysctls={key: val for key, val in restorable.items() if key in before.sysctls})
    return NetworkResult(changes(before, after), warnings), after

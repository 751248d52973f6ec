"""One network on one host: look, decide, change, look again.

This is the order of things behind `podnet_network` and `podnet_info`; what is desired, what
differs and how it is written stand in modules of their own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Sequence

from . import boot, files, phases, record
from .backends import BACKENDS
from .desire import desired, own_node
from .diff import Change, changes, is_same_device
from .errors import PodnetError
from .host import Host
from .kernel import apply as edge
from .kernel import observe as eyes
from .kernel import pods, run
from .lock import held
from .model import Node, Plan
from .record import DONE, Record
from .state import State


class Look(NamedTuple):
    """A host as it was found: `before` is ours there, `final` what the plan wants in the end.

    `switching` tells that the plan's parameters are not those that the host last reached, so all
    hosts have to go through the change in step. `strict` is about rp_filter (phases.target).
    """

    plan: Plan
    node: Node
    host: Host
    record: Record | None
    before: State
    final: State
    switching: bool
    strict: bool
    restored: dict[str, str]
    warnings: list[str]


@dataclass
class Outcome:
    """What a call did or, in check mode, would do."""

    changes: list[Change]
    warnings: list[str]
    switching: bool = False

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


def look(plan: Plan, name: str) -> Look:
    """Read the host and decide what it must have.

    `name` is the host's in the plan. Raises PodnetError for everything that stands in the way;
    nothing has been changed then.
    """
    run.demand_root()
    for tool in ("ip", "bridge", "nft"):
        run.find(tool)
    node = own_node(plan, name)
    known = record.load(plan.name)
    links = eyes.read_links()
    devices = [plan.bridge, *([plan.device] if plan.backend == "vxlan" else [])]
    recorded = known.devices if known else []
    ours = eyes.owned_links(links, plan.name, recorded)
    _demand_free_names(plan, node, links, ours, devices)
    host = eyes.view(links, node, _all_podnet(links) | ours)
    problems = BACKENDS[plan.backend].problems(plan, node, host)
    if problems:
        raise PodnetError("; ".join(problems))
    final = desired(plan, node, host)
    cidrs = [one for one in (plan.cluster_cidr, plan.cluster_cidr6) if one]
    _add_router_advertisements(plan, node, host, final)
    restorable = record.restorable(plan.name)
    wanted_sysctls = {**restorable, **final.sysctls, phases.RP_FILTER: ""}
    if known:
        cidrs += [one for one in known.cidrs if one not in cidrs]
    seen = eyes.observe(
        plan.name,
        links,
        ours=ours,
        cidrs=cidrs,
        wanted=set(final.routes) if known else set(),
        sysctls=wanted_sysctls,
    )
    _demand_no_overlap(plan, node, seen.foreign)
    before = seen.state
    _recognise_renamed(before, final)
    restored = {key: val for key, val in restorable.items() if key not in final.sysctls}
    final.sysctls.update(restored)
    strict = before.sysctls.get(phases.RP_FILTER) != "2" and _is_strict(links)
    _add_ports(plan, known, before, final, links)
    _demand_no_stranded_pods(plan, node, before, final)
    before.files = dict(_read_files([*boot.unit_files(plan.name), record.path(plan.name)]))
    before.boot = boot.read(plan.name)
    switching = known is not None and (
        known.parameters != record.parameters(plan) or known.phase in phases.PHASES[:3]
    )
    return Look(plan, node, host, known, before, final, switching, strict, restored, [])


def outcome(seen: Look, phase: str) -> Outcome:
    """Return what `phase` would change on a host that was looked at.

    The phases before it are taken as done, so a check of all three shows each change once.
    """
    before = seen.before
    for earlier in phases.PHASES[: phases.PHASES.index(phase)] if phase != phases.ALL else ():
        before = _target(seen, earlier)
    return Outcome(changes(before, _target(seen, phase)), seen.warnings, seen.switching)


def converge(plan: Plan, name: str, phase: str, check: bool) -> Outcome:
    """Bring this host to the end of `phase`; with `check` only say what that would change.

    A batch that fails is undone: the host is put back into the state it was found in, and the
    error says so. Raises PodnetError.
    """
    if check:
        return outcome(look(plan, name), phase)
    with held(plan.name):
        seen = look(plan, name)
        after = _target(seen, phase)
        result = Outcome(changes(seen.before, after), seen.warnings, seen.switching)
        if result.changed:
            ahead = replace(_record(seen, phase, after), phase=phase)
            record.save(plan.name, ahead)
            record.keep_originals(plan.name, seen.before.sysctls, after.sysctls)
            begun = seen.before.copy()
            begun.files[record.path(plan.name)] = record.dump(ahead)
            _apply_or_undo(seen, after, changes(begun, after))
            _demand_reached(seen, after)
        _settle_originals(plan, after)
        return result


def _apply_or_undo(seen: Look, after: State, todo: Sequence[Change]) -> None:
    try:
        edge.apply(todo, after)
        if any(change.tool == "boot" for change in todo):
            boot.write(seen.plan.name, after.boot)
    except PodnetError as error:
        try:
            now = _observe_again(seen, after)
            back = changes(now, seen.before)
            edge.apply(back, seen.before)
            if now.boot != seen.before.boot:
                boot.write(seen.plan.name, seen.before.boot)
        except PodnetError as second:
            raise PodnetError(f"{error}. Undoing it failed, too: {second}") from error
        raise PodnetError(f"{error}. All of this run's changes on this host are undone") from error


def _demand_reached(seen: Look, after: State) -> None:
    """Raise PodnetError naming what the kernel did not take although every command succeeded."""
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


def _observe_again(seen: Look, after: State) -> State:
    links = eyes.read_links()
    ours = eyes.owned_links(links, seen.plan.name, _devices(seen, after))
    cidrs = _cidrs(seen)
    wanted = set(seen.final.routes) | set(seen.before.routes)
    state = eyes.observe(
        seen.plan.name, links, ours=ours, cidrs=cidrs, wanted=wanted, sysctls=after.sysctls
    ).state
    if any(port.inner for port in after.ports.values()):
        state.ports = pods.with_inner_ends(state.ports, links)
    # A pod may come or go meanwhile; what came already has the new MTU from the bridge's.
    after.ports = {name: port for name, port in after.ports.items() if name in state.ports}
    state.files = dict(_read_files(list(after.files) + list(seen.before.files)))
    state.boot = boot.read(seen.plan.name)
    return state


def _target(seen: Look, phase: str) -> State:
    after = phases.target(seen.before, seen.final, phase, seen.strict).copy()
    after.files = boot.unit_files(seen.plan.name)
    after.files[record.path(seen.plan.name)] = record.dump(_record(seen, phase, after))
    lasting = after.copy()
    if phase in (phases.COMMIT, phases.ALL):
        # A value that is put back is the host's own again: its boot files set it, not ours.
        lasting.sysctls = {
            key: value for key, value in after.sysctls.items() if key not in seen.restored
        }
    after.boot = boot.render(lasting)
    return after


def _record(seen: Look, phase: str, after: State) -> Record:
    finished = phase in (phases.COMMIT, phases.ALL)
    return Record(
        node=seen.node.name,
        parameters=record.parameters(seen.plan),
        phase=DONE if finished else phase,
        devices=sorted(after.links) if finished else _devices(seen, after),
        cidrs=[one for one in (seen.plan.cluster_cidr, seen.plan.cluster_cidr6) if one]
        if finished
        else _cidrs(seen),
        pod_mtu=after.links[seen.plan.bridge].mtu,
    )


def _devices(seen: Look, after: State) -> list[str]:
    recorded = seen.record.devices if seen.record else []
    return sorted({*recorded, *seen.before.links, *after.links})


def _cidrs(seen: Look) -> list[str]:
    own = [one for one in (seen.plan.cluster_cidr, seen.plan.cluster_cidr6) if one]
    recorded = seen.record.cidrs if seen.record else []
    return own + [one for one in recorded if one not in own]


def _settle_originals(plan: Plan, after: State) -> None:
    """Drop the claim on a sysctl that is back at its old value and no longer needed."""
    back = record.restorable(plan.name)
    done = [key for key, value in back.items() if after.sysctls.get(key, value) == value]
    if done:
        record.forget_originals(plan.name, done)


def remove(name: str, check: bool) -> Outcome:
    """Remove all that network `name` has on this host, and put back the sysctls it changed."""
    run.demand_root()
    if check:
        return _removal(name)[0]
    with held(name):
        result, after = _removal(name)
        if result.changed:
            edge.apply(result.changes, after)
            boot.write(name, {})
        record.forget_originals(name, record.claimed(name))
        files.prune_directories([record.directory(name)])
    return result


def _removal(name: str) -> tuple[Outcome, State]:
    known = record.load(name)
    links = eyes.read_links()
    ours = eyes.owned_links(links, name, known.devices if known else [])
    cidrs = known.cidrs if known else []
    restorable = record.restorable(name)
    before = eyes.observe(
        name, links, ours=ours, cidrs=cidrs, wanted=set(), sysctls=restorable
    ).state
    warnings = []
    if before.ports:
        warnings.append(
            f"{len(before.ports)} pods were attached to the bridge and have no network any more: "
            f"{', '.join(sorted(before.ports)[:5])}"
        )
    before.ports = {}
    own = [record.path(name), boot.wants(name)]
    enabled = Path("/etc/systemd/system").glob("*.wants/podnet@*.service")
    if all(one.name == f"podnet@{name}.service" for one in enabled):
        own.append(boot.UNIT)
    before.files = dict(_read_files(own))
    before.boot = boot.read(name)
    after = State(sysctls=restorable)
    return Outcome(changes(before, after), warnings), after


def _read_files(paths: Sequence[str]) -> list[Any]:
    found = []
    for path in dict.fromkeys(paths):
        if Path(path).is_symlink():
            found.append((path, f"-> {os.readlink(path)}"))
            continue
        text = files.read_text(path)
        if text is not None:
            found.append((path, text))
    return found


def _all_podnet(links: Sequence[dict[str, Any]]) -> set[str]:
    """Return the devices of all networks of podnet: none of them is underlay for another."""
    return {link["ifname"] for link in links if str(link.get("ifalias", "")).startswith("podnet:")}


def _demand_free_names(
    plan: Plan, node: Node, links: Sequence[dict[str, Any]], ours: set[str], devices: Sequence[str]
) -> None:
    variables = {plan.bridge: "podnet_bridge", plan.device: "podnet_vxlan_device"}
    for link in links:
        name, alias = link["ifname"], str(link.get("ifalias", ""))
        info = link.get("linkinfo", {})
        if name in devices and name not in ours:
            owner = (
                f"belongs to podnet's network {alias[7:]}"
                if alias.startswith("podnet:")
                else "is not podnet's"
            )
            raise PodnetError(
                f"{node.name}: {name} exists on the host and {owner}. Set {variables[name]} to "
                f"another name, or remove the device if nothing needs it (ip link del {name})"
            )
        data = info.get("info_data", {})
        if (
            plan.backend == "vxlan"
            and info.get("info_kind") == "vxlan"
            and name not in ours
            and (data.get("id"), data.get("port")) == (plan.vni, plan.port)
        ):
            raise PodnetError(
                f"{node.name}: {name} on the host uses VNI {plan.vni} and port {plan.port} "
                "already. Set podnet_vxlan_vni or podnet_vxlan_port to another number"
            )


def _demand_no_overlap(plan: Plan, node: Node, foreign: dict[str, str]) -> None:
    if foreign:
        shown = "; ".join(f"{dst} {body}" for dst, body in list(foreign.items())[:3])
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        ranges = " or ".join(one for one in (plan.cluster_cidr, plan.cluster_cidr6) if one)
        raise PodnetError(
            f"{node.name}: the host has routes of others inside {ranges}: {shown}{more}. Remove "
            "them, or set podnet_cluster_cidr to a range that is free"
        )


def _demand_no_stranded_pods(plan: Plan, node: Node, before: State, final: State) -> None:
    """Refuse to take a subnet or a bridge away from under running pods."""
    lost = [
        f"{cidr} on {dev}"
        for dev, cidr in before.addresses
        if (dev, cidr) not in final.addresses and before.links[dev].kind == "bridge"
    ]
    lost += [
        name
        for name, link in before.links.items()
        if link.kind == "bridge" and name not in final.links
    ]
    if lost and before.ports:
        shown = ", ".join(list(before.ports)[:3])
        raise PodnetError(
            f"{node.name}: {len(before.ports)} pods are attached ({shown}) and would "
            f"lose {', '.join(lost)}. Stop the pods of this host first, or keep its subnet "
            "(podnet_subnet) and podnet_bridge"
        )


def _recognise_renamed(before: State, final: State) -> None:
    """Mark a desired VXLAN device that exists under another name, so that it is renamed.

    The kernel has no two devices with one VNI and port (vxlan_vni_in_use in vxlan_core.c), so a
    new name cannot be made beside the old one.
    """
    for name, link in final.links.items():
        if link.kind != "vxlan" or name in before.links:
            continue
        for other, old in before.links.items():
            if other not in final.links and is_same_device(old, link):
                final.links[name] = link._replace(ifindex=old.ifindex)


def _add_router_advertisements(plan: Plan, node: Node, host: Host, final: State) -> None:
    """Keep the host's own IPv6 default route.

    A kernel that forwards ignores router advertisements unless accept_ra is 2 (ip-sysctl.rst).
    """
    if not node.subnet6:
        return
    for underlay in host.underlay.values():
        key = f"net.ipv6.conf.{underlay.device.replace('.', '/')}.accept_ra"
        claimed = key in record.claimed(plan.name)
        if claimed or eyes.read_sysctls([key]).get(key) == "1":
            final.sysctls[key] = "2"


def _is_strict(links: Sequence[dict[str, Any]]) -> bool:
    """Whether any device drops by strict reverse path; the kernel takes max(all, device)."""
    keys = [phases.RP_FILTER] + [
        f"net.ipv4.conf.{link['ifname'].replace('.', '/')}.rp_filter" for link in links
    ]
    return "1" in eyes.read_sysctls(keys).values()


def _add_ports(
    plan: Plan, known: Record | None, before: State, final: State, links: list[dict[str, Any]]
) -> None:
    """Say which running pods must follow the MTU: those that had the bridge's, and larger ones."""
    mtu = final.links[plan.bridge].mtu
    bridge = before.links.get(plan.bridge)
    followed = {bridge.mtu if bridge else 0, known.pod_mtu if known else 0, mtu}
    moving = followed - {0} != {mtu} or (known is not None and known.phase != DONE)
    if moving or any(port.mtu > mtu for port in before.ports.values()):
        before.ports = pods.with_inner_ends(before.ports, links)

    def follow(have: int) -> int:
        return mtu if have > mtu or have in followed else have

    final.ports = {
        name: port._replace(mtu=follow(port.mtu), inner_mtu=follow(port.inner_mtu))
        for name, port in before.ports.items()
    }


def observed(name: str) -> tuple[State, Record | None]:
    """Return what network `name` has on this host, and its record; needs no plan."""
    known = record.load(name)
    links = eyes.read_links()
    ours = eyes.owned_links(links, name, known.devices if known else [])
    state = eyes.observe(
        name,
        links,
        ours=ours,
        cidrs=known.cidrs if known else [],
        wanted=set(),
        sysctls=["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", phases.RP_FILTER],
    ).state
    state.boot = boot.read(name)
    return state, known


def commands(todo: Sequence[Change], most: int) -> list[str]:
    """Return the first `most` commands behind a list of changes, for people to read."""
    lines = [
        f"{change.tool} {line}" if change.tool in ("ip", "bridge") else f"{change.tool}: {line}"
        for change in todo
        for line in change.lines
    ]
    return lines[:most]

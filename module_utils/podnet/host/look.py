"""Look at a host: what it has of a network, what it must have, and what stands in the way."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Collection, NamedTuple, Sequence

from ..backends.registry import BACKENDS, KINDS, is_same_device, secrets_on
from ..core import host_view as underlay
from ..core import schema
from ..core.errors import PodnetError
from ..core.host_view import HostView
from ..core.model import Node, Plan
from ..core.state import BRIDGE, State
from ..firewall import forward, policy
from ..keep import boot, files, originals, record_file
from ..kernel import adopt as flannel
from ..kernel import bridge_netfilter as clients
from ..kernel import observe as eyes
from ..kernel import pods, run, services
from ..kernel import policy as rules
from ..kernel import preflight as edge
from ..kernel import underlay as ways
from ..state import (
    adopt,
    bridge_netfilter,
    foreign_addresses,
    forwarding,
    guard,
    neighbours,
    phases,
    preflight,
    record,
)
from ..state import managers as others
from ..state.desire import bridge_mac, desired, own_node
from ..state.foreign_routes import judge
from ..state.record import DONE, Record

#: Sysctls that are read on every host, whoever sets them.
_ALWAYS_READ = (phases.RP_FILTER, forwarding.DEFAULT, *bridge_netfilter.KEYS.values())


class Look(NamedTuple):
    """A host as it was found: `before` is what it has of the network, `final` what it must have.

    `record` is None before the first run. `switching`: packets are about to take another way, so
    all hosts have to go through the phases together. `strict` and `held` are as in
    `state.phases.target`. `restored` are the sysctls in `final` that are put back to the values
    they had before podnet. `managers` are the tools of `state.managers.SIGNS` that are on the host
    and for which podnet may write drop-ins. `stuck` says why the host cannot switch to the plan at
    once, but over a device of another name and port (a detour). `late` is as in
    `state.phases.target`. `moving` are peers that get another address.
    """

    plan: Plan
    node: Node
    host: HostView
    record: Record | None
    before: State
    final: State
    switching: bool
    strict: bool
    restored: dict[str, str]
    warnings: list[str]
    managers: frozenset[str]
    held: str
    stuck: list[str]
    late: bool
    moving: list[str]


def _desired(plan: Plan, node: Node, host: HostView, problems: Sequence[str]) -> State:
    """Return what the host must have; raise PodnetError, with `problems`, if it cannot have it."""
    try:
        final = desired(plan, node, host)
        for link in final.links.values():
            for tool in KINDS[link.kind].tools(link.options) if link.kind in KINDS else ():
                run.find(tool)
    except PodnetError as error:
        raise _refusal(plan, node, [*problems, str(error)]) from error
    return final


def look(plan: Plan, name: str) -> Look:
    """Read the host and decide what it must have.

    `name` is the host's in the plan. Nothing is changed. Raises one PodnetError for all that
    prevents a run.
    """
    run.demand_root()
    for tool in ("ip", "bridge", "nft"):
        run.find(tool)
    node = own_node(plan, name)
    services.await_replay(plan.name, boot.top(plan.name))
    known = record_file.load(plan.name)
    links = eyes.read_links()
    ours = eyes.owned_links(links, plan.name, known.devices if known else [])
    adoption = _meet_flannel(plan, node, links, known)
    ours |= adoption.devices
    podnets = _all_podnet(links) | ours
    host = replace(
        ways.view(plan, node, links, podnets),
        facts=BACKENDS[plan.backend].facts(plan, node, run.TOOLS),
    )
    problems = [
        *_taken_names(plan, node, links, ours),
        *underlay.problems(plan, node, host, podnets),
        *BACKENDS[plan.backend].problems(plan, node, host),
    ]
    final = _desired(plan, node, host, problems)
    _keep_bridge_mac(plan, node, known, adoption, final)
    cidrs = list(filter(None, (plan.cluster_cidr, plan.cluster_cidr6)))
    _add_router_advertisements(plan, node, host, final)
    crowded = _add_neighbours(plan, node, host, final)
    restorable = _add_loose(plan, node, host, final)
    asked = [*restorable, *final.sysctls, *_ALWAYS_READ, *forwarding.wanted(ours)]
    if known:
        cidrs += [one for one in known.cidrs if one not in cidrs]
    seen = eyes.observe(
        plan.name,
        links,
        ours=ours,
        cidrs=cidrs,
        wanted=set(final.routes) if known or adoption.active else set(),
        sysctls=dict.fromkeys(asked),
        also_tables=record.transient_tables(plan.name, known),
    )
    before = seen.state
    bridging = _add_bridge_netfilter(node, before, final, restorable)
    foreign, notes = _take_routes(plan, node, adoption, seen, final)
    unsafe, unguarded = _guard(node, before, final)
    in_way, idle = judge(plan, node, foreign)
    problems += [*in_way, *bridging.problems, *unsafe]
    notes += [*idle, *unguarded, *underlay.notes(plan, node, host), *bridging.warnings]
    notes += BACKENDS[plan.backend].notes(plan, node, host)
    notes += underlay.silent(node, host, final.routes)
    _recognise_renamed(before, final)
    restored = {
        key: val
        for key, val in restorable.items()
        if key not in final.sysctls and key in before.sysctls
    }
    final.sysctls.update(restored)
    _add_ports(plan, node, known, before, final, links=links)
    problems += _stranded_pods(node, before, final)
    warnings = _forward(plan, node, seen, before, final, bridged=bridging.families) + crowded
    managers = _managers(node)
    _add_files(before, plan.name, managers, known.unsettled if known else ())
    held = adopt.held_mac(plan, known, before, final)
    late, moving = _moving(plan, known, before, final, links)
    switching = _is_switching(plan, known, adoption, before, final) or (
        known is not None and _is_another(plan, node, host, before, final)
    )
    notes += [adopt.advice(node, held)] if held and adoption.active else []
    warnings += notes + foreign_addresses.addresses(links, ours, cidrs)
    problems += _led_away(plan, node, switching or late, warnings)
    in_way, stuck = _preflight(node, before, final, switching or late, links, ours=ours)
    if problems or in_way:
        raise _refusal(plan, node, [*problems, *in_way])
    return Look(
        plan,
        node,
        host,
        known,
        before,
        final,
        switching or late,
        before.sysctls.get(phases.RP_FILTER) != "2" and _is_strict(links),
        restored,
        warnings,
        managers,
        held,
        stuck,
        late,
        moving,
    )


def _moving(
    plan: Plan,
    known: Record | None,
    before: State,
    final: State,
    links: Sequence[dict[str, Any]],
) -> tuple[bool, list[str]]:
    """Return (whether this host gets another source address, the peers that get another one)."""
    if known is not None and not before.boot:
        # Without its boot files a host does not tell a new address from a wrong entry.
        return False, []
    macs = {mac for _device, mac in guard.moving_peers(before, final)}
    mac = BACKENDS[plan.backend].mac
    peers = [name for name, node in plan.nodes.items() if mac(plan, node) in macs]
    unfinished = known is not None and known.phase != DONE
    moves = guard.is_moving(before, final, schema.held(*links), unfinished=unfinished)
    return moves, peers


def _guard(node: Node, before: State, final: State) -> tuple[list[str], list[str]]:
    """Take the guard out of `final` where the host cannot have it; return (problems, warnings).

    A host that has one has shown that it can.
    """
    if not guard.tables(final) or guard.tables(before):
        return [], []
    error = edge.cannot_have(final)
    if error:
        guard.without(final)
        return [], [guard.lacking(node.name, os.uname().release, error)]
    connections = run.TOOLS.text(guard.CONNECTIONS) or ""
    return guard.translated(node.name, before, connections), []


def _preflight(
    node: Node,
    before: State,
    final: State,
    switching: bool,
    links: Sequence[dict[str, Any]],
    *,
    ours: set[str],
) -> tuple[list[str], list[str]]:
    """Return what would fail half-way, and of that what a switch goes around by a detour."""
    asked = preflight.questions(before, final, switching)
    facts = edge.ask(asked)
    found = preflight.problems(node, asked, facts, links, ours | final.links.keys())
    stuck = preflight.rename_problems(node, asked, facts)
    return (found, stuck) if switching else ([*found, *stuck], [])


def _is_another(plan: Plan, node: Node, host: HostView, before: State, final: State) -> bool:
    """Whether the plan wants another device of the backend's under the name of the one there is."""
    backend = BACKENDS[plan.backend]
    return any(
        backend.is_switch(node, host, before.links[device], final.links[device])
        for device in backend.own_devices(plan)
        if device in before.links
    )


def _add_bridge_netfilter(
    node: Node, before: State, final: State, restorable: dict[str, str]
) -> bridge_netfilter.Decision:
    """Let bridged packets pass iptables in `final` where the host needs that."""
    values = {**before.sysctls, **restorable}
    found = bridge_netfilter.decide(node, clients.ask(node), values)
    final.sysctls.update(found.sysctls)
    if found.module:
        final.modules[bridge_netfilter.MODULE] = ""
    # An undo makes all that is in `before`; a kernel without the module has no such files, and what
    # does not need the module does not load it.
    if not final.modules:
        before.modules.clear()
    for key in bridge_netfilter.KEYS.values():
        if key not in final.sysctls and key not in restorable:
            before.sysctls.pop(key, None)
    return found


def _forward(
    plan: Plan,
    node: Node,
    seen: eyes.Observation,
    before: State,
    final: State,
    *,
    bridged: Collection[int],
) -> list[str]:
    """Add the accept rules that pods need in foreign chains to `final`; return warnings.

    With podnet_manage_forward: false nothing is added, and the warnings say what is missing.
    `bridged` are the families whose packets between pods of this host pass these chains, too.
    """
    if "forward" in node.leave_alone:
        return forward.left_alone(plan, node, seen.forwarders, final, bridged)
    return forward.add(plan, node, seen.forwarders, before, final, bridged=bridged)


def _led_away(plan: Plan, node: Node, switching: bool, warnings: list[str]) -> list[str]:
    """Return foreign policy rules that prevent a switch, as messages; add others to `warnings`.

    Packets that such a rule takes do not use the routes that a switch moves.
    """
    taken, doubtful = policy.tell(rules.read(plan, node))
    warnings += doubtful + ([] if switching else taken)
    return taken if switching else []


def _keep_bridge_mac(
    plan: Plan, node: Node, known: Record | None, adoption: adopt.Adoption, final: State
) -> None:
    """Let an adopted bridge keep its MAC, which running pods have as that of their gateway."""
    mac = known.bridge_mac if known else adoption.bridge_mac
    if mac and mac != bridge_mac(node):
        final.links[plan.bridge] = final.links[plan.bridge]._replace(mac=mac)


def _meet_flannel(
    plan: Plan, node: Node, links: list[dict[str, Any]], known: Record | None
) -> adopt.Adoption:
    """Look for flannel if it is to be adopted, before the first run, or if it ran since boot."""
    if not node.adopt and known is not None and not flannel.has_environment():
        return adopt.Adoption()
    return adopt.meet(plan, node, links, known, flannel.read(plan.name, plan.cni.conf_dir))


def _take_routes(
    plan: Plan,
    node: Node,
    adoption: adopt.Adoption,
    seen: eyes.Observation,
    final: State,
) -> tuple[dict[str, str], list[str]]:
    """Count flannel's routes as the network's own if it is adopted.

    Returns (foreign routes: destination -> route, warnings).
    """
    if not adoption.active:
        return seen.foreign, []
    seen.state.leftovers = dict(adoption.leftovers)
    cidrs = [one for one in (plan.cluster_cidr, plan.cluster_cidr6) if one]
    # The backend's own device was flannel's until now, so routes over it may be flannel's.
    kept = _all_podnet(seen.links) - BACKENDS[plan.backend].own_devices(plan).keys()
    families = sorted({6 if ":" in cidr else 4 for cidr in cidrs})
    _other, foreign = eyes.read_routes(families, cidrs, set(final.routes), kept)
    return adopt.take_routes(plan, node, foreign, seen.state)


def _is_switching(
    plan: Plan, known: Record | None, adoption: adopt.Adoption, before: State, final: State
) -> bool:
    """Whether packets are about to take another way, so that all hosts must change in phases."""
    if known is None:
        return adoption.active and adopt.must_switch(plan, before, final)
    return (
        not record.is_reached(known, plan)
        or known.phase in phases.PHASES[:3]
        or adopt.held_mac(plan, known, before, final) != ""
    )


def _managers(node: Node) -> frozenset[str]:
    """Return the tools on the host that podnet has to configure, so that they leave its work alone.

    Those that the user wants left alone are not among them.
    """
    alone = {"networkd": {others.NETWORKD, others.NETWORK_MANAGER}, "forward": {others.FIREWALLD}}
    left = {tool for word in node.leave_alone for tool in alone.get(word, ())}
    return frozenset(
        tool for tool, sign in others.SIGNS.items() if tool not in left and Path(sign).exists()
    )


def _own_files(name: str, managers: frozenset[str]) -> list[str]:
    """Return the paths where files of this network may lie.

    Files that another network of the host needs, too, are among them only if this one wants them.
    """
    wanted = [*boot.unit_files(name), *others.drop_ins(name, (), managers, {})]
    return [*boot.own_paths(name), *wanted]


def bridge_mtu(plan: Plan, node_name: str) -> int:
    """Return the MTU, in bytes, that the bridge has once the network is as the plan wants it."""
    return look(plan, node_name).final.links[plan.bridge].mtu


def _add_files(
    before: State, name: str, managers: frozenset[str], unsettled: Sequence[str]
) -> None:
    """Add to `before` the files of network `name`; `unsettled` are those of a run that died."""
    paths = [*_own_files(name, managers), record_file.path(name), *unsettled]
    before.files = dict(read_files(paths))
    before.boot = boot.read(name)
    add_secrets(before, name)


def add_secrets(state: State, name: str) -> None:
    """Add to `state` the files of network `name` that only root may read."""
    state.secrets = secrets_on(name, run.TOOLS)
    for path in state.secrets:
        text = files.read_text(path)
        if text is not None:
            state.contents[path] = text


def read_files(paths: Sequence[str]) -> list[tuple[str, str]]:
    """Return (path, content) of those files that exist; "-> TARGET" for a symbolic link.

    Raises PodnetError for what is neither, or cannot be read.
    """
    found = []
    for path in dict.fromkeys(paths):
        # A file where a directory is wanted is told by `unwritable`; below it there is nothing.
        if not Path(path).parent.is_dir():
            continue
        if Path(path).is_symlink():
            found.append((path, f"-> {os.readlink(path)}"))
            continue
        text = files.read_text(path)
        if text is not None:
            found.append((path, text))
    return found


def _all_podnet(links: Sequence[dict[str, Any]]) -> set[str]:
    """Return the devices of all podnet's networks; none of these is underlay for another one."""
    return {link["ifname"] for link in links if str(link.get("ifalias", "")).startswith("podnet:")}


def _refusal(plan: Plan, node: Node, problems: Sequence[str]) -> PodnetError:
    """Return one error that names all problems, and directories that cannot be written to."""
    where = edge.unwritable(directories(plan), 0)
    found = [*problems, *preflight.full_or_read_only(node.name, where)]
    return PodnetError(preflight.refusal(node.name, found))


def directories(plan: Plan) -> list[str]:
    """Return the directories that a run writes to."""
    boot_files = [str(Path(one).parent) for one in boot.own_paths(plan.name)]
    return ["/run", record_file.directory(plan.name), plan.cni.conf_dir, *boot_files]


def _add_neighbours(plan: Plan, node: Node, host: HostView, final: State) -> list[str]:
    """Raise the limits of the kernel's neighbour tables in `final` if they are too low.

    With podnet_manage_neighbours: false they stay, and warnings are returned instead.
    """
    needed = neighbours.needed(node, host, final)
    values = eyes.read_sysctls(neighbours.limits(needed))
    if not node.manage_neighbours or not values:
        return neighbours.crowded(node, needed, values)
    noted = originals.load()
    first = {key: str(noted.get(key, {}).get("value", val)) for key, val in values.items()}
    for key, value in neighbours.raised(needed, first).items():
        # Never lower a limit that somebody has raised further.
        final.sysctls[key] = max(value, values.get(key, value), key=int)
    return []


def _taken_names(
    plan: Plan, node: Node, links: Sequence[dict[str, Any]], ours: set[str]
) -> list[str]:
    found = []
    variables = {plan.bridge: "podnet_bridge", **BACKENDS[plan.backend].own_devices(plan)}
    for link in links:
        name, alias = link["ifname"], str(link.get("ifalias", ""))
        if name in variables and name not in ours:
            owner = (
                f"belongs to podnet's network {alias[7:]}"
                if alias.startswith("podnet:")
                else "is not podnet's"
            )
            found.append(
                f"{node.name}: {name} exists on the host and {owner}. Set {variables[name]} to "
                f"another name, or remove the device if nothing needs it (ip link del {name})"
            )
    return found


def _stranded_pods(node: Node, before: State, final: State) -> list[str]:
    """Return a problem if the change would remove the bridge or subnet of running pods."""
    lost = [
        f"{cidr} on {dev}"
        for dev, cidr in before.addresses
        if (dev, cidr) not in final.addresses and before.links[dev].kind == BRIDGE
    ]
    lost += [
        name
        for name, link in before.links.items()
        if link.kind == BRIDGE and name not in final.links
    ]
    if lost and before.ports:
        shown = ", ".join(list(before.ports)[:3])
        return [
            f"{node.name}: {len(before.ports)} pods are attached ({shown}) and would "
            f"lose {', '.join(lost)}. Stop the pods of this host first, or keep its subnet "
            "(podnet_subnet) and podnet_bridge"
        ]
    return []


def _recognise_renamed(before: State, final: State) -> None:
    """Mark a wanted tunnel that exists under another name, so that it is renamed.

    Its mark is the existing device's ifindex. The kernel allows no two tunnels that take the same
    packets at once, so the new one cannot be made beside the old one. This happens, too, when a
    user goes back to parameters whose device was renamed aside earlier.
    """
    for name, link in final.links.items():
        if link.kind not in KINDS:
            continue
        if name in before.links and is_same_device(before.links[name], link):
            continue
        for other, old in before.links.items():
            if other not in final.links and is_same_device(old, link):
                final.links[name] = link._replace(ifindex=old.ifindex)


def _add_router_advertisements(plan: Plan, node: Node, host: HostView, final: State) -> None:
    """Let the host keep an IPv6 default route that it has from router advertisements.

    A kernel that forwards ignores these unless accept_ra is 2 (ip-sysctl.rst).
    """
    if not node.subnet6:
        return
    for device in dict.fromkeys([*host.devices(), *(one.device for one in host.underlay.values())]):
        key = f"net.ipv6.conf.{device.replace('.', '/')}.accept_ra"
        claimed = key in originals.claimed(plan.name)
        if claimed or eyes.read_sysctls([key]).get(key) == "1":
            final.sysctls[key] = "2"


def _add_loose(plan: Plan, node: Node, host: HostView, final: State) -> dict[str, str]:
    """Loosen a strict rp_filter where packets come in by another device than replies go out by.

    The kernel uses the maximum of `all` and the device's own value. A switch sets `all` to loose
    while it lasts, so here the value counts that `all` will be set back to. Returns the sysctls
    that can be put back (`originals.restorable`).
    """
    restorable = originals.restorable(plan.name)
    claimed = originals.claimed(plan.name)
    for device in sorted(underlay.two_ways(plan, node, host)):
        key = f"net.ipv4.conf.{device.replace('.', '/')}.rp_filter"
        have = {phases.RP_FILTER: "0", key: "0", **eyes.read_sysctls([phases.RP_FILTER, key])}
        have.update((one, restorable[one]) for one in [phases.RP_FILTER] if one in restorable)
        if key in claimed or max(have.values()) == "1":
            final.sysctls[key] = "2"
    return restorable


def _is_strict(links: Sequence[dict[str, Any]]) -> bool:
    """Whether any device has a strict rp_filter: the kernel uses the maximum of `all` and its own.

    `default` counts, too: devices that are made in a switch get it.
    """
    keys = [phases.RP_FILTER, "net.ipv4.conf.default.rp_filter"] + [
        f"net.ipv4.conf.{link['ifname'].replace('.', '/')}.rp_filter" for link in links
    ]
    return "1" in eyes.read_sysctls(keys).values()


def _add_ports(
    plan: Plan,
    node: Node,
    known: Record | None,
    before: State,
    final: State,
    *,
    links: list[dict[str, Any]],
) -> None:
    """Set the MTU that running pods must have in `final.ports`.

    Pods whose MTU is the bridge's, now or by the record, and pods with a larger one than the
    bridge will have, get the bridge's new MTU. Others keep theirs.
    """
    mtu = final.links[plan.bridge].mtu
    if known:
        before.ports.update(pods.strays(links, (node.subnet, node.subnet6)))
    bridge = before.links.get(plan.bridge)
    followed = {bridge.mtu if bridge else 0, known.pod_mtu if known else 0, mtu}
    moving = followed - {0} != {mtu} or (known is not None and known.phase != DONE)
    if moving or any(port.mtu > mtu for port in before.ports.values()):
        before.ports = pods.with_inner_ends(before.ports, links)

    def follow(have: int) -> int:
        return mtu if have > mtu or have in followed else have

    final.ports = {
        name: port._replace(mtu=follow(port.mtu), inner_mtu=follow(port.inner_mtu), stray=False)
        for name, port in before.ports.items()
    }

"""Faults put into the real core, each of which the exhaustive test must find.

A mutant is named by what it does, and says in which case it shows and with which words.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from unittest import mock

from podnet.core.state import Change, State
from podnet.host import converge, target
from podnet.keep import boot
from podnet.state import diff, phases

Changes = list[Change]


class Mutant(NamedTuple):
    """A fault: `patches` are (module, name, what stands there); `story` must be in what is found."""

    case: str
    patches: tuple[tuple[Any, str, Any], ...]
    story: tuple[str, ...]
    barriers: bool = True


_changes, _target, _render = diff.changes, phases.target, boot.render


def _is(change: Change, *begins: str) -> bool:
    return change.lines[:1] != () and change.lines[0].startswith(begins)


def _reordered(late: Callable[[Change], bool]) -> Callable[[State, State], Changes]:
    """Return a `changes` that does those for which `late` holds after all others of the kernel."""

    def mutant(before: State, after: State) -> Changes:
        todo = _changes(before, after)
        files = [one for one in todo if one.tool in ("file", "boot")]
        rest = [one for one in todo if one not in files]
        return [
            *(one for one in rest if not late(one)),
            *(one for one in rest if late(one)),
            *files,
        ]

    return mutant


def _delete_first(before: State, after: State) -> Changes:
    """Take a route away before the one that replaces it is there."""
    result = []
    for one in _changes(before, after):
        if _is(one, "route replace") and one.before:
            line = f"route del {one.lines[0].split()[2]}"
            result.append(Change("ip", (line,), one.before, ""))
        result.append(one)
    return result


def _strict_all_along(before: State, final: State, phase: str, *rest: Any, **more: Any) -> State:
    """Leave rp_filter as it is."""
    result = _target(before, final, phase, *rest, **more)
    result.sysctls.pop(phases.RP_FILTER, None)
    return result


def _larger_at_once(before: State, final: State, phase: str, *rest: Any, **more: Any) -> State:
    """Raise MTUs in prepare."""
    result = _target(before, final, phase, *rest, **more)
    result.ports = dict(final.ports)
    for name, link in final.links.items():
        if name in result.links:
            result.links[name] = result.links[name]._replace(mtu=link.mtu)
    return result


def _smaller_late(before: State, final: State, phase: str, *rest: Any, **more: Any) -> State:
    """Lower the pods' MTU only in commit."""
    result = _target(before, final, phase, *rest, **more)
    if phase in (phases.PREPARE, phases.SHIFT):
        result.ports = dict(before.ports)
        for name, link in before.links.items():
            if link.kind == "bridge" and name in result.links:
                result.links[name] = result.links[name]._replace(mtu=link.mtu)
    return result


def _routes_in_prepare(before: State, final: State, phase: str, *rest: Any, **more: Any) -> State:
    """Move the routes a phase too early."""
    return _target(before, final, phases.SHIFT if phase == phases.PREPARE else phase, *rest, **more)


def _commit_in_shift(before: State, final: State, phase: str, *rest: Any, **more: Any) -> State:
    """Remove the old way a phase too early."""
    return _target(before, final, phases.COMMIT if phase == phases.SHIFT else phase, *rest, **more)


def _source_at_once(before: State, final: State, phase: str, *rest: Any, late: bool) -> State:
    """Let packets come from a new address before all peers know it."""
    del late
    return _target(before, final, phase, *rest)


def _forget(_before: State, _result: State) -> None:
    """Let a guard know the addresses of the end alone."""


def _one_mac(_alias: str, _device: str, _old: str, _new: str) -> dict[str, Any]:
    """Do not let the device take both MACs."""
    return {}


def _final_boot(seen: Any, phase: str) -> State:
    """Write the boot files of the end already in prepare."""
    after = _network_target(seen, phase)
    after.boot = _network_target(seen, phases.COMMIT).boot
    return after


_network_target = target.target


def _without_peers(state: State) -> Mapping[str, str]:
    """Forget the FDB in the boot files."""
    return {**_render(state), "fdb.batch": ""}


def _short_record(seen: Any, after: State) -> list[str]:
    """Note only the devices of the end."""
    del seen
    return sorted(after.links)


def _both(name: str, stand_in: Any, *modules: Any) -> tuple[tuple[Any, str, Any], ...]:
    return tuple((module, name, stand_in) for module in modules)


def _ordered(late: Callable[[Change], bool]) -> tuple[tuple[Any, str, Any], ...]:
    return _both("changes", _reordered(late), diff, converge, target)


MUTANTS: dict[str, Mutant] = {
    "no barrier between phases": Mutant(
        *("VXLAN to host-gw", (), ("a packet of 84 bytes", "drops it")), barriers=False
    ),
    "a route is deleted before it is added": Mutant(
        "VXLAN to host-gw",
        _both("changes", _delete_first, diff, converge, target),
        ("in shift of", "ip route del 10.244.", "drops it"),
    ),
    "neighbours after the routes that use them": Mutant(
        "another MAC of n3",
        _ordered(lambda one: _is(one, "neigh replace")),
        ("no neighbour 10.244.", "drops it"),
    ),
    "rp_filter stays strict": Mutant(
        "VXLAN to host-gw",
        _both("target", _strict_all_along, phases),
        ("in shift of", "drops it: rp_filter 1 of"),
    ),
    "a larger MTU before all hosts are done": Mutant(
        "VXLAN to host-gw",
        _both("target", _larger_at_once, phases),
        ("a packet of 1500 bytes", "in prepare of", "do not fit into flannel.1"),
    ),
    "a smaller MTU only in commit": Mutant(
        "host-gw to VXLAN",
        _both("target", _smaller_late, phases),
        ("a packet of 1500 bytes", "shift of", "do not fit into flannel.1"),
    ),
    "routes move in prepare": Mutant(
        "host-gw to VXLAN",
        _both("target", _routes_in_prepare, phases),
        ("in prepare of", "drops it"),
    ),
    "the old way goes in shift": Mutant(
        "VXLAN to host-gw",
        _both("target", _commit_in_shift, phases),
        ("in shift of", "drops it"),
    ),
    "boot files written early": Mutant(
        "VXLAN to host-gw",
        _both("target", _final_boot, target, converge),
        ("up again after a reboot", "in prepare of", "drops it"),
    ),
    "boot files without FDB": Mutant(
        "direct routing to VXLAN",
        ((boot, "render", _without_peers),),
        ("up again after a reboot", "FDB of flannel.1 has 0 entries"),
    ),
    "one MAC at a time": Mutant(
        "another MAC of n3",
        ((phases, "both_macs", _one_mac),),
        ("n3 drops it: flannel.1 has the MAC",),
    ),
    "packets from a new address too early": Mutant(
        "another address of n3",
        _both("target", _source_at_once, phases),
        ("in prepare of", "drops it: the guard drops what comes from 192.0.2.23"),
    ),
    "a guard that forgets the old address too early": Mutant(
        "another address of n3",
        ((phases, "_keep_guard", _forget),),
        ("in prepare of", "drops it: the guard drops what comes from 192.0.2.13"),
    ),
    "a record that forgets the devices of before": Mutant(
        "another port",
        ((converge, "devices", _short_record),),
        ("is not what a bootstrap makes", "podnet-old0"),
    ),
    "the bridge's MTU changes with the other devices": Mutant(
        "a smaller MTU",
        (*_ordered(lambda one: _is(one, "link set dev cni0 mtu")),),
        ("a packet of 1450 bytes", "do not fit through veth0"),
    ),
}


@contextlib.contextmanager
def planted(patches: Sequence[tuple[Any, str, Any]]) -> Iterator[None]:
    """Let a mutant stand in the core for a while."""
    with contextlib.ExitStack() as stack:
        for module, name, stand_in in patches:
            stack.enter_context(mock.patch.object(module, name, stand_in))
        yield

"""What each kind of case yields: a folder in, the content of its expected files out.

cases/KIND/CASE holds the input of the kind and what must come of it; docs of the files stand at
each function here. `tools/case.py KIND/CASE` prints what a case yields now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from podnet.backends.base import peers
from podnet.backends.document import plan_from_text
from podnet.backends.registry import BACKENDS
from podnet.core.errors import PodnetError
from podnet.core.host_view import (
    HostView,
    direct_device,
    narrowest,
    notes,
    problems,
    silent,
    two_ways,
)
from podnet.core.model import Plan
from podnet.core.state import BRIDGE, State
from podnet.plan import plan_run
from podnet.run import course
from podnet.state import phases
from podnet.state.desire import desired, own_node
from podnet.state.diff import changes

from tests.unit import states

CASES = Path(__file__).parent / "cases"


class Kind(NamedTuple):
    """`needs` are the input files, `may` further ones that a case may do without."""

    walk: Callable[[Path], dict[str, Any]]
    needs: tuple[str, ...]
    may: tuple[str, ...] = ()


def diff(folder: Path) -> dict[str, Any]:
    """current.yml, desired.yml (states; "absent" is the empty one) -> changes.yml, revert.yml.

    `revert` is what a rollback does: the same call with the arguments exchanged. shown.txt, where
    it is there, is what a check prints of the changes.
    """
    current, desired = _state(folder / "current.yml"), _state(folder / "desired.yml")
    todo = changes(current, desired)
    # Who is there has nothing to do, however he came there.
    assert changes(current, current) == []
    assert changes(desired, desired) == []
    return {
        "changes.yml": states.lines(todo),
        "revert.yml": states.lines(changes(desired, current)),
        "shown.txt": states.shown(todo),
    }


def phase(folder: Path) -> dict[str, Any]:
    """current.yml, final.yml (states), host.yml (strict, held, late) -> phases.yml, all.yml.

    phases.yml has the commands of prepare, shift and commit, each from the state that the one
    before it has led to; all.yml those of a change without barriers.
    """
    current, final = _state(folder / "current.yml"), _state(folder / "final.yml")
    host = states.read(folder / "host.yml") if (folder / "host.yml").exists() else {}
    assert host.keys() <= {"strict", "held", "late"}, host
    strict, held = host.get("strict") == "true", host.get("held", "")
    late = host.get("late") == "true"
    result = {}
    before, wanted = current, final
    for name in phases.PHASES[:3]:
        after = phases.target(before, wanted, name, strict, held, late=late)
        result[name] = states.lines(changes(before, after))
        # A run that comes again in this phase has nothing to do.
        seen = _seen_again(after, current, final)
        again = phases.target(after, seen, name, False, held, late=late)
        assert states.lines(changes(after, again)) == [], name
        before, wanted, strict = after, _seen_again(after, current, final), False
    assert changes(before, final) == []
    everything = changes(current, phases.target(current, final, phases.ALL, False, held))
    return {"phases.yml": result, "all.yml": states.lines(everything)}


def _seen_again(reached: State, current: State, final: State) -> State:
    """Return what a look in a later phase wants: renamed devices are known by their names now,
    and what an earlier phase has set for a while goes back.
    """
    wanted = final.copy()
    wanted.links = {name: link._replace(ifindex=0) for name, link in final.links.items()}
    for key in (reached.sysctls.keys() - final.sysctls.keys()) & current.sysctls.keys():
        wanted.sysctls[key] = current.sysctls[key]
    return wanted


def road(folder: Path) -> dict[str, Any]:
    """looked.yml (the arguments of course.decide; `ended` are runs that have ended) -> expected.yml.

    looked.yml has the types that Ansible's results have; expected.yml leaves out what is empty.
    """
    given = yaml.safe_load((folder / "looked.yml").read_text())
    ended = given.pop("ended", [])
    decided = course.decide(
        given.pop("nodes"),
        given.pop("looked"),
        given.pop("limited", False),
        given.pop("forced", False),
        lambda run, _idle: run in ended,
        objections=given.pop("objections", []),
        alone=given.pop("alone", False),
    )
    assert given == {}
    return {"expected.yml": {key: one for key, one in decided._asdict().items() if one}}


def want(folder: Path) -> dict[str, Any]:
    """inventory.yml (as in cases/plan), host.yml -> expected.yml (a state) or error.txt.

    host.yml is the host's view of the underlay, host.Host, and `node`, its name in the plan; a
    `backend` there goes before the plan's, where the planner would refuse what a host must, too.
    """
    plan, name, host, _ = _situation(folder)
    try:
        node, backend = own_node(plan, name), BACKENDS[plan.backend]
        wanted = desired(plan, node, host)
        # By these its peers and a look at the host know the backend's devices.
        own = {device: link for device, link in wanted.links.items() if link.kind != BRIDGE}
        assert own.keys() == backend.own_devices(plan).keys()
        assert {link.mac for link in own.values()} - {""} == {backend.mac(plan, node)} - {""}
        return {"expected.yml": states.describe(wanted)}
    except PodnetError as error:
        return {"error.txt": f"{error}\n"}


def underlay(folder: Path) -> dict[str, Any]:
    """inventory.yml, host.yml as for desire, with `podnets` -> expected.yml.

    `direct` are the peers that are reached without a router, by family; `narrowest` the way with
    the smallest MTU. `problems` stop a run and `backend` does, too; `notes` are told, and `silent`
    devices. Packets may come in by the devices of `two_ways` though replies go out by another.
    """
    plan, name, host, podnets = _situation(folder)
    node = own_node(plan, name)
    direct = {
        peer.name: {
            str(family): device
            for family in (4, 6)
            if (device := direct_device(plan, node, peer, host, family))
        }
        for peer in peers(plan, node)
    }
    result = {
        "devices": host.devices(),
        "direct": direct,
        "narrowest": {
            str(family): states.plain(narrowest(plan, node, host, family))
            for family in host.underlay
        },
        "problems": problems(plan, node, host, podnets),
        "backend": BACKENDS[plan.backend].problems(plan, node, host),
        "notes": notes(plan, node, host),
        "silent": silent(node, host, desired(plan, node, host).routes) if host.unlinked else [],
        "two_ways": sorted(two_ways(plan, node, host)),
    }
    return {"expected.yml": {key: one for key, one in result.items() if one}}


def _situation(folder: Path) -> tuple[Plan, str, HostView, set[str]]:
    """Return the plan, the host's name in it, its view of the underlay, and podnet's devices."""
    inventory = yaml.safe_load((folder / "inventory.yml").read_text())
    hosts = [
        {"name": name, "inventory_dir": "/nowhere"} | inventory.get("vars", {}) | (own or {})
        for name, own in inventory["hosts"].items()
    ]
    keys = inventory.get("keys", {})
    plan = plan_from_text(plan_run.run(hosts, write=False, keys=keys)["document"])
    data = dict(states.read(folder / "host.yml"))
    name, podnets = data.pop("node"), set(data.pop("podnets", []))
    plan = replace(plan, backend=data.pop("backend", plan.backend))
    return plan, name, states.value(HostView, data, "host"), podnets


def _state(path: Path) -> State:
    data = states.read(path)
    return State() if data == "absent" else states.state(data)


KINDS = {
    "diff": Kind(diff, ("current.yml", "desired.yml", "changes.yml", "revert.yml"), ("shown.txt",)),
    "desire": Kind(want, ("inventory.yml", "host.yml"), ("expected.yml", "error.txt")),
    "underlay": Kind(underlay, ("inventory.yml", "host.yml", "expected.yml")),
    "course": Kind(road, ("looked.yml", "expected.yml")),
    "phases": Kind(phase, ("current.yml", "final.yml", "phases.yml"), ("host.yml", "all.yml")),
}


def cases() -> list[str]:
    """Return every case as KIND/CASE."""
    return [f"{kind}/{path.name}" for kind in KINDS for path in sorted((CASES / kind).iterdir())]


def check(case: str) -> None:
    """Hold what a case yields against what its folder says."""
    kind = KINDS[case.partition("/")[0]]
    folder = CASES / case
    there = {path.name for path in folder.iterdir()}
    assert set(kind.needs) <= there <= {*kind.needs, *kind.may}, sorted(there)
    actual = kind.walk(folder)
    assert actual.keys() & there
    for name in sorted(actual.keys() & there):
        said = f"{case}/{name}; if the new one is right: python tools/case.py --keep {case}"
        if name.endswith(".yml"):
            assert states.as_text(actual[name]) == states.read(folder / name), said
        else:
            assert actual[name] == (folder / name).read_text(), said


def results(case: str) -> dict[str, str]:
    """Return the content of a case's expected files as the code has it now."""
    kind = KINDS[case.partition("/")[0]]
    return {
        name: states.write(data) if name.endswith(".yml") else data
        for name, data in kind.walk(CASES / case).items()
    }


def show(case: str) -> str:
    """Return all that a case yields, for people."""
    return "\n".join(f"# {name}\n{text}" for name, text in results(case).items())


def keep(case: str) -> None:
    """Write what a case yields into the files that it needs or that are there."""
    kind, folder = KINDS[case.partition("/")[0]], CASES / case
    yielded = results(case)
    for name, text in yielded.items():
        if name in kind.needs or (folder / name).exists() or len(yielded) == 1:
            (folder / name).write_text(text)

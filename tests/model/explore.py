"""Go through every state that three hosts can be in together during a change.

Barriers are all that ties hosts to each other. So for each stretch between two of them it is enough
to know all states of each host: any of one may meet any of another, however the steps interleave
and however many hosts something befell. From wherever the run may have stopped, a following run
leads on, or back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from podnet.core.model import Plan
from podnet.run import course
from podnet.state import phases

from . import machine, network
from .alone import Alone, Case, Counterexample, Reached, Stretch, Where
from .kernel import Device
from .machine import Snapshot
from .meetings import Figures, Meetings

SWITCH = (phases.PREPARE, phases.SHIFT, phases.COMMIT)

States = Mapping[str, Iterable[Snapshot]]


@dataclass
class Explorer:
    """All states of one case. `barriers` False lets hosts run through phases on their own."""

    case: Case
    barriers: bool = True
    alone: Alone = field(init=False)
    meetings: Meetings = field(init=False)
    _looked: dict[object, tuple[int, bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin with nothing known."""
        self.alone, self.meetings = Alone(self.case), Meetings(self.case)

    def explore(self) -> Figures:
        """Go through the change with all that may befall it, and a following run from anywhere.

        Raises Counterexample.
        """
        case = self.case
        start = {node: [one] for node, one in self.alone.fresh(case.before).items()}
        for where, live in self.run(start, case.after, f"the run to {case.name}", True):
            for plan, way in ((case.after, "to the end"), (case.before, "back")):
                begin = {
                    node: [one for one in those if one.wire not in self.meetings.waiting]
                    for node, those in live.items()
                    if node in plan.nodes
                }
                self.run(begin, plan, f"a run {way} after {where}", False)
        self.meetings.figures.calls = self.alone.calls
        return self.meetings.figures

    def run(
        self, begin: States, plan: Plan, said: str, faults: bool
    ) -> list[tuple[str, dict[str, Reached]]]:
        """Let a run of site.yml go through; return (where, all states) of its stretches.

        The hosts begin in any of the given states. Each of the courses that `course.decide` takes
        on what the real look says of them is taken.
        """
        found: list[tuple[str, dict[str, Reached]]] = []
        for mode, those in self._courses(begin, plan).items():
            waiting: States = those
            together: dict[str, Reached] = {node: {} for node in those}
            for phase in SWITCH if mode == course.SWITCH else (phases.ALL,):
                where = f"{phase} of {said}" if mode == course.SWITCH else f"{said}"
                live, waiting = self._stretch(waiting, Stretch(plan, phase, where, faults))
                self.meetings.meet(live, self.case.members, plan)
                found.append((where, live))
                for node, reached in live.items():
                    together[node].update(reached)
            if not self.barriers:
                self.meetings.meet(together, self.case.members, plan)
            self._finish(waiting, plan, said)
        return found

    def _courses(self, begin: States, plan: Plan) -> dict[str, dict[str, list[Snapshot]]]:
        """Return course -> host -> the states from which hosts may take it together."""
        steady: dict[str, list[Snapshot]] = {}
        switching: list[str] = []
        for node, those in begin.items():
            steady[node] = []
            for one in those:
                if node in plan.nodes and self._look(one, plan, node)[1]:
                    switching.append(node)
                else:
                    steady[node].append(one)
        courses: dict[str, dict[str, list[Snapshot]]] = {}
        if all(steady.values()):
            courses[_decide(list(plan.nodes), [])] = steady
        if switching:
            everybody = {node: list(those) for node, those in begin.items()}
            courses[_decide(list(plan.nodes), switching[:1])] = everybody
        return courses

    def _look(self, one: Snapshot, plan: Plan, node: str) -> tuple[int, bool]:
        key = one, id(plan), node
        if key not in self._looked:
            self._looked[key] = machine.pending(one, plan, node)
        return self._looked[key]

    def _stretch(
        self, begin: States, stretch: Stretch
    ) -> tuple[dict[str, Reached], dict[str, list[Snapshot]]]:
        """Let all hosts go through a stretch; return (all their states, those at its end)."""
        live, ends = {}, {}
        for node, those in begin.items():
            live[node], ends[node] = self.alone.reach(node, those, stretch)
        return live, ends

    def _finish(self, ends: States, plan: Plan, said: str) -> None:
        """Demand that hosts are what a bootstrap makes, and reach all others."""
        fresh = self.alone.fresh(plan)
        live: dict[str, Reached] = {}
        for node, those in ends.items():
            if node not in plan.nodes:
                continue
            live[node] = {
                network.attach_pod(one, plan.bridge): Where(f"after {said}") for one in those
            }
            for one in live[node]:
                wrong = differences(fresh[node], one)
                if wrong:
                    raise Counterexample(
                        f"{self.case.name}: after {said} {node} is not what a bootstrap makes:\n  "
                        + "\n  ".join(wrong[:6])
                    )
                if self._look(one, plan, node)[0]:
                    raise Counterexample(f"{self.case.name}: after {said} {node} has more to do")
        self.meetings.meet(live, list(live), plan, strict=True)


def _decide(nodes: Sequence[str], switching: Sequence[str]) -> str:
    """Return the course that the core takes when these hosts must switch."""
    looked = {
        node: {"pending": {"switching": node in switching, "total": 1, "endpoints": 0, "cni": 0}}
        for node in nodes
    }
    return course.decide(nodes, looked, limited=False, forced=False).mode


def differences(wanted: Snapshot, found: Snapshot) -> list[str]:
    """Return in what a host differs from another one, less the numbers of devices."""
    lines: list[str] = []
    for name, value in vars(wanted.kernel).items():
        pair = value, getattr(found.kernel, name)
        if name == "devices":
            pair = _unnumbered(pair[0]), _unnumbered(pair[1])
        if isinstance(value, dict):
            lines += _differing(name, *pair)
    lines += _differing("file", wanted.files, found.files)
    lines += _differing("boot file", wanted.boot, found.boot)
    if found.armed:
        lines.append("a rollback is armed")
    return lines


def _unnumbered(devices: Mapping[str, Device]) -> dict[str, Device]:
    return {name: device._replace(number=0) for name, device in devices.items()}


def _differing(what: str, one: Mapping[Any, Any], other: Mapping[Any, Any]) -> list[str]:
    return [
        f"{what} {key}: wanted {one.get(key)!r}, found {other.get(key)!r}"
        for key in {**one, **other}
        if one.get(key) != other.get(key)
    ]

"""What one host does in a stretch between two barriers, with all that may befall it there.

What a host does depends on its own state alone: it goes through the steps of the real core. It may
fail at any of them and undo what it did, stay where it is after any, reboot after any and come back
with the boot files that lie there just then, or have its timed rollback run out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from podnet.core.model import Plan
from podnet.state import phases

from . import machine, network
from .delivery import Underlay
from .machine import Snapshot, Walk


class Counterexample(AssertionError):
    """A packet that is lost in a state that can be reached, as a story."""


@dataclass
class Case:
    """A change from `before` to `after`; `bare` are the hosts right after their first boot.

    `client` is where the SSH sessions come from.
    """

    name: str
    before: Plan
    after: Plan
    bare: Mapping[str, Snapshot]
    net: Underlay
    client: str = ""

    @property
    def members(self) -> list[str]:
        """The nodes of both plans, whose pods must always reach each other."""
        return [name for name in self.before.nodes if name in self.after.nodes]


class Stretch(NamedTuple):
    """A phase of a run, in words `said`; with `faults` everything may happen to hosts in it."""

    plan: Plan
    phase: str
    said: str
    faults: bool


class Where(NamedTuple):
    """How a state was reached. `passing`: a command of many lines, or an undoing, goes on."""

    text: str
    passing: bool = False


#: A host's states in one stretch, and how each was reached first.
Reached = dict[Snapshot, Where]


@dataclass
class Alone:
    """What single hosts of a case do; each call of the core is made once."""

    case: Case
    calls: int = 0
    _walks: dict[object, Walk] = field(default_factory=dict)

    def change(
        self,
        begin: Snapshot,
        node: str,
        stretch: Stretch,
        *,
        fails_at: int = 0,
        confirming: bool = False,
    ) -> Walk:
        """Return what a call on a host does."""
        key = begin, id(stretch.plan), node, stretch.phase, fails_at, confirming
        if key not in self._walks:
            self._walks[key] = machine.change(
                *(begin, stretch.plan, node, stretch.phase),
                fails_at=fails_at,
                client=self.case.client,
                confirming=confirming,
            )
            self.calls += 1
        return self._walks[key]

    def boot(self, begin: Snapshot, node: str, bridge: str) -> Walk:
        """Return what a host is after a reboot, with the boot files that lie there."""
        key = "boot", frozenset(begin.boot.items()), frozenset(begin.files.items()), node
        if key not in self._walks:
            fresh = self.case.bare[node].kernel
            self._walks[key] = network.replayed(begin, fresh, bridge)
        return self._walks[key]

    def fresh(self, plan: Plan) -> dict[str, Snapshot]:
        """Return the hosts after a bootstrap, each with a pod."""
        made = {}
        for node, begin in self.case.bare.items():
            if node not in plan.nodes:
                made[node] = begin
                continue
            walk = machine.change(begin, plan, node, phases.ALL)
            assert not walk.error, walk.error
            made[node] = network.attach_pod(walk.end, plan.bridge)
        return made

    def reach(
        self, node: str, begin: Iterable[Snapshot], stretch: Stretch
    ) -> tuple[Reached, list[Snapshot]]:
        """Return (all states of a host in a stretch, those at its end)."""
        live: Reached = {}
        ends: list[Snapshot] = []
        for one in begin:
            live.setdefault(one, Where(f"before {stretch.said}"))
            if node in stretch.plan.nodes:
                end = self._undisturbed(live, node, one, stretch)
                ends.append(end)
                if stretch.faults:
                    self._faults(live, node, one, stretch)
                    # One that reboots between its phases is met again by the run.
                    ends.append(self.boot(end, node, stretch.plan.bridge).end)
        return live, list(dict.fromkeys(ends))

    def _undisturbed(self, live: Reached, node: str, begin: Snapshot, stretch: Stretch) -> Snapshot:
        walk = self.change(begin, node, stretch)
        if walk.error:
            raise Counterexample(f"{self.case.name}: {stretch.said} on {node}: {walk.error}")
        note(live, walk, stretch.said)
        if not walk.armed:
            return walk.end
        done = self.change(walk.end, node, stretch, confirming=True)
        if done.error:
            raise Counterexample(f"{self.case.name}: confirming {stretch.said}: {done.error}")
        note(live, done, f"confirming {stretch.said}")
        return done.end

    def _faults(self, live: Reached, node: str, begin: Snapshot, stretch: Stretch) -> None:
        walk = self.change(begin, node, stretch)
        for number in range(1, len(walk.steps) + 1):
            failed = self.change(begin, node, stretch, fails_at=number)
            if failed.error:
                said = f"{stretch.said}, whose step {number} failed"
                note(live, failed, said, undoing=True)
        for one, where in list(live.items()):
            if one.armed:
                said = f"the timed rollback, begun when the host was {where.text}"
                note(live, network.rolled_back(one), said)
        for one, where in list(live.items()):
            booted = self.boot(one, node, stretch.plan.bridge)
            if booted.error:
                raise Counterexample(
                    f"{self.case.name}: {node}, {where.text}, reboots and cannot replay its files: "
                    f"{booted.error}"
                )
            _add(live, booted.end, Where(f"up again after a reboot {where.text}"))


def note(live: Reached, walk: Walk, said: str, undoing: bool = False) -> None:
    """Add the states of a walk."""
    count = len(walk.steps)
    for number, step in enumerate(walk.steps, 1):
        text = f"in {said}, after step {number} of {count}: {step.text}"
        _add(live, step.after, Where(text, step.passing or (undoing and number < count)))


def _add(live: Reached, one: Snapshot, where: Where) -> None:
    """Note a state; one in which a host may stay counts more than one that it only passes."""
    if one not in live or (live[one].passing and not where.passing):
        live[one] = where

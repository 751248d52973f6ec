"""Let hosts meet: send packets between any state of one and any state of another.

A packet between two hosts depends on the states of these two alone: no third one forwards it. What
leaves the one is a frame, and few different frames leave a host in all its states; so each frame
meets each state of the other host, and that is every meeting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from podnet.core.model import Plan

from . import network
from .alone import Case, Counterexample, Reached
from .delivery import Frame, Lost, receive, send
from .machine import Snapshot

#: Bytes of an ordinary ping's packet, IP header included.
SMALL = 84


@dataclass
class Figures:
    """What was gone through. `states`: of single hosts; `meetings`: pairs of them, by direction.

    `told`: meetings in which the sender heard that the other's pods take smaller packets.
    """

    calls: int = 0
    states: int = 0
    meetings: int = 0
    deliveries: int = 0
    computed: int = 0
    told: int = 0

    def add(self, other: Figures) -> None:
        """Add those of another case."""
        for key, value in vars(other).items():
            setattr(self, key, getattr(self, key) + value)

    def __str__(self) -> str:
        """Return them on one line."""
        return (
            f"{self.calls:,} calls of the core, {self.states:,} states of hosts, "
            f"{self.meetings:,} meetings of two, {self.deliveries:,} deliveries "
            f"({self.computed:,} computed, {self.told:,} told to send less)"
        )


@dataclass
class Meetings:
    """Who reaches whom in one case.

    `waiting` are the states (Snapshot.wire) in which packets wait for a neighbour that the command
    under way sets next; the kernel queues them (neigh_resolve_output). Nobody begins there.
    """

    case: Case
    figures: Figures = field(default_factory=Figures)
    waiting: set[int] = field(default_factory=set)
    _frames: dict[object, Frame | Lost] = field(default_factory=dict)
    _received: dict[object, Lost | None] = field(default_factory=dict)

    def meet(
        self, live: Mapping[str, Reached], nodes: Sequence[str], plan: Plan, strict: bool = False
    ) -> None:
        """Send from each of `nodes` to each other one, in all states of both.

        Unless `strict`, a host whose pods have a smaller MTU may say so to the sender: it happens
        only while the two hosts' MTUs differ. Raises Counterexample.
        """
        self.figures.states += sum(len(those) for those in live.values())
        for source in nodes:
            for target in nodes:
                if source != target:
                    one, other = plan.nodes[source], plan.nodes[target]
                    for here, there in ((one.subnet, other.subnet), (one.subnet6, other.subnet6)):
                        if here:
                            ends = network.pod_address(here), network.pod_address(there)
                            self._pair(live, (source, target), plan.bridge, ends, strict)

    def _pair(
        self,
        live: Mapping[str, Reached],
        names: tuple[str, str],
        bridge: str,
        ends: tuple[str, str],
        strict: bool,
    ) -> None:
        senders, receivers = (_on_the_wire(live[name]) for name in names)
        self.figures.meetings += len(senders) * len(receivers)
        self.figures.deliveries += 2 * len(senders) * len(receivers)
        frames: dict[Frame, Snapshot] = {}
        for each in senders:
            for size in (SMALL, _pods_mtu(each)):
                frame = self._send(each, bridge, ends, size)
                if isinstance(frame, Frame) and not frame.pieces:
                    frames.setdefault(frame, each)
                elif isinstance(frame, Frame):
                    raise self._story(live, names, (each, None), frame, None)
                elif frame.waits and live[names[0]][each].passing:
                    self.waiting.add(each.wire)
                else:
                    raise self._story(live, names, (each, None), size, frame)
        for frame, each in frames.items():
            for other in receivers:
                lost = self._receive(other, bridge, frame)
                if lost and lost.told and not strict:
                    self.figures.told += 1
                elif lost:
                    raise self._story(live, names, (each, other), frame, lost)

    def _send(self, one: Snapshot, bridge: str, ends: tuple[str, str], size: int) -> Frame | Lost:
        key = one.wire, bridge, ends, size
        if key not in self._frames:
            self._frames[key] = send(one.kernel, bridge, ends, size, self.case.net)
            self.figures.computed += 1
        return self._frames[key]

    def _receive(self, one: Snapshot, bridge: str, frame: Frame) -> Lost | None:
        key = one.wire, bridge, frame
        if key not in self._received:
            self._received[key] = receive(one.kernel, bridge, frame)
            self.figures.computed += 1
        return self._received[key]

    def _story(
        self,
        live: Mapping[str, Reached],
        names: tuple[str, str],
        ends: tuple[Snapshot, Snapshot | None],
        sent: Frame | int,
        lost: Lost | None,
    ) -> Counterexample:
        (source, target), (sender, receiver) = names, ends
        size = sent.size if isinstance(sent, Frame) else sent
        lines = [
            f"{self.case.name}: a packet of {size} bytes from a pod on {source} to one on {target} "
            "is lost.",
            f"  {source} is {live[source][sender].text}.",
        ]
        if receiver is not None:
            lines.append(f"  {target} is {live[target][receiver].text}.")
        if isinstance(sent, Frame):
            lines.append(f"  {source} {sent}{', in pieces' if sent.pieces else ''}.")
        if lost is not None:
            lines.append(f"  {source if receiver is None else target} drops it: {lost.why}.")
        return Counterexample("\n".join(lines))


def _pods_mtu(one: Snapshot) -> int:
    return min((pod.mtu for pod in one.kernel.pods.values()), default=SMALL)


def _on_the_wire(reached: Reached) -> list[Snapshot]:
    """Return one state for all that are alike to packets, one to stay in where there is one."""
    found: dict[int, Snapshot] = {}
    for one, where in reached.items():
        known = found.get(one.wire)
        if known is None or (reached[known].passing and not where.passing):
            found[one.wire] = one
    return list(found.values())

"""What the watchers saw, judged: a pure function of their results.

Lost pings and broken connections always count. A stream that stood still counts only for as long
as neither end's watcher was kept from running and the same two hosts' stream over the underlay
went on: what is left out so is said in the report as a hiccup of the machine.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Seconds that a stream may stand still.
STALL = 0.25

UNDERLAY = "host"

Interval = tuple[float, float]


@dataclass
class Pair:
    """What one end saw of another, over one family. Times are seconds of the wall clock."""

    source: str
    target: str
    family: int
    sent: int = 0
    lost: int = 0
    lost_at: list[float] = field(default_factory=list)
    refusal: str = ""
    worst: float = 0.0
    stream: bool = False
    received: int = 0
    resets: list[tuple[float, str]] = field(default_factory=list)
    stall: float = 0.0
    stall_at: float = 0.0
    hiccup: float = 0.0

    @property
    def _name(self) -> str:
        return f"{self.source} -> {self.target} IPv{self.family}"

    @property
    def losses(self) -> list[str]:
        """What was lost, in words."""
        name = self._name
        said = []
        if self.lost:
            first, last = self.lost_at[0], self.lost_at[-1]
            said.append(
                f"{name}: {self.lost} of {self.sent} pings lost from {clock(first)} to "
                f"{clock(last)} ({last - first:.3f} s)"
                + (f"; {self.refusal}" if self.refusal else "")
            )
        elif not self.sent and not self.stream:
            said.append(f"{name}: nothing was sent")
        if self.resets:
            at, why = self.resets[0]
            said.append(f"{name}: connection broken {len(self.resets)}x, at {clock(at)}: {why}")
        return said

    @property
    def failures(self) -> list[str]:
        """What is wrong with the pair, in words."""
        name = self._name
        said = self.losses
        if self.stall > STALL:
            said.append(
                f"{name}: stream stood still {self.stall * 1000:.0f} ms at {clock(self.stall_at)}"
            )
        if self.stream and not self.received:
            said.append(f"{name}: stream carried nothing")
        return said


@dataclass
class Report:
    """All pairs, and what keeps the watch from being trusted."""

    pairs: list[Pair]
    troubles: list[str] = field(default_factory=list)
    longest_lag: float = 0.0

    @property
    def failures(self) -> list[str]:
        """All that went wrong, the watch itself included; empty if nothing did."""
        return [*self.troubles, *(line for pair in self.pairs for line in pair.failures)]

    def demand_none_lost(self, what: str) -> None:
        """Fail, saying after `what`, if a ping or a connection was lost.

        A stream may have stood still: where a program does a kernel's work, or emulates a
        processor, it shares the CPU with all else.
        """
        lost = [*self.troubles, *(line for pair in self.pairs for line in pair.losses)]
        assert not lost, f"{what}: {'; '.join(lost)}\n{self.table()}"

    def between(self, source: str, target: str) -> list[Pair]:
        """Return the pairs from one host to another, whatever their pods."""
        return [
            pair
            for pair in self.pairs
            if pair.source.startswith(f"{source}/") and pair.target.startswith(f"{target}/")
        ]

    def table(self) -> str:
        """Return the report as lines that a person can read."""
        rows = [("from", "to", "IP", "pings", "lost", "worst ms", "resets", "stall ms", "hiccup")]
        for pair in self.pairs:
            stream = (
                (len(pair.resets), f"{pair.stall * 1000:.0f}", f"{pair.hiccup * 1000:.0f}")
                if pair.stream
                else ("-", "-", "-")
            )
            rows.append(
                tuple(
                    map(
                        str,
                        (
                            *(pair.source, pair.target, pair.family, pair.sent, pair.lost),
                            *(f"{pair.worst * 1000:.1f}", *stream),
                        ),
                    )
                )  # type: ignore[arg-type]
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        if self.longest_lag > STALL:
            lines.append(
                f"The machine kept a watcher from running for {self.longest_lag * 1000:.0f} ms"
            )
        lines += self.failures or ["No ping lost, no connection broken, no stream stood still."]
        return "\n".join(lines)


def clock(moment: float) -> str:
    """Return a time of the wall clock to the millisecond."""
    return time.strftime("%H:%M:%S", time.localtime(moment)) + f".{int(moment % 1 * 1000):03d}"


def judge(results: Mapping[str, Mapping[str, Any]], silent: Sequence[str] = ()) -> Report:
    """Return the report on the watchers' results, host -> result.

    `silent` are hosts whose watcher ended before it was asked to. Pings to them count all the same.
    """
    pairs: dict[tuple[str, str, int], Pair] = {}

    def pair(entry: Mapping[str, Any]) -> Pair:
        key = (entry["from"], entry["to"], entry["family"])
        return pairs.setdefault(key, Pair(*key))

    lags = {host: [_interval(one) for one in result["lags"]] for host, result in results.items()}
    troubles = [f"{host}: its watcher ended early" for host in silent]
    for host, result in results.items():
        if result["overflow"]:
            troubles.append(
                f"{host}: {result['overflow']} replies did not fit the watcher's buffer"
            )
        for entry in result["pings"]:
            this = pair(entry)
            this.sent, this.lost = entry["sent"], entry["lost"]
            this.lost_at, this.refusal = list(entry["lost_at"]), entry["refusal"]
            this.worst = entry["worst"]
        for entry in result["outgoing"]:
            this = pair(entry)
            this.stream = True
            this.resets = [(float(at), str(why)) for at, why in entry["resets"]]
    underlay: dict[tuple[str, str], list[Interval]] = {}
    for result in results.values():
        for entry in result["incoming"]:
            if entry["from"].endswith(f"/{UNDERLAY}"):
                hosts = (_host(entry["from"]), _host(entry["to"]))
                found = underlay.setdefault(hosts, [])
                found += [_interval(one) for one in entry["stalls"]]
    for result in results.values():
        for entry in result["incoming"]:
            this = pair(entry)
            this.received = entry["received"]
            if not this.resets:
                this.resets = [(float(at), str(why)) for at, why in entry["ends"]]
            source, target = _host(entry["from"]), _host(entry["to"])
            # Sending and receiving wait on both ends; replies of TCP on both ways.
            excused = lags.get(source, []) + lags.get(target, [])
            if not entry["from"].endswith(f"/{UNDERLAY}"):
                excused += underlay.get((source, target), []) + underlay.get((target, source), [])
            this.stall = min(entry["longest"], 0.1)
            for start, end in map(_interval, entry["stalls"]):
                rest = (end - start) - overlap((start, end), excused)
                if rest > this.stall:
                    this.stall, this.stall_at = rest, start
                this.hiccup = max(this.hiccup, end - start - rest)
    every = [one for host in lags.values() for one in host]
    longest = max((end - start for start, end in every), default=0.0)
    ordered = sorted(pairs.values(), key=lambda one: (_is_underlay(one), one.source, one.target))
    return Report(ordered, troubles, longest)


def overlap(one: Interval, others: Sequence[Interval]) -> float:
    """Return for how many seconds of `one` any of `others` lasts, each moment counted once."""
    start, end = one
    total, position = 0.0, start
    for begins, ends in sorted(others):
        begin, finish = max(begins, position), min(ends, end)
        if finish > begin:
            total += finish - begin
            position = finish
    return total


def _interval(pair: Sequence[float]) -> Interval:
    return float(pair[0]), float(pair[1])


def _host(end: str) -> str:
    return end.partition("/")[0]


def _is_underlay(pair: Pair) -> bool:
    return pair.source.endswith(f"/{UNDERLAY}")

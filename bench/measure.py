"""The unit of a report, and how to time a command."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class BenchError(Exception):
    """A command that should have been measured failed; the message has its last words."""


@dataclass(frozen=True)
class Row:
    """One measured thing.

    `value` is in `unit`. `ratio` is the median over the rounds of value / yardstick, 0 where there
    is none, and `yardstick` says what that is. `target` is the most (for a share of throughput:
    the expected least, which is not judged, so 0) that the ratio may be, or the value where there
    is no ratio; 0 where nothing was promised.
    """

    what: str
    value: float
    unit: str
    ratio: float = 0.0
    yardstick: str = ""
    target: float = 0.0

    @property
    def judged(self) -> float:
        """What the target is about."""
        return self.ratio or self.value


def timed(argv: Sequence[str], env: Mapping[str, str] | None = None, stdin: str = "") -> float:
    """Run a command in the project's directory; return the seconds it took."""
    started = time.monotonic()
    done = subprocess.run(
        argv, cwd=ROOT, env=env, input=stdin, capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - started
    if done.returncode:
        said = (done.stdout + done.stderr)[-2000:]
        raise BenchError(f"{' '.join(argv)[:300]} ended with status {done.returncode}:\n{said}")
    return seconds


def compared(
    what: str, pairs: Iterable[tuple[float, float]], yardstick: str, target: float = 0.0
) -> Row:
    """Return a row from (seconds, seconds of the yardstick), one pair a round."""
    pairs = list(pairs)
    return Row(
        what,
        statistics.median(own for own, _ in pairs),
        "s",
        statistics.median(own / other for own, other in pairs),
        yardstick,
        target,
    )


def say(text: str) -> None:
    """Tell who waits what is being done."""
    print(f"# {text}", flush=True)


def load() -> float:
    """Return the machine's load over the last minute (getloadavg(3))."""
    return os.getloadavg()[0]

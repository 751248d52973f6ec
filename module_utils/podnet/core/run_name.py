"""What a run is called, in claims and messages: who began it, where and when."""

from __future__ import annotations

import re
import time

#: Seconds after which a claim that nobody renewed says nothing any more.
LASTS = 600.0

#: What a run is called, see `run.run_id`: it is shown to people and written to a file.
_RUN = re.compile(r"[0-9]{1,12}\.[0-9]{2} [0-9]{1,10} [0-9a-f]{8} [A-Za-z0-9@._-]{1,100}\Z")


def is_run(text: str) -> bool:
    """Whether `text` names a run; what stands in a claim may come from anybody on the host."""
    return _RUN.match(text) is not None


def by(run: str) -> str:
    """Return who a run is, for people."""
    if not is_run(run):
        return "unknown"
    started, process, _machine, who = run.split(" ")
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(float(started)))
    return f"{who}, process {process}, since {since}"


def is_older(run: str, other: str) -> bool:
    """Whether `run` began before `other`; of two that wait for each other the younger gives up."""
    return _order(run) < _order(other)


def _order(run: str) -> tuple[float, str]:
    return (float(run.split(" ", maxsplit=1)[0]) if is_run(run) else 0.0, run)

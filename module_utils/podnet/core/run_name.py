"""The name of a run: who began it, where and when.

Messages show it. A claim holds it: the note on a host that keeps other runs away (keep/claim.py).
"""

from __future__ import annotations

import re
import time

#: Seconds after which a claim that was not renewed is void.
LASTS = 600.0

#: The form of a run's name, which run/run_id.py makes: "BEGUN PROCESS MACHINE USER@HOST".
_RUN = re.compile(r"[0-9]{1,12}\.[0-9]{2} [0-9]{1,10} [0-9a-f]{8} [A-Za-z0-9@._-]{1,100}\Z")


def is_run(text: str) -> bool:
    """Whether `text` is the name of a run; a claim's text may come from anybody on the host."""
    return _RUN.match(text) is not None


def by(run: str) -> str:
    """Return who began a run and when, for a message; "unknown" for a malformed name."""
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

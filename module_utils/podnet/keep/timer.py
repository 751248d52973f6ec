"""Timers that start a oneshot service of a network's again and again."""

from __future__ import annotations

SYSTEMD = "/etc/systemd/system"

_TIMER = """\
# Made by podnet; see {variable}.
[Unit]
Description=podnet: {does} every {interval}

[Timer]
OnActiveSec={interval}
OnUnitInactiveSec={interval}
AccuracySec=1s

[Install]
WantedBy=timers.target
"""


def paths(unit: str) -> tuple[str, str]:
    """Return the paths of the timer of `unit` and of the link that enables it."""
    return f"{SYSTEMD}/{unit}.timer", f"{SYSTEMD}/timers.target.wants/{unit}.timer"


def unit_files(unit: str, variable: str, does: str, interval: str) -> dict[str, str]:
    """Return path -> content of both; `variable` asks for the timer, which does `does`.

    `interval` is a time span of systemd.time(7).
    """
    timer, link = paths(unit)
    return {
        timer: _TIMER.format(variable=variable, does=does, interval=interval),
        link: f"-> {timer}",
    }

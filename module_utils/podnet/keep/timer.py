"""Oneshot services of a network's that a timer starts again and again."""

from __future__ import annotations

from . import replay
from .record_file import directory

SYSTEMD = "/etc/systemd/system"

_SERVICE = """\
# Made by podnet{says}
[Unit]
Description=podnet: {does}
Documentation=file://{script}
After=podnet@{name}.service
ConditionPathExists={directory}/boot
StartLimitIntervalSec=0

[Service]
Type=oneshot
{lines}"""

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


def paths(unit: str) -> tuple[str, str, str]:
    """Return the paths of `unit`: its service, its timer, and the link that enables that."""
    timer = f"{unit}.timer"
    return (
        f"{SYSTEMD}/{unit}.service",
        f"{SYSTEMD}/{timer}",
        f"{SYSTEMD}/timers.target.wants/{timer}",
    )


def unit_files(
    unit: str, name: str, does: str, *, variable: str, interval: str, says: str, lines: str
) -> dict[str, str]:
    """Return path -> content of all three, for the network `name`.

    `variable` asks for the timer, `interval` is a time span of systemd.time(7), and `does` what the
    service does. `says` ends the service's comment, `lines` its section [Service].
    """
    service, timer, link = paths(unit)
    return {
        service: _SERVICE.format(
            says=says,
            does=does,
            script=replay.PATH,
            name=name,
            directory=directory(name),
            lines=lines,
        ),
        timer: _TIMER.format(variable=variable, does=does, interval=interval),
        link: f"-> {timer}",
    }

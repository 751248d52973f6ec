"""Units that write a host's health for Prometheus from time to time, without a controller.

The script of `replay` makes the text, in Prometheus's text format. It lies in /run, and a link in
the directory that node_exporter's textfile collector reads leads there: so nothing of it lasts
longer than the units.
"""

from __future__ import annotations

import re

from . import replay, timer
from .files import read_text, remove_file
from .lock import DIRECTORY

_SAYS = """; see podnet_health_interval. Writes what the host can tell of the pod network
# {name} to {target}, for node_exporter: {link}"""

_LINES = """\
ExecStart=/bin/sh {script} {name} health {target}
# A run of podnet was at work: the next time will do.
SuccessExitStatus=75
TimeoutStartSec=120
LogLevelMax=notice
"""

#: What the script leaves in /run, by the last part of the name.
_IN_RUN = ("prom", "prom.new", "seen.left")

_LINK = re.compile(r"^# .*, for node_exporter: (/\S+)$", re.MULTILINE)


def unit(name: str) -> str:
    """Return the name of the service that writes once, without its type."""
    return f"podnet-health@{name}"


def paths(name: str) -> list[str]:
    """Return every path that `unit_files` may have, and the link of the unit that is there."""
    units = timer.paths(unit(name))
    found = _LINK.search(read_text(units[0]) or "")
    return [*units, *([found[1]] if found else [])]


def forget(name: str) -> None:
    """Remove what the script has left in /run, where the units are gone."""
    for last in _IN_RUN:
        remove_file(f"{DIRECTORY}/{name}.{last}")


def unit_files(name: str, interval: str, where: str) -> dict[str, str]:
    """Return path -> content of the units that a host needs, {} for none.

    `interval` is a time span of systemd.time(7), "" for never; `where` is node_exporter's
    directory.
    """
    if not interval:
        return {}
    link, target = f"{where.rstrip('/')}/podnet-{name}.prom", f"{DIRECTORY}/{name}.prom"
    return {
        link: f"-> {target}",
        **timer.unit_files(
            unit(name),
            name,
            f"write the health of pod network {name}",
            variable="podnet_health_interval",
            interval=interval,
            says=_SAYS.format(name=name, target=target, link=link),
            lines=_LINES.format(name=name, target=target, script=replay.PATH),
        ),
    }

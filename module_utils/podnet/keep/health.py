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
from .record_file import directory

_SERVICE = """\
# Made by podnet; see podnet_health_interval. Writes what the host can tell of the pod network
# {name} to {target}, for node_exporter: {link}
[Unit]
Description=podnet: write the health of pod network {name}
Documentation=file://{script}
After=podnet@{name}.service
ConditionPathExists={directory}/boot
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=/bin/sh {script} {name} health {target}
# A run of podnet was at work: the next time will do.
SuccessExitStatus=75
TimeoutStartSec=120
LogLevelMax=notice
"""

#: What the script leaves in /run, by the last part of the name.
IN_RUN = ("prom", "prom.new", "seen.left")

_LINK = re.compile(r"^# .*, for node_exporter: (/\S+)$", re.MULTILINE)


def unit(name: str) -> str:
    """Return the name of the service that writes once, without its type."""
    return f"podnet-health@{name}"


def _service(name: str) -> str:
    return f"{timer.SYSTEMD}/{unit(name)}.service"


def paths(name: str) -> list[str]:
    """Return every path that `unit_files` may have, and the link of the unit that is there."""
    found = _LINK.search(read_text(_service(name)) or "")
    return [_service(name), *timer.paths(unit(name)), *([found[1]] if found else [])]


def forget(name: str) -> None:
    """Remove what the script has left in /run, where the units are gone."""
    for last in IN_RUN:
        remove_file(f"{DIRECTORY}/{name}.{last}")


def unit_files(name: str, interval: str, where: str) -> dict[str, str]:
    """Return path -> content of the units that a host needs, {} for none.

    `interval` is a time span of systemd.time(7), "" for never; `where` is node_exporter's
    directory.
    """
    if not interval:
        return {}
    link, target = f"{where.rstrip('/')}/podnet-{name}.prom", f"{DIRECTORY}/{name}.prom"
    service = _SERVICE.format(
        name=name, target=target, link=link, script=replay.PATH, directory=directory(name)
    )
    does = f"write the health of pod network {name}"
    return {
        _service(name): service,
        link: f"-> {target}",
        **timer.unit_files(unit(name), "podnet_health_interval", does, interval),
    }

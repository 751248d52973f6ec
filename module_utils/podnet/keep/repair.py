"""Units that repair drift by replaying the boot files: at an interval, and after networkd's work.

They exist only where the user wants a host to repair itself (podnet_repair_interval). Without them
drift stays, for a run in check mode to show.

When systemd-networkd configures a device again, it removes all addresses, and the kernel drops the
routes over the device, whatever networkd.conf says. So where networkd runs, a path unit watches the
directory in which networkd notes that it is done with a link; the repair does not wait for the
timer then.
"""

from __future__ import annotations

from . import replay, timer
from .timer import SYSTEMD

#: networkd replaces a file in this directory whenever it is done with a link. The files are
#: networkd's private data, but nothing here depends on their names or contents.
NETWORKD_STATE = "/run/systemd/netif/links"

_SAYS = ". Repairs what differs from the boot files of the pod network {name}."

# LogLevelMax also silences systemd's own messages that it starts and ends the unit: a repair with
# nothing to do logs nothing.
_LINES = """\
# At once, and again when the last of several changes in a row is over.
ExecStart=-/bin/sh {script} {name}
ExecStart=/bin/sleep 1
ExecStart=/bin/sh {script} {name}
# A run of podnet was at work.
SuccessExitStatus=75
TimeoutStartSec=120
SyslogIdentifier=podnet-repair
SyslogLevel=notice
LogLevelMax=notice
"""

_PATH = """\
# Made by podnet; see podnet_repair_interval.
[Unit]
Description=podnet: repair pod network {name} after systemd-networkd changed a link

[Path]
PathChanged={state}

[Install]
WantedBy=multi-user.target
"""


def _unit(name: str) -> str:
    return f"podnet-repair@{name}"


def _paths(name: str) -> dict[str, str]:
    unit = _unit(name)
    return {
        "path": f"{SYSTEMD}/{unit}.path",
        "path link": f"{SYSTEMD}/multi-user.target.wants/{unit}.path",
    }


def paths(name: str) -> list[str]:
    """Return every path that `unit_files` may have."""
    return [*_paths(name).values(), *timer.paths(_unit(name))]


def unit_files(name: str, interval: str, networkd: bool) -> dict[str, str]:
    """Return path -> content of the units that a host needs, {} for none.

    `interval` is a time span of systemd.time(7), "" for no repair; `networkd`: it runs on the host.
    """
    if not interval:
        return {}
    where = _paths(name)
    result = timer.unit_files(
        _unit(name),
        name,
        f"repair pod network {name}",
        variable="podnet_repair_interval",
        interval=interval,
        says=_SAYS.format(name=name),
        lines=_LINES.format(name=name, script=replay.PATH),
    )
    if networkd:
        result[where["path"]] = _PATH.format(name=name, state=NETWORKD_STATE)
        result[where["path link"]] = f"-> {where['path']}"
    return result

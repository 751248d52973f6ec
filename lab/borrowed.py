"""What labs change on the machine itself, and put back when the last lab goes.

* fs.inotify.max_user_instances: all hosts count as one user, and beyond about 12 of them the
  usual 128 instances are not enough: systemd fails at the start of a host.
* net.core.netdev_max_backlog: between hosts every packet waits in a queue of the processor's, which
  holds 1000. Where many streams share two processors it overflows, and a ping is lost that no host
  has dropped (/proc/net/softnet_stat, second column).
* net.ipv4.neigh.default.gc_thresh3: one table serves all hosts and their pods, and holds 1024
  entries; sixty pods that all talk to each other fill it, and answers of some are lost.
* /run/netns: `ip netns add` mounts it on itself, for good; we unmount it if it was not so before.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path

from . import machine

RUN = Path("/run/podnet-lab")

_RECORD = RUN / "machine.json"
_LOCK = RUN / "machine.lock"
_NETNS = Path("/run/netns")
_INOTIFY_HOSTS = 8

#: Name in the record -> (file, value).
_SETTINGS = {
    "inotify": (Path("/proc/sys/fs/inotify/max_user_instances"), 8192),
    "backlog": (Path("/proc/sys/net/core/netdev_max_backlog"), 20_000),
    "neighbours": (Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3"), 16_384),
}


def borrow() -> None:
    """Change what the labs that there are need; record first what was. Call with lab.json written.

    Whatever is recorded already stays so: it is from before the first lab.
    """
    with machine.lock(_LOCK):
        record = _read()
        record.setdefault("netns_mounted", int(machine.is_mount(_NETNS)))
        wanted = [one for one in _SETTINGS if one != "inotify" or _hosts() > _INOTIFY_HOSTS]
        wanted = [one for one in wanted if _value(one) < _SETTINGS[one][1]]
        for one in wanted:
            record.setdefault(one, _value(one))
        _RECORD.write_text(json.dumps(record))
        for one in wanted:
            file, value = _SETTINGS[one]
            file.write_text(str(value))


def give_back() -> None:
    """Put back what was changed, if no lab is left, and remove the record."""
    with machine.lock(_LOCK):
        record = _read()
        if record and not any(RUN.glob("*/lab.json")):
            for one, (file, value) in _SETTINGS.items():
                # Somebody else may have set it since: then it is theirs.
                if one in record and _value(one) == value:
                    file.write_text(str(record[one]))
            if not record.get("netns_mounted") and machine.is_mount(_NETNS):
                # Not while it holds somebody's namespace: then this fails, as it should.
                subprocess.run(["umount", _NETNS], capture_output=True, check=False)
                with contextlib.suppress(OSError):
                    _NETNS.rmdir()
            _RECORD.unlink()
    with contextlib.suppress(OSError):
        RUN.rmdir()


def _value(setting: str) -> int:
    return int(_SETTINGS[setting][0].read_text())


def _read() -> dict[str, int]:
    try:
        record: dict[str, int] = json.loads(_RECORD.read_text())
    except (OSError, ValueError):
        return {}
    return record


def _hosts() -> int:
    total = 0
    for file in RUN.glob("*/lab.json"):
        # Another lab may go just now.
        with contextlib.suppress(OSError, ValueError):
            total += len(json.loads(file.read_text())["hosts"])
    return total

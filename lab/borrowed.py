"""What labs change on the machine itself, and put back when the last lab goes.

* fs.inotify.max_user_instances: all hosts count as one user, and beyond about 12 of them the
  usual 128 instances are not enough: systemd fails at the start of a host.
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
_INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
_INOTIFY_HOSTS = 8
_INOTIFY_VALUE = 8192


def borrow() -> None:
    """Change what the labs that there are need; record first what was. Call with lab.json written.

    Whatever is recorded already stays so: it is from before the first lab.
    """
    with machine.lock(_LOCK):
        record = _read()
        record.setdefault("netns_mounted", int(machine.is_mount(_NETNS)))
        value = int(_INOTIFY.read_text())
        raise_it = _hosts() > _INOTIFY_HOSTS and value < _INOTIFY_VALUE
        if raise_it:
            record.setdefault("inotify", value)
        _RECORD.write_text(json.dumps(record))
        if raise_it:
            _INOTIFY.write_text(str(_INOTIFY_VALUE))


def give_back() -> None:
    """Put back what was changed, if no lab is left, and remove the record."""
    with machine.lock(_LOCK):
        record = _read()
        if record and not any(RUN.glob("*/lab.json")):
            # Somebody else may have set it since: then it is theirs.
            if "inotify" in record and int(_INOTIFY.read_text()) == _INOTIFY_VALUE:
                _INOTIFY.write_text(str(record["inotify"]))
            if not record.get("netns_mounted") and machine.is_mount(_NETNS):
                # Not while it holds somebody's namespace: then this fails, as it should.
                subprocess.run(["umount", _NETNS], capture_output=True, check=False)
                with contextlib.suppress(OSError):
                    _NETNS.rmdir()
            _RECORD.unlink()
    with contextlib.suppress(OSError):
        RUN.rmdir()


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

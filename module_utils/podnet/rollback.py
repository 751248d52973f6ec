"""Undo a change that nobody confirmed: for changes that may cut the controller off.

Before such a change the host arms a systemd timer that runs the way back, a shell script that
lies ready in /run. The run then comes in over a fresh SSH connection and disarms it. If it cannot,
the host is back where it was after the timeout, with its old boot files, which are written only
after the confirmation.
"""

from __future__ import annotations

import contextlib
import ipaddress
import shutil
from itertools import groupby
from pathlib import Path
from typing import Sequence

from . import files
from .diff import Change
from .errors import PodnetError
from .kernel.run import find, run
from .lock import DIRECTORY
from .state import State, route_device


def client() -> str:
    """Return the address that the SSH session of this process comes from, "" if there is none.

    sshd(8) sets SSH_CONNECTION; sudo(8) drops it, so the parents are asked, too.
    """
    pid = "self"
    for _ in range(20):
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return ""
        for entry in environment:
            if entry.startswith(b"SSH_CONNECTION="):
                return entry.split(b"=", 1)[1].split(b" ")[0].decode("ascii", "replace")
        pid = status.partition("\nPPid:\t")[2].partition("\n")[0]
        if pid in ("0", "1"):
            return ""
    return ""


def endangers(before: State, after: State, address: str) -> bool:
    """Whether packets to `address` take another way after the change than before it."""
    if not address:
        return False
    try:
        target = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
    except ValueError:
        return False
    return _way(before, target) != _way(after, target)


def _way(state: State, target: ipaddress.IPv4Address | ipaddress.IPv6Address) -> object:
    """Return our route that holds `target`, with the properties of the device it uses."""
    best: tuple[int, str] = (-1, "")
    for destination, body in state.routes.items():
        network = ipaddress.ip_network(destination.split(" ")[0])
        if target in network and network.prefixlen > best[0]:
            best = (network.prefixlen, body)
    return best, state.links.get(route_device(best[1]))


def _directory(name: str) -> Path:
    return Path(DIRECTORY) / f"{name}.rollback"


def _marker(name: str) -> Path:
    return Path(DIRECTORY) / f"{name}.rolled-back"


def _unit(name: str) -> str:
    return f"podnet-rollback-{name}"


def arm(name: str, way_back: Sequence[Change], record: str, kept: str | None, timeout: int) -> None:
    """Arm the timer: after `timeout` seconds `way_back` is applied, and `kept` is put in `record`.

    `record` is the path of the network's record and `kept` its text from before the change, None
    if there was none. Raises PodnetError when the timer cannot be armed; nothing was changed then.
    """
    top = _directory(name)
    if shutil.which("systemd-run") is None:
        raise PodnetError(
            "this change may cut the controller off, and without systemd-run the host cannot undo "
            "it by itself. Run podnet from a host outside of the pod network"
        )
    if top.is_dir():
        shutil.rmtree(top)
    files.write_text(str(top / "undo"), script(name, way_back, record, kept is not None), 0o600)
    if kept is not None:
        files.write_text(str(top / "record.json"), kept, 0o600)
    result = run(
        [
            "systemd-run",
            f"--unit={_unit(name)}",
            f"--description=podnet: undo what nobody confirmed in network {name}",
            f"--on-active={timeout}s",
            # Without this a timer may be a minute late (systemd.timer(5)).
            "--timer-property=AccuracySec=100ms",
            find("sh"),
            str(top / "undo"),
        ]
    )
    if result.code != 0:
        shutil.rmtree(top)
        raise PodnetError(
            f"the timed rollback cannot be armed, so nothing was changed: {result.error}"
        )


def script(name: str, way_back: Sequence[Change], record: str, had_record: bool) -> str:
    """Return the shell script that applies changes without podnet.

    It goes on after a command that fails: half a way back is better than none.
    """
    top = _directory(name)
    lines = [
        "# Made by podnet: the way back from a change that may have cut the controller off.",
        f"exec 9>>{DIRECTORY}/{name}.lock; flock -w 30 9",
        # Whoever confirms takes this directory away first.
        f"mv {top} {top}.running || exit 0",
    ]
    for tool, group in groupby(way_back, key=lambda change: change.tool):
        parts = [line for change in group for line in change.lines]
        if tool in ("ip", "bridge"):
            lines += [f"{tool} -force -batch - <<'EOF'", *parts, "EOF"]
        elif tool == "nft":
            lines += ["nft -f - <<'EOF'", *parts, "EOF"]
        elif tool == "iptables":
            lines += parts
        elif tool == "pod":
            lines += [
                f"nsenter --net={namespace} ip {line}"
                for namespace, line in zip(parts[::2], parts[1::2])
            ]
        elif tool == "sysctl":
            lines += [f"sysctl -qw '{part}'" for part in parts]
    if had_record:
        lines.append(f"cp {top}.running/record.json {record}")
    else:
        lines.append(f"rm -f {record}")
    lines += [f"date '+%F %T' >{_marker(name)}", f"rm -r {top}.running"]
    return "\n".join(lines) + "\n"


def confirm(name: str) -> None:
    """Disarm the timer; raise PodnetError if it fired, so the host is back where it was."""
    undone = _fired(name)
    if undone:
        raise PodnetError(
            f"the change was undone at {undone}: nobody confirmed it in time, because it cut the "
            "SSH connection. The host is back in its state from before; see "
            "docs/troubleshooting.md"
        )
    _disarm(name)


def settle(name: str) -> list[str]:
    """Clear what an earlier run left: a timer that is still armed, the mark of one that fired.

    Returns what to tell the user. That we are here means that the host can be reached.
    """
    notes = []
    if _directory(name).is_dir():
        _disarm(name)
        notes.append(
            "an earlier run ended before it confirmed its change; the host can be reached, so its "
            "timed rollback was disarmed"
        )
    undone = _fired(name)
    if undone:
        notes.append(f"the change of an earlier run was undone at {undone}: nobody confirmed it")
    return notes


def is_armed(name: str) -> bool:
    """Whether a rollback of network `name` waits to be confirmed."""
    return _directory(name).is_dir()


def _fired(name: str) -> str:
    """Return when the rollback fired, "" if it did not; forget it."""
    try:
        text = _marker(name).read_text().strip()
    except FileNotFoundError:
        return ""
    with contextlib.suppress(FileNotFoundError):
        _marker(name).unlink()
    return text or "an unknown time"


def _disarm(name: str) -> None:
    # First the script's directory: a timer that fires now finds nothing to do.
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(_directory(name))
    run(["systemctl", "stop", f"{_unit(name)}.timer"])
    run(["systemctl", "reset-failed", f"{_unit(name)}.service"])

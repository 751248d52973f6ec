"""Undo a change that nobody confirmed: for changes that may cut the controller off.

Before such a change the host arms a systemd timer. It runs a shell script in /run that undoes the
change. After the change, the run connects again over a fresh SSH connection and disarms the timer.
If it cannot connect, the script puts the host back into its old state after the timeout. The boot
files are still the old ones then: new ones are written only after the confirmation.
"""

from __future__ import annotations

import contextlib
import ipaddress
import shlex
import shutil
from itertools import groupby
from pathlib import Path
from typing import Iterator, Mapping, Sequence

from ..backends.registry import TOOLS
from ..core.errors import PodnetError
from ..core.state import BATCHES, BRIDGE, Change, State, route_device
from ..keep import files
from ..keep.lock import DIRECTORY
from ..kernel.observe import sysctl_path
from ..kernel.run import SEARCH, find, run


def endangers(before: State, after: State, addresses: Sequence[str]) -> bool:
    """Whether packets to one of `addresses` take another way in state `after` than in `before`."""
    return any(_way(before, one) != _way(after, one) for one in _parsed(addresses))


def may_endanger(states: Sequence[State], addresses: Sequence[str]) -> bool:
    """Whether packets to one of `addresses` use routes or devices of podnet's in one of `states`.

    Only then can a change between them need a timed rollback.
    """
    return any(
        _way(state, one) != _way(State(), one) for state in states for one in _parsed(addresses)
    )


def _parsed(
    addresses: Sequence[str],
) -> Iterator[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    for address in addresses:
        with contextlib.suppress(ValueError):
            yield ipaddress.ip_address(address.split("%", maxsplit=1)[0])


def _way(state: State, target: ipaddress.IPv4Address | ipaddress.IPv6Address) -> object:
    """Return how `state` routes to `target`: route, device, next hop's MAC, its entry for the peer.

    Two of these are equal if packets take the same way.
    """
    best: tuple[int, str] = (-1, "")
    routes = [(destination.split(" ")[0], body) for destination, body in state.routes.items()]
    # The kernel adds a route to the prefix of each address.
    routes += [(cidr, f"dev {device}") for device, cidr in state.addresses]
    for destination, body in routes:
        network = ipaddress.ip_network(destination, strict=False)
        if target in network and network.prefixlen > best[0]:
            best = (network.prefixlen, body)
    device = route_device(best[1])
    words = best[1].split()
    gateway = words[words.index("via") + 1] if "via" in words else ""
    mac = state.neighbours.get((device, gateway))
    link = state.links.get(device)
    if link:
        # Where packets go does not depend on ifindex and alias, nor on a bridge's MAC.
        link = link._replace(ifindex=0, alias="", mac="" if link.kind == BRIDGE else link.mac)
    return best, link, mac, state.entries.get((device, mac or ""))


def _directory(name: str) -> Path:
    return Path(DIRECTORY) / f"{name}.rollback"


def _running(name: str) -> Path:
    return Path(DIRECTORY) / f"{name}.rollback.running"


def _marker(name: str) -> Path:
    return Path(DIRECTORY) / f"{name}.rolled-back"


def _unit(name: str) -> str:
    return f"podnet-rollback-{name}"


def arm(
    name: str, way_back: Sequence[Change], kept: Mapping[str, str | None], timeout: int
) -> None:
    """Arm the timer: after `timeout` seconds it applies `way_back` and restores files.

    `kept` maps the paths of files that podnet is about to write to their present text, None where
    there is no file; `note_written` must follow the writing. Raises PodnetError when the timer
    cannot be armed; nothing was changed then.
    """
    if shutil.which("systemd-run", path=SEARCH) is None:
        raise PodnetError(
            "this change may cut the controller off, and without systemd-run the host cannot undo "
            "it by itself. Run podnet from a host outside of the pod network"
        )
    # A run that was killed while disarming may have left its timer, whose name is needed now.
    _disarm(name)
    top = _directory(name)
    try:
        # Not by `files.make_directories`, which would remember the directory in /etc.
        top.mkdir(mode=0o700)
        for number, text in enumerate(kept.values()):
            if text is not None:
                files.write_text(f"{top}/{number}.before", text, 0o600)
        files.write_text(f"{top}/undo", script(name, way_back, list(kept)), 0o600)
        result = run(
            [
                "systemd-run",
                f"--unit={_unit(name)}",
                f"--description=podnet: undo what nobody confirmed in network {name}",
                f"--on-active={timeout}s",
                # Without this a timer may be a minute late (systemd.timer(5)).
                "--timer-property=AccuracySec=100ms",
                find("sh"),
                f"{top}/undo",
            ]
        )
        if result.code != 0:
            raise PodnetError(result.error)
    except (PodnetError, OSError) as error:
        _disarm(name)
        raise PodnetError(
            f"the timed rollback cannot be armed, so nothing was changed: {error}"
        ) from error


def note_written(name: str, paths: Sequence[str]) -> None:
    """Note the present text of the files given to `arm`, in the same order.

    The timer restores a file only if it still holds this text.
    """
    for number, path in enumerate(paths):
        text = files.read_text(path)
        if text is not None:
            files.write_text(f"{_directory(name)}/{number}.after", text, 0o600)


def script(name: str, way_back: Sequence[Change], paths: Sequence[str]) -> str:
    """Return the shell script that applies changes without podnet, then puts files back.

    The script goes on after a command that fails: to undo a part is better than nothing. Raises
    PodnetError for a change that no script can make.
    """
    top = _directory(name)
    lines = [
        "# Made by podnet: the way back from a change that may have cut the controller off.",
        f"export LC_ALL=C PATH={SEARCH}",
        # A run that holds the lock may take that long: a tool that hangs is killed after 60 s
        # (kernel/run.py), and then the run undoes its changes.
        f"exec 9>>{DIRECTORY}/{name}.lock; flock -w 150 9",
        # A confirmation removes this directory first, so without it there is nothing to undo.
        f"[ -d {top} ] || exit 0",
        f"rm -rf {top}.running; mv {top} {top}.running",
    ]
    for tool, group in groupby(way_back, key=lambda change: change.tool):
        parts = [line for change in group for line in change.lines]
        if tool in BATCHES:
            lines += [f"{BATCHES[tool]} -force -batch - <<'EOF'", *parts, "EOF"]
        elif tool == "nft":
            lines += ["nft -f - <<'EOF'", *parts, "EOF"]
        elif tool in TOOLS:
            lines += [" ".join(map(shlex.quote, argv)) for argv in TOOLS[tool](parts)]
        elif tool in ("iptables", "command"):
            lines += [" ".join(shlex.quote(word) for word in part.split(" ")) for part in parts]
        elif tool == "pod":
            for namespace, line in zip(parts[::2], parts[1::2]):
                enter = f"nsenter {shlex.quote(f'--net={namespace}')} ip -batch -"
                lines += [f"{enter} <<'EOF'", line, "EOF"]
        elif tool == "sysctl":
            for part in parts:
                key, _mark, value = part.partition("=")
                file = shlex.quote(str(sysctl_path(key)))
                lines.append(f"printf %s {shlex.quote(value)} >{file}")
        else:
            raise PodnetError(f"{tool}: no change that can be undone by a script; report this")
    for number, path in enumerate(paths):
        before, after = (f"{top}.running/{number}.{one}" for one in ("before", "after"))
        new = files.beside(path)
        lines += [
            f"if cmp -s {after} {path}; then",
            f"  if [ -e {before} ]; then cp {before} {new} && chmod 0644 {new} && mv {new} {path}",
            f"  else rm -f {path}; fi",
            "fi",
        ]
    lines += [
        f"rmdir {files.STATE}/{name} {files.STATE} 2>/dev/null",
        f"date '+%F %T' >{_marker(name)}",
        f"rm -r {top}.running",
    ]
    return "\n".join(lines) + "\n"


def confirm(name: str) -> None:
    """Disarm the timer; raise PodnetError if it has fired, so that the change is undone."""
    undone = _fired(name)
    if undone:
        raise PodnetError(
            f"the change was undone at {undone}: nobody confirmed it in time, because it cut the "
            "SSH connection. The host is back in its state from before; see "
            "docs/troubleshooting.md"
        )
    _disarm(name)


def settle(name: str) -> list[str]:
    """Remove what an earlier run left: a timer that is still armed, or the mark of one that fired.

    Returns messages for the user. A timer is needed no longer: this call has reached the host.
    """
    notes = []
    if _directory(name).is_dir():
        _disarm(name)
        notes.append(
            "an earlier run ended before it confirmed its change; the host can be reached, so its "
            "timed rollback was disarmed"
        )
    if _running(name).is_dir():
        # The script holds the network's lock while it works. This call holds it now, so the script
        # is dead; the run repairs what it left.
        shutil.rmtree(_running(name), ignore_errors=True)
        notes.append("the timed rollback of an earlier run was cut short")
    undone = _fired(name)
    if undone:
        notes.append(f"the change of an earlier run was undone at {undone}: nobody confirmed it")
    return notes


def is_armed(name: str) -> bool:
    """Whether a rollback of network `name` waits to be confirmed."""
    return _directory(name).is_dir()


def _fired(name: str) -> str:
    """Return when the rollback fired, "" if it did not, and remove the mark that says so."""
    try:
        text = _marker(name).read_text().strip()
    except FileNotFoundError:
        return ""
    with contextlib.suppress(FileNotFoundError):
        _marker(name).unlink()
    return text or "an unknown time"


def _disarm(name: str) -> None:
    # First the script's directory: if the timer fires now, the script finds nothing to do.
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(_directory(name))
    # Stop the service, too: it may be waiting for the lock that this call holds.
    run(["systemctl", "stop", f"{_unit(name)}.timer", f"{_unit(name)}.service"])
    run(["systemctl", "reset-failed", f"{_unit(name)}.timer", f"{_unit(name)}.service"])

"""One host, whatever it is made of: a disk of its own, on a bridge of the lab's namespace.

Its disk lives as long as the lab; its kernel state and its processes as long as it is on. So a
reboot or a power cut loses exactly what a real host would lose.
"""

from __future__ import annotations

import abc
import contextlib
import os
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import machine, seed
from .addresses import Host
from .errors import LabError

# $0 a cgroup, $@ what to leave running in it: it is there when this ends, so a host that was just
# started never looks as if it were off.
_ENTER = 'echo 0 > "$0/cgroup.procs" && exec setsid --fork "$@"'

_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


@dataclass(frozen=True)
class Box(abc.ABC):
    """A host. `lab` is the lab's state directory, with `disk` and the image `image` mounted."""

    host: Host
    lab: Path
    netns: str
    mtu: int
    image: str

    @property
    def directory(self) -> Path:
        """Where this host's files on the machine lie: console.log, a container's root."""
        return self.lab / "hosts" / self.host.name

    @property
    def disk(self) -> Path:
        """Where the host's disk lies, in the lab's tmpfs."""
        return self.lab / "disk" / self.host.name

    @property
    def own(self) -> Path:
        """Where the host's own files were written before they came to its disk."""
        return self.disk / "own"

    @property
    def group(self) -> str:
        """The name of the host's cgroup: a loop in `loop`, what it starts at each boot in `box`."""
        return f"{self.netns}/{self.host.name}"

    def create(self, *, keep_bytecode: bool = False) -> None:
        """Make the host's disk: the image with a name, an identity, keys and an address."""
        self.directory.mkdir(parents=True)
        self.own.mkdir(parents=True)
        authorized = (self.lab / "id_ed25519.pub").read_text()
        seed.seed(self.own, self.host, self.mtu, authorized, keep_bytecode=keep_bytecode)
        self.make_disk()

    @abc.abstractmethod
    def make_disk(self) -> None:
        """Join the image and the host's own files."""

    @abc.abstractmethod
    def loop(self) -> list[str]:
        """Return the command that keeps the host on: it boots it anew when it reboots."""

    @abc.abstractmethod
    def leader(self) -> int:
        """Return the machine's process id of what the host lives in; 0 for none.

        Another one after each boot.
        """

    @abc.abstractmethod
    def inside(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` on the host as root."""

    @property
    @abc.abstractmethod
    def patience(self) -> float:
        """Seconds that it may take to answer SSH after it was switched on."""

    @abc.abstractmethod
    def forget(self) -> None:
        """Remove what it leaves on the machine outside of the lab's directory."""

    def public_key(self) -> str:
        """Return the host's public key as known_hosts holds it: type and base64."""
        return " ".join((self.own / seed.PUBLIC_KEY).read_text().split()[:2])

    def start(self) -> None:
        """Switch the host on; it is not ready yet when this returns."""
        group = machine.cgroup(self.group)
        machine.make_cgroup(group)
        # A cgroup with children holds no process.
        (group / "loop").mkdir(exist_ok=True)
        (group / "box").mkdir(exist_ok=True)
        enter = ["/bin/sh", "-c", _ENTER, str(group / "loop")]
        with (self.directory / "console.log").open("ab") as log:
            # A session of its own: an interrupt at the terminal ends `lab up`, not the hosts.
            subprocess.run(
                [*enter, *machine.in_netns(self.netns, self.loop())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={**_ENVIRONMENT, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                check=True,
            )

    def is_on(self) -> bool:
        """Whether the host runs, or is on its way up or down."""
        return bool(machine.processes(machine.cgroup(self.group)))

    def cut(self) -> None:
        """End the host at once, as a power failure does. A host that is off stays off."""
        machine.end_cgroup(self.group)

    def destroy(self) -> None:
        """End the host and remove all there is of it."""
        self.cut()
        self.forget()
        machine.unmount_below(self.directory)
        machine.remove_tree(self.directory)
        machine.remove_tree(self.disk)

    def demand_on(self) -> int:
        """Return its leader; raise LabError where the host is off."""
        leader = self.leader()
        if not leader:
            raise LabError(f"{self.host.name} is off; `python -m lab start {self.host.name}`")
        return leader

    def answers(self) -> bool:
        """Whether the host's SSH server answers, asked over IPv4 and IPv6 by the router.

        Both, because networkd sets one after the other.
        """
        return self._answers(self.host.address) and self._answers(self.host.address6)

    def _answers(self, address: str) -> bool:
        with (
            contextlib.suppress(OSError),
            machine.connect(self.netns, address, 22, timeout=0.5) as connection,
        ):
            return connection.recv(4) == b"SSH-"
        return False

    def console(self, lines: int = 15) -> str:
        """Return the last lines of the host's console."""
        file = self.directory / "console.log"
        text = file.read_text(errors="replace") if file.exists() else ""
        return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])


def wait_until_ready(boxes: Sequence[Box], timeout: float) -> None:
    """Wait until every host answers SSH; raise LabError, with the console of one that does not."""
    deadline = time.monotonic() + timeout
    waiting = list(boxes)
    with ThreadPoolExecutor(max_workers=16) as pool:
        while waiting:
            answers = pool.map(Box.answers, waiting)
            waiting = [box for box, ready in zip(waiting, answers, strict=True) if not ready]
            for box in waiting:
                dead = not box.is_on()
                if dead or time.monotonic() > deadline:
                    what = "ended" if dead else f"did not answer SSH within {timeout:.0f} s"
                    raise LabError(f"{box.host.name} {what}; its console:\n{box.console()}")
            time.sleep(0.05 if waiting else 0)


def wait_until_off(box: Box, timeout: float) -> None:
    """Wait until a host has shut down; raise LabError if it does not."""
    deadline = time.monotonic() + timeout
    while box.is_on():
        if time.monotonic() > deadline:
            raise LabError(f"{box.host.name} does not shut down; its console:\n{box.console()}")
        time.sleep(0.05)


def environment() -> dict[str, str]:
    """Return the environment of commands on a host, whatever the caller's is."""
    return {
        **_ENVIRONMENT,
        "HOME": "/root",
        "USER": "root",
        "LC_ALL": "C.UTF-8",
        "TERM": os.environ.get("TERM", "dumb"),
    }

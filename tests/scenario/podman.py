"""Podman on a lab's host, as root runs it, with what a host in a container needs besides."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from lab import Lab

#: What `podman run` leaves when the last container is gone.
_LEFT = (
    *("/run/containers", "/run/libpod", "/run/crun", "/run/runc", "/run/lock/netavark.lock"),
    *("/etc/cni/net.d/cni.lock", "/var/cache/containers", "/run/podman", "/var/lib/containers"),
)

#: A host's disk is an overlay, which cannot be another one's upper layer.
_STORAGE_CONF = "/etc/containers/storage.conf"
_STORAGE = """\
[storage]
driver = "vfs"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
"""

#: For a lab's hosts, whose journal and control groups are not a whole machine's.
_GLOBAL = ("--events-backend=file", "--cgroup-manager=cgroupfs")


@dataclass(frozen=True)
class Container:
    """A container that runs: its address and a process in its namespace."""

    host: str
    name: str
    address: str
    pid: int


class Podman:
    """The Podman of one host."""

    def __init__(self, lab: Lab, host: str) -> None:
        """Nothing happens yet."""
        self.host = host
        self._lab = lab

    def prepare(self) -> None:
        """Configure it for a lab."""
        self._lab.run(self.host, ["tee", _STORAGE_CONF], stdin=_STORAGE, check=True)

    def run(self, name: str, network: str = "podnet") -> Container:
        """Start a container from the host's busybox; no registry is in reach."""
        limits = ("--pids-limit=0", "--cap-add=NET_RAW")
        command = ("--rootfs", "/srv/busybox", "sleep", "86400")
        self("run", "--detach", "--name", name, "--network", network, *limits, *command)
        (shown,) = json.loads(self("inspect", name))
        attached = shown["NetworkSettings"]["Networks"][network]
        return Container(self.host, name, attached["IPAddress"], shown["State"]["Pid"])

    def remove(self) -> None:
        """Remove all containers."""
        self("rm", "--all", "--force", "--time=0")

    def forget(self) -> None:
        """Remove what Podman leaves, when all containers are removed.

        A container that ended has its cleaning up done by a process of Podman's that nobody awaits.
        """
        deadline = time.monotonic() + 30
        while self._works() and time.monotonic() < deadline:
            time.sleep(0.2)
        self._lab.run(self.host, ["rm", "-rf", _STORAGE_CONF, *_LEFT], check=True)

    def _works(self) -> bool:
        found = self._lab.run(self.host, ["pgrep", "-x", "conmon|podman"], check=False)
        return found.returncode == 0

    def __call__(self, *argv: str) -> str:
        """Run a command of Podman; return what it prints."""
        return self._lab.run(self.host, ["podman", *_GLOBAL, *argv], check=True).stdout

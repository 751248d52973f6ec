"""A host that is a container: systemd-nspawn boots Debian's systemd on the machine's kernel."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from . import machine
from .box import Box

# $1 the host's cgroup, $2 its interface in the lab's namespace, $3 bridge, $4 MTU, $5... nspawn.
# nspawn makes the interface anew at each start and ends with 133 when the host asks for a reboot.
_LOOP = """
group=$1 device=$2 bridge=$3 mtu=$4
shift 4
while :; do
    ip link delete "$device" 2>/dev/null
    ( echo 0 > "$group/box/cgroup.procs" && exec "$@" ) &
    child=$!
    until ip link set "$device" master "$bridge" mtu "$mtu" up 2>/dev/null; do
        kill -0 "$child" 2>/dev/null || break
        sleep 0.02
    done
    wait "$child"
    [ $? -eq 133 ] || exit
done
"""

_NSPAWN = [
    "systemd-nspawn",
    "--quiet",
    # No machined, no scope unit: the lab runs where systemd is not the machine's init, too.
    "--register=no",
    "--keep-unit",
    # A host configures networks, runs containerd and nft.
    "--capability=all",
    "--system-call-filter=@keyring bpf",
    "--resolv-conf=off",
    "--timezone=off",
    "--link-journal=no",
    "--boot",
]

_NSPAWN_RUN = Path("/run/systemd/nspawn")


class Container(Box):
    """Its disk is an overlay on the image, the upper layer its own."""

    @property
    def patience(self) -> float:
        """Seconds that it may take to answer SSH; it takes one or two."""
        return 30.0

    @property
    def _machine(self) -> str:
        # Unique beside other labs: nspawn has a directory of this name in /run/systemd.
        return f"{self.netns}-{self.host.name}"

    def make_disk(self) -> None:
        """Mount the image with the host's own files over it."""
        root, work = self.directory / "root", self.disk / "work"
        root.mkdir()
        work.mkdir()
        options = f"lowerdir={self.lab / 'images' / self.image},upperdir={self.own},workdir={work}"
        machine.run(["mount", "-t", "overlay", "-o", options, "overlay", str(root)])

    def loop(self) -> list[str]:
        """Return the command that runs nspawn, again after each reboot."""
        nspawn = [*_NSPAWN, "-D", str(self.directory / "root"), "-M", self._machine]
        nspawn += [f"--hostname={self.host.name}", f"--network-veth-extra={self.host.name}:host0"]
        loop = ["/bin/sh", "-c", _LOOP, f"{self._machine}-loop", str(machine.cgroup(self.group))]
        return [*loop, self.host.name, self.host.segment.bridge, str(self.mtu), *nspawn]

    def forget(self) -> None:
        """Remove what systemd-nspawn leaves in /run for a container that has ended."""
        with contextlib.suppress(FileNotFoundError):
            status = (self.directory / "root").stat()
            lock = _NSPAWN_RUN / "locks" / f"inode-{status.st_dev}:{status.st_ino}"
            lock.unlink(missing_ok=True)
        for directory in (
            _NSPAWN_RUN / "propagate" / self._machine,
            _NSPAWN_RUN / "propagate",
            _NSPAWN_RUN / "locks",
            _NSPAWN_RUN,
        ):
            with contextlib.suppress(OSError):
                directory.rmdir()

    def leader(self) -> int:
        """Return the process id, as the machine sees it, of the host's init; 0 for none."""
        for pid in machine.processes(machine.cgroup(self.group)):
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    # Two ids: the machine's and the host's. A third is a container's on the host.
                    if line.startswith("NSpid:") and line.split()[2:] == ["1"]:
                        return pid
        return 0

    def inside(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` in the host's namespaces, in about 3 ms."""
        leader = f"--target={self.demand_on()}"
        return ["nsenter", leader, "--all", "--root", "--wdns=/", "--", *argv]

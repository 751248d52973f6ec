"""One host: a systemd-nspawn container with a disk of its own, on a bridge of the lab's namespace.

Its disk (an overlay on the image, its upper layer in the lab's tmpfs) lives as long as the lab;
its kernel state (network namespace, processes) as long as it is on. So a reboot or a power cut
loses exactly what a real host would lose.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import bytecode, inventory, machine
from .addresses import Host
from .errors import LabError

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

# $0 a cgroup, $@ what to leave running in it: it is there when this ends, so a host that was just
# started never looks as if it were off. The loop sits beside nspawn's cgroup, not in it: a cgroup
# with children holds no process.
_ENTER = 'echo 0 > "$0/cgroup.procs" && exec setsid --fork "$@"'

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

_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


@dataclass(frozen=True)
class Box:
    """A host's container. `lab` is the lab's state directory, with `disk` and `image` mounted."""

    host: Host
    lab: Path
    netns: str
    mtu: int

    @property
    def directory(self) -> Path:
        """Where this host's files on the machine lie: root (mounted), console.log."""
        return self.lab / "hosts" / self.host.name

    @property
    def _group(self) -> str:
        return f"{self.netns}/{self.host.name}"

    @property
    def _machine(self) -> str:
        # Unique beside other labs: nspawn has a directory of this name in /run/systemd.
        return f"{self.netns}-{self.host.name}"

    def create(self, *, keep_bytecode: bool = False) -> None:
        """Make the host's disk: the image with a name, an identity, keys and an address.

        `keep_bytecode`: its Python keeps what it compiles; see bytecode.py.
        """
        root = self.directory / "root"
        root.mkdir(parents=True)
        disk = self.lab / "disk" / self.host.name
        upper, work = disk / "upper", disk / "work"
        for directory in (upper, work):
            directory.mkdir(parents=True)
        self._seed(upper)
        if keep_bytecode:
            _keep_bytecode(upper)
        options = f"lowerdir={self.lab / 'image'},upperdir={upper},workdir={work}"
        machine.run(["mount", "-t", "overlay", "-o", options, "overlay", str(root)])

    def _seed(self, upper: Path) -> None:
        name = self.host.name
        key = upper / "etc/ssh/ssh_host_ed25519_key"
        authorized = upper / "root/.ssh/authorized_keys"
        network = upper / "etc/systemd/network/10-host0.network"
        for file in (key, authorized, network):
            file.parent.mkdir(parents=True, exist_ok=True)
        (upper / "root").chmod(0o700)
        (upper / "root/.ssh").chmod(0o700)
        machine.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key)])
        authorized.write_text((self.lab / "id_ed25519.pub").read_text())
        network.write_text(inventory.network_file(self.host, self.mtu))
        (upper / "etc/hostname").write_text(f"{name}\n")
        # Without it sudo and others would ask a DNS server that is not there for the own name.
        (upper / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost\n")
        (upper / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")

    def public_key(self) -> str:
        """Return the host's public key as known_hosts holds it: type and base64."""
        file = self.lab / "disk" / self.host.name / "upper/etc/ssh/ssh_host_ed25519_key.pub"
        return " ".join(file.read_text().split()[:2])

    def start(self) -> None:
        """Switch the host on; it is not ready yet when this returns."""
        group = machine.cgroup(self._group)
        machine.make_cgroup(group)
        (group / "loop").mkdir(exist_ok=True)
        (group / "box").mkdir(exist_ok=True)
        nspawn = [*_NSPAWN, "-D", str(self.directory / "root"), "-M", self._machine]
        nspawn += [f"--hostname={self.host.name}", f"--network-veth-extra={self.host.name}:host0"]
        loop = ["/bin/sh", "-c", _LOOP, f"{self._machine}-loop", str(group), self.host.name]
        loop += [self.host.segment.bridge, str(self.mtu), *nspawn]
        enter = ["/bin/sh", "-c", _ENTER, str(group / "loop")]
        with (self.directory / "console.log").open("ab") as log:
            # A session of its own: an interrupt at the terminal ends `lab up`, not the hosts.
            subprocess.run(
                [*enter, *machine.in_netns(self.netns, loop)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={**_ENVIRONMENT, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                check=True,
            )

    def is_on(self) -> bool:
        """Whether the host runs, or is on its way up or down."""
        return bool(machine.processes(machine.cgroup(self._group)))

    def cut(self) -> None:
        """End the host at once, as a power failure does. A host that is off stays off."""
        machine.end_cgroup(self._group)

    def destroy(self) -> None:
        """End the host and remove all there is of it."""
        self.cut()
        self.forget()
        machine.unmount_below(self.directory)
        machine.remove_tree(self.directory)
        machine.remove_tree(self.lab / "disk" / self.host.name)

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
        for pid in machine.processes(machine.cgroup(self._group)):
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    # Two ids: the machine's and the host's. A third is a container's on the host.
                    if line.startswith("NSpid:") and line.split()[2:] == ["1"]:
                        return pid
        return 0

    def inside(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` in the host's namespaces, in about 3 ms."""
        leader = self.leader()
        if not leader:
            raise LabError(f"{self.host.name} is off; `python -m lab start {self.host.name}`")
        return ["nsenter", f"--target={leader}", "--all", "--root", "--wdns=/", "--", *argv]

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


def _keep_bytecode(upper: Path) -> None:
    module, pth = upper / bytecode.MODULE, upper / bytecode.PTH
    module.parent.mkdir(parents=True)
    module.write_text(Path(bytecode.__file__).read_text())
    pth.write_text(bytecode.PTH_TEXT)
    (upper / bytecode.DIRECTORY.lstrip("/")).mkdir(parents=True)


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

"""A host that is a virtual machine: qemu boots a suite's own kernel and its systemd.

With hardware virtualisation where it works, else with an emulated processor, ten to twenty times
slower. Its disk is the image with its own changes in a file (qcow2) of the lab's tmpfs. What makes
it differ from others comes on a second disk, see image.py.
"""

from __future__ import annotations

import functools
import json
import platform
import shlex
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from . import image, machine
from .box import Box
from .errors import LabError

#: What a virtual machine has of memory, in MiB.
_MEMORY = 768

_KERNEL_LINE = "root=/dev/vda rw console=ttyS0 net.ifnames=0 mitigations=off audit=0 loglevel=5"

#: Whether hardware virtualisation works, as it was found since the machine booted.
_KVM = image.CACHE / "kvm.json"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

#: What a kernel prints when it has come through its start, and seconds to wait for it. Nested
#: virtualisation may open and then hang at the first lines.
_STARTED, _PROBE = b"Run /init", 10.0


class VirtualMachine(Box):
    """Its disk is a copy-on-write file over the image."""

    @property
    def patience(self) -> float:
        """Seconds that it may take to answer SSH: an emulated processor takes a minute and more."""
        return 300.0

    def make_disk(self) -> None:
        """Make the copy-on-write file, and the disk with the host's own files."""
        base = str(self._image / image.DISK)
        create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base]
        machine.run([*create, str(self.disk / "disk.qcow2")])
        # The name that a container's interface has.
        link = self.own / "etc/systemd/network/10-host0.link"
        link.write_text(f"[Match]\nMACAddress={self.host.mac}\nType=ether\n[Link]\nName=host0\n")
        files = ["-d", str(self.own), str(self.disk / "own.img"), "8M"]
        machine.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", *files])

    def loop(self) -> list[str]:
        """Return the command that runs qemu, again after each reboot."""
        script = Path(__file__).with_name("vm_loop.py")
        settings = [self.host.name, self.host.segment.bridge, str(self.mtu)]
        qemu = machine.in_cgroup(machine.cgroup(self.group) / "box", self._qemu())
        return [sys.executable, str(script), *settings, *qemu]

    def _qemu(self) -> list[str]:
        drive = "if=virtio,cache=unsafe"
        network = f"virtio-net-pci,netdev=net,romfile=,mac={self.host.mac},host_mtu={self.mtu}"
        return [
            *_boot(self._image, accelerator(self._image), _KERNEL_LINE),
            *("-name", f"{self.netns}-{self.host.name}", "-m", str(_MEMORY)),
            *("-drive", f"{drive},format=qcow2,file={self.disk / 'disk.qcow2'}"),
            *("-drive", f"{drive},format=raw,file={self.disk / 'own.img'}"),
            *("-netdev", f"tap,id=net,ifname={self.host.name},script=no,downscript=no"),
            *("-device", network, "-device", "virtio-rng-pci"),
        ]

    @property
    def _image(self) -> Path:
        return self.lab / "images" / self.image

    def forget(self) -> None:
        """Do nothing: all that it has lies in the lab's directory and namespace."""

    def leader(self) -> int:
        """Return the process id of qemu; 0 for none."""
        group = machine.cgroup(self.group) / "box"
        return next(iter(machine.processes(group)), 0)

    def inside(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` on the host, over an SSH connection that stays."""
        # Of this boot: a connection to the one before would be waited for until it is given up.
        path = f"{self.lab}/cp/{self.host.name}-{self.demand_on()}"
        shared = ["-o", "ControlMaster=auto", "-o", f"ControlPath={path}"]
        shared += ["-o", "ControlPersist=yes", "-o", "LogLevel=ERROR"]
        ssh = ["ssh", "-F", str(self.lab / "ssh_config"), *shared, self.host.name]
        return [*ssh, "--", f"cd /; exec {shlex.join(argv)}"]


def _boot(directory: Path, accel: str, line: str) -> list[str]:
    """Return qemu's command to boot an image's kernel, its console on standard output."""
    return [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"),
        # A warm reset takes an emulated machine minutes: it ends, and is started anew.
        *("-machine", "q35", "-accel", accel, "-cpu", "max", "-serial", "stdio", "-no-reboot"),
        *("-kernel", str(directory / image.KERNEL), "-initrd", str(directory / image.INITRD)),
        *("-append", line),
    ]


@functools.cache
def accelerator(directory: Path) -> str:
    """Return qemu's accelerator: kvm where a kernel of the image starts with it, else tcg."""
    if platform.machine() != "x86_64":
        raise LabError("virtual machines of a lab need an x86_64 machine; use containers")
    boot = _BOOT_ID.read_text().strip()
    try:
        known = json.loads(_KVM.read_text())
    except (OSError, ValueError):
        known = {}
    if known.get("boot") != boot:
        known = {"boot": boot, "works": Path("/dev/kvm").exists() and _kvm_works(directory)}
        _KVM.write_text(json.dumps(known))
    # What it has translated may take a gigabyte, by default.
    return "kvm" if known["works"] else "tcg,tb-size=256"


def _kvm_works(directory: Path) -> bool:
    command = [*_boot(directory, "kvm", "console=ttyS0 panic=-1"), "-m", "256"]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except FileNotFoundError as error:
        raise LabError(
            "qemu-system-x86_64 is not installed; `make apt-qemu` installs what virtual machines"
            " need"
        ) from error
    timer = threading.Timer(_PROBE, process.kill)
    timer.start()
    assert process.stdout is not None
    with process.stdout as console:
        started = any(_STARTED in line for line in console)
        process.kill()
    timer.cancel()
    process.wait()
    return started

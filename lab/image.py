"""What the hosts' disks begin as: a Debian made once by mmdebstrap and shared by all hosts.

A container's image is a directory tree, its disk an overlay on it. A virtual machine's is a file
with a filesystem, and the kernel and the initramfs to boot it with. An image lies in
.cache/lab/<hash of the recipe>/, so a changed recipe makes a new one. It is made in a directory
beside it and renamed when complete: an interrupted build is never used.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import machine, sources
from .errors import LabError

PROJECT = Path(__file__).resolve().parents[1]
CACHE = PROJECT / ".cache" / "lab"

DEFAULT_SUITE = "bookworm"

#: What a host can be: a container on the machine's kernel, or a virtual machine with its suite's.
CONTAINER, QEMU = "container", "qemu"
KINDS = (CONTAINER, QEMU)

_PACKAGES = """
systemd systemd-sysv dbus udev openssh-server sudo python3 procps git
iproute2 iputils-ping nftables iptables ethtool iperf3 tcpdump wireguard-tools wireguard-go
containernetworking-plugins containerd runc podman busybox-static
network-manager firewalld
"""
#: An ordinary Debian host with SSH and Python for Ansible; what podnet drives and a person looks
#: with; a container runtime and something to run in it; other people's tools to live with.
PACKAGES = _PACKAGES.split()

#: What a suite does not have, or only in a version that podnet does nothing for.
SUITE_LACKS = {"bullseye": {"wireguard-go", "podman"}}

#: What a virtual machine has besides: its kernel, and what boots it. It has no more than kernels
#: are tried with: each service takes an emulated processor seconds.
QEMU_PACKAGES = ["initramfs-tools", "zstd", "kmod"]

#: The kernel; where mirrors may lack the newest of a release in long-term support, that of its last
#: point release (apt-get(8): package/release).
QEMU_KERNEL = {"bullseye": "linux-image-cloud-amd64/bullseye"}
QEMU_LACKS = {"git", "iperf3", "wireguard-go", "containerd", "runc", "podman"}
QEMU_LACKS |= {"network-manager", "firewalld"}

#: Path in the image -> text.
FILES = {
    "etc/ssh/sshd_config.d/lab.conf": (
        "PermitRootLogin prohibit-password\n"
        "PasswordAuthentication no\n"
        "HostKey /etc/ssh/ssh_host_ed25519_key\n"
        "UseDNS no\n"
        # Many forks of one controller, and tests that connect anew for every command.
        "MaxStartups 200\n"
        "MaxSessions 200\n"
    ),
    # A new network namespace inherits IPv4 settings from the machine's own (ip-sysctl:
    # devconf_inherit_init_net). Where Docker has turned forwarding on there, hosts would start
    # with it too, and no test would notice that podnet forgot it.
    "usr/lib/sysctl.d/10-lab.conf": "net.ipv4.ip_forward = 0\n",
    "etc/resolv.conf": "",
    "etc/fstab": "",
}

ENABLE = ("systemd-networkd.service", "ssh.service")

#: Services that are there to be used, but that not every host shall spend its start on.
DISABLE = (
    "containerd.service",
    "nftables.service",
    "iperf3.service",
    "NetworkManager.service",
    "firewalld.service",
)

#: systemd-resolved: there is no DNS. The others would start work that nobody asked for.
MASK = (
    "systemd-resolved.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "console-getty.service",
)

#: Podman's, which needs none of them for `podman run`.
PODMAN_MASK = (
    "podman.service",
    "podman.socket",
    "podman-auto-update.service",
    "podman-auto-update.timer",
    "podman-restart.service",
    "podman-clean-transient.service",
    "netavark-dhcp-proxy.service",
    "netavark-dhcp-proxy.socket",
    "netavark-firewalld-reload.service",
)

QEMU_DISABLE = ("nftables.service",)

#: On virtual machines, whose boot is slow where the machine emulates their processor.
QEMU_MASK = (
    "serial-getty@ttyS0.service",
    "getty@tty1.service",
    "e2scrub_reap.service",
    "systemd-binfmt.service",
    "proc-sys-fs-binfmt_misc.automount",
    "systemd-pstore.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-kernel-config.mount",
    "sys-fs-fuse-connections.mount",
    "user@.service",
)

#: A root filesystem for test containers: `ctr run --rootfs /srv/busybox ...`.
BUSYBOX_ROOT = "srv/busybox"
_BUSYBOX_DIRS = ("bin", "dev", "etc", "proc", "sys", "tmp", "root")
_BUSYBOX_LINKS = ("sh", "ping", "ping6", "ip", "nc", "wget", "sleep", "cat", "ls", "httpd")

_MMDEBSTRAP = (
    "--variant=minbase",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    # A mirror or a resolver that hiccups shall not cost the whole build.
    '--aptopt=Acquire::Retries "5"',
)

#: A network of CNI that only tests of Podman should meet; what empties host-local's leases at each
#: boot, which is podnet's to show; its own test program, of 36 MB.
_MMDEBSTRAP_PODMAN = (
    "--dpkgopt=path-exclude=/usr/lib/tmpfiles.d/podman.conf",
    "--dpkgopt=path-exclude=/etc/cni/net.d/87-podman-bridge.conflist",
    "--dpkgopt=path-exclude=/usr/libexec/podman/podman-testing",
)

_PODMAN_EMPTY = ("etc/cni/net.d", "etc/cni")

#: For initramfs-tools(7): path below /etc/initramfs-tools -> (text, mode). Only the modules that
#: find the disk: unpacking all takes an emulated processor longer than the rest of the boot.
_INITRAMFS = {
    "conf.d/lab": ("MODULES=list\nCOMPRESS=zstd\n", 0o644),
    "hooks/lab": (
        '#!/bin/sh\n[ "$1" = prereqs ] && exit 0\n'
        ". /usr/share/initramfs-tools/hook-functions\n"
        "manual_add_modules virtio_pci virtio_blk ext4\n",
        0o755,
    ),
    # The second disk holds what makes this host differ from others: put on the first one before
    # systemd starts, as if it had always been there.
    "scripts/init-bottom/lab": (
        '#!/bin/sh\n[ "$1" = prereqs ] && exit 0\n'
        'mount -t ext4 -o ro /dev/vdb "$rootmnt/mnt" || exit 0\n'
        'chroot "$rootmnt" /bin/cp -a /mnt/. /\n'
        'umount "$rootmnt/mnt"\n',
        0o755,
    ),
}

#: What an image of a virtual machine consists of.
DISK, KERNEL, INITRD = "disk.img", "vmlinuz", "initrd.img"
_DISK_SIZE = "4G"


@dataclass(frozen=True)
class Image:
    """A suite's image for hosts of a kind."""

    suite: str = DEFAULT_SUITE
    kind: str = CONTAINER

    def __post_init__(self) -> None:
        """Refuse a suite or a kind that there is no recipe for."""
        if self.suite not in sources.SUITES:
            raise LabError(f"suite: {self.suite}: one of {', '.join(sources.SUITES)}")
        if self.kind not in KINDS:
            raise LabError(f"kind: {self.kind}: one of {', '.join(KINDS)}")

    @property
    def name(self) -> str:
        """How the image is called within a lab."""
        return f"{self.suite}-{self.kind}"

    def key(self) -> str:
        """Return the name of its directory: a hash of all that goes into it."""
        recipe = [self.suite, self.kind, self._packages(), FILES, ENABLE, DISABLE, self._masked()]
        recipe += [BUSYBOX_ROOT, _BUSYBOX_DIRS, _BUSYBOX_LINKS, self._options()]
        recipe += [_PODMAN_EMPTY] if "podman" in self._packages() else []
        if self.kind == QEMU:
            recipe += [_INITRAMFS, _DISK_SIZE]
        return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]

    def path(self) -> Path:
        """Return where the image lies, made or not."""
        return CACHE / self.key()

    def ensure(self) -> Path:
        """Return the image's directory; make the image first if it is not there.

        Raises LabError when mmdebstrap fails. Two callers at once make it once: the second
        waits. What an earlier one left that was killed is cleared.
        """
        image = self.path()
        if image.is_dir():
            return image
        machine.require_root()
        CACHE.mkdir(parents=True, exist_ok=True)
        with machine.lock(CACHE / ".lock"):
            if not image.is_dir():
                self._make(image)
        return image

    def _make(self, image: Path) -> None:
        group = f"podnet-image-{hashlib.sha256(str(CACHE).encode()).hexdigest()[:8]}"
        machine.end_cgroup(group)
        _remove_others()
        print(f"Making the {self.name} image {image} (once, about half a minute)", flush=True)
        work = Path(tempfile.mkdtemp(prefix=".making-", dir=CACHE))
        try:
            # mkdtemp gives 0700; this becomes the hosts' "/", which daemons must enter.
            work.chmod(0o755)
            self._debootstrap(work, machine.cgroup(group))
            self._customise(work)
            if self.kind == QEMU:
                _make_disk(work)
            work.rename(image)
        except BaseException:
            # mmdebstrap's children outlive it when it is killed, and would go on writing.
            machine.end_cgroup(group)
            _remove_tree(work)
            raise
        machine.end_cgroup(group)

    def _packages(self) -> list[str]:
        lacks = SUITE_LACKS.get(self.suite, set())
        if self.kind == QEMU:
            lacks = lacks | QEMU_LACKS
        kernel = QEMU_KERNEL.get(self.suite, "linux-image-cloud-amd64")
        more = [kernel, *QEMU_PACKAGES] if self.kind == QEMU else []
        return [one for one in PACKAGES if one not in lacks] + more

    def _masked(self) -> tuple[str, ...]:
        masked = MASK + (QEMU_MASK if self.kind == QEMU else ())
        return masked + (PODMAN_MASK if "podman" in self._packages() else ())

    def _options(self) -> tuple[str, ...]:
        return _MMDEBSTRAP + (_MMDEBSTRAP_PODMAN if "podman" in self._packages() else ())

    def _debootstrap(self, root: Path, group: Path) -> None:
        group.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=CACHE) as directory:
            scratch = Path(directory)
            files = sources.machine_sources(self.suite, scratch)
            command = ["mmdebstrap", *self._options(), f"--include={','.join(self._packages())}"]
            if self.kind == QEMU:
                command.append(f"--essential-hook=copy-in {_initramfs_tools(scratch)} /etc")
            command += [self.suite, str(root), *map(str, files)]
            log = CACHE / "mmdebstrap.log"
            with log.open("wb") as output:
                done = subprocess.run(
                    machine.in_cgroup(group, command),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **_apt_proxy(), "LC_ALL": "C.UTF-8"},
                    check=False,
                )
        if done.returncode:
            tail = log.read_text(errors="replace").splitlines()[-8:]
            raise LabError(
                f"mmdebstrap ended with status {done.returncode}; its last words (all in {log}):"
                "\n  " + "\n  ".join(tail)
            )
        log.unlink()

    def _customise(self, root: Path) -> None:
        for name, text in FILES.items():
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.write_text(text)
        # Every host gets its own from the lab; the package made some for the image.
        for host_key in (root / "etc/ssh").glob("ssh_host_*"):
            host_key.unlink()
        off = QEMU_DISABLE if self.kind == QEMU else DISABLE
        for action, units in (("enable", ENABLE), ("disable", off), ("mask", self._masked())):
            machine.run(["systemctl", f"--root={root}", "--quiet", action, *units])
        # Without them it shows whether podnet removes the directories that it makes.
        for name in _PODMAN_EMPTY if "podman" in self._packages() else ():
            (root / name).rmdir()
        busybox = root / BUSYBOX_ROOT
        for name in _BUSYBOX_DIRS:
            (busybox / name).mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / "bin/busybox", busybox / "bin/busybox")
        for name in _BUSYBOX_LINKS:
            (busybox / "bin" / name).symlink_to("busybox")


def _initramfs_tools(scratch: Path) -> Path:
    """Write initramfs-tools' configuration, to be there before the kernel's package calls it."""
    top = scratch / "initramfs-tools"
    for name, (text, mode) in _INITRAMFS.items():
        file = top / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
    return top


def _make_disk(work: Path) -> None:
    """Replace a tree by a filesystem that holds it, its kernel and its initramfs."""
    tree = work.with_name(f"{work.name}-tree")
    work.rename(tree)
    try:
        work.mkdir()
        for name, pattern in ((KERNEL, "vmlinuz-*"), (INITRD, "initrd.img-*")):
            (found,) = (tree / "boot").glob(pattern)
            shutil.copy2(found, work / name)
        # Without features that the oldest suite's kernel does not know.
        features = ["-O", "^orphan_file,^metadata_csum_seed"]
        command = ["mke2fs", "-q", "-t", "ext4", *features, "-d", str(tree)]
        machine.run([*command, str(work / DISK), _DISK_SIZE])
    finally:
        _remove_tree(tree)


def _apt_proxy() -> dict[str, str]:
    """Return apt's proxy as environment variables: mmdebstrap does not read /etc/apt/apt.conf."""
    shell = ["apt-config", "shell", "http_proxy", "Acquire::http::Proxy"]
    shell += ["https_proxy", "Acquire::https::Proxy"]
    found = re.findall(r"^(\w+)='([^']+)'$", machine.run(shell), re.MULTILINE)
    return {name: value for name, value in found if name not in os.environ}


def _remove_others() -> None:
    """Remove images of earlier recipes and half-made ones, unless a lab still runs on them."""
    used = machine.mount_roots()
    keys = {Image(suite, kind).key() for suite in sources.SUITES for kind in KINDS}
    for other in CACHE.iterdir():
        in_use = any(root == str(other) or str(other).endswith(root) for root in used)
        if other.is_dir() and other.name not in keys and not in_use:
            _remove_tree(other)


def _remove_tree(tree: Path) -> None:
    # An interrupted mmdebstrap may have left /proc or /dev mounted in there: never descend.
    machine.unmount_below(tree)
    machine.remove_tree(tree)

"""The hosts' root filesystem: made once with mmdebstrap, shared by all hosts as an overlay's base.

An image lies in .cache/lab/<hash of the recipe>/, so a changed recipe makes a new one. It is
made in a directory beside it and renamed when complete: an interrupted build is never used.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import machine
from .errors import LabError

PROJECT = Path(__file__).resolve().parents[1]
CACHE = PROJECT / ".cache" / "lab"

SUITE = "bookworm"

#: The suites of a Debian mirror that belong to SUITE; a third party's source has other names.
_SUITES = {SUITE, f"{SUITE}-updates", f"{SUITE}-security"}

_PACKAGES = """
systemd systemd-sysv dbus udev openssh-server python3 procps
iproute2 iputils-ping nftables iptables ethtool iperf3 tcpdump wireguard-tools wireguard-go
containernetworking-plugins containerd runc busybox-static
network-manager firewalld
"""
#: An ordinary Debian host with SSH and Python for Ansible; what podnet drives and a person looks
#: with; a container runtime and something to run in it; other people's tools to live with.
PACKAGES = _PACKAGES.split()

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

#: A root filesystem for test containers: `ctr run --rootfs /srv/busybox ...`.
BUSYBOX_ROOT = "srv/busybox"
_BUSYBOX_DIRS = ("bin", "dev", "etc", "proc", "sys", "tmp", "root")
_BUSYBOX_LINKS = ("sh", "ping", "ping6", "ip", "nc", "wget", "sleep", "cat", "ls", "httpd")

_APT = Path("/etc/apt")


def key() -> str:
    """Return the name of the image that this recipe makes: a hash of all that goes into it."""
    recipe = [SUITE, PACKAGES, FILES, ENABLE, DISABLE, MASK, BUSYBOX_ROOT, _BUSYBOX_DIRS]
    text = json.dumps([*recipe, _BUSYBOX_LINKS, _MMDEBSTRAP])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


_MMDEBSTRAP = (
    "--variant=minbase",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    # A mirror or a resolver that hiccups shall not cost the whole build.
    '--aptopt=Acquire::Retries "5"',
)


def path() -> Path:
    """Return where the image lies, made or not."""
    return CACHE / key()


def ensure() -> Path:
    """Return the image's directory; make the image first if it is not there.

    Raises LabError when mmdebstrap fails. Two callers at once make it once: the second
    waits. What an earlier one left that was killed is cleared.
    """
    image = path()
    if image.is_dir():
        return image
    machine.require_root()
    CACHE.mkdir(parents=True, exist_ok=True)
    with machine.lock(CACHE / ".lock"):
        if image.is_dir():
            return image
        group = f"podnet-image-{hashlib.sha256(str(CACHE).encode()).hexdigest()[:8]}"
        machine.end_cgroup(group)
        _remove_others(image)
        print(f"Making the hosts' image {image} (once, about half a minute)", flush=True)
        work = Path(tempfile.mkdtemp(prefix=".making-", dir=CACHE))
        try:
            # mkdtemp gives 0700; this becomes the hosts' "/", which daemons must enter.
            work.chmod(0o755)
            _debootstrap(work, machine.cgroup(group))
            _customise(work)
            work.rename(image)
        except BaseException:
            # mmdebstrap's children outlive it when it is killed, and would go on writing.
            machine.end_cgroup(group)
            _remove_tree(work)
            raise
        machine.end_cgroup(group)
    return image


def _debootstrap(root: Path, group: Path) -> None:
    group.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=CACHE) as scratch:
        sources = _machine_sources(Path(scratch))
        command = ["mmdebstrap", *_MMDEBSTRAP, f"--include={','.join(PACKAGES)}"]
        command += [SUITE, str(root), *map(str, sources)]
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
            f"mmdebstrap ended with status {done.returncode}; its last words (all in {log}):\n  "
            + "\n  ".join(tail)
        )
    log.unlink()


def _customise(root: Path) -> None:
    for name, text in FILES.items():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_text(text)
    # Every host gets its own from the lab; the package made some for the image.
    for host_key in (root / "etc/ssh").glob("ssh_host_*"):
        host_key.unlink()
    for action, units in (("enable", ENABLE), ("disable", DISABLE), ("mask", MASK)):
        machine.run(["systemctl", f"--root={root}", "--quiet", action, *units])
    busybox = root / BUSYBOX_ROOT
    for name in _BUSYBOX_DIRS:
        (busybox / name).mkdir(parents=True, exist_ok=True)
    shutil.copy2(root / "bin/busybox", busybox / "bin/busybox")
    for name in _BUSYBOX_LINKS:
        (busybox / "bin" / name).symlink_to("busybox")


def _machine_sources(scratch: Path) -> list[Path]:
    """Copy the machine's own apt sources for SUITE into `scratch`; return the files.

    The machine's mirror, its keyring and its options are thus the image's, whatever they are.
    """
    lines: list[str] = []
    stanzas: list[str] = []
    for file in [_APT / "sources.list", *sorted((_APT / "sources.list.d").glob("*"))]:
        if not file.is_file():
            continue
        if file.suffix == ".list":
            lines += one_line_sources(file.read_text())
        elif file.suffix == ".sources":
            stanzas += deb822_sources(file.read_text())
    result = []
    for name, texts, between in (("lab.list", lines, "\n"), ("lab.sources", stanzas, "\n\n")):
        if texts:
            (scratch / name).write_text(between.join(texts) + "\n")
            result.append(scratch / name)
    if not result:
        raise LabError(
            f"no apt source in {_APT} offers Debian {SUITE} main; "
            f"add one (sources.list(5)), the hosts' image is made from it"
        )
    return result


def one_line_sources(text: str) -> list[str]:
    """Return the lines of a sources.list(5) file that offer SUITE's main component."""
    pattern = re.compile(r"deb\s+(?:\[[^]]*\]\s+)?\S+\s+(?P<suite>\S+)\s+(?P<components>.+)")
    found = (pattern.fullmatch(line.strip()) for line in text.splitlines())
    return [
        match[0]
        for match in found
        if match and _offers([match["suite"]], match["components"].split())
    ]


def deb822_sources(text: str) -> list[str]:
    """Return the stanzas of a .sources file (sources.list(5)) that offer SUITE's main component."""
    result = []
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", text.strip()):
        fields = dict(_fields(stanza))
        wanted = _offers(fields.get("suites", "").split(), fields.get("components", "").split())
        enabled = fields.get("enabled", "yes").lower() not in {"no", "false", "0", "off"}
        if wanted and enabled and "deb" in fields.get("types", "").split():
            result.append(stanza)
    return result


def _fields(stanza: str) -> Iterator[tuple[str, str]]:
    for part in re.split(r"\n(?=\S)", stanza):
        name, _, value = part.partition(":")
        yield name.strip().lower(), value.strip()


def _offers(suites: Iterable[str], components: Iterable[str]) -> bool:
    return bool(_SUITES & {suite.rstrip("/") for suite in suites}) and "main" in components


def _apt_proxy() -> dict[str, str]:
    """Return apt's proxy as environment variables: mmdebstrap does not read /etc/apt/apt.conf."""
    shell = ["apt-config", "shell", "http_proxy", "Acquire::http::Proxy"]
    shell += ["https_proxy", "Acquire::https::Proxy"]
    found = re.findall(r"^(\w+)='([^']+)'$", machine.run(shell), re.MULTILINE)
    return {name: value for name, value in found if name not in os.environ}


def _remove_others(image: Path) -> None:
    """Remove images of earlier recipes and half-made ones, unless a lab still runs on them."""
    used = machine.mount_roots()
    for other in CACHE.iterdir():
        in_use = any(root == str(other) or str(other).endswith(root) for root in used)
        if other.is_dir() and other != image and not in_use:
            _remove_tree(other)


def _remove_tree(tree: Path) -> None:
    # An interrupted mmdebstrap may have left /proc or /dev mounted in there: never descend.
    machine.unmount_below(tree)
    machine.remove_tree(tree)

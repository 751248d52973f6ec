"""The files that rebuild the network at boot, without podnet, Python or a controller.

They are plain input of `ip -batch`, `bridge -batch`, `nft -f` and systemd-sysctl, and lie
together in /etc/podnet/NAME/boot, a link to the directory that holds one whole state. A new state
is written beside it, and then the link is moved: a power cut leaves one or the other.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from pathlib import Path
from typing import Iterable, Iterator

from . import files
from .diff import add_link, route_line, table_lines
from .errors import PodnetError
from .record import directory
from .state import State

UNIT = "/etc/systemd/system/podnet@.service"

#: A oneshot that stays "active" tells `systemctl status` what was replayed. `-` before a command:
#: a device that is there already is no failure (`ip -force` goes on with the next line). The
#: last command is without -force on purpose: see endpoint_diff.boot_files.
UNIT_TEXT = """\
# Made by podnet. Rebuilds the pod network %i from the files in /etc/podnet/%i/boot.
[Unit]
Description=podnet: pod network %i
Documentation=file:///etc/podnet/%i/boot
After=network-online.target systemd-networkd.service NetworkManager.service networking.service
After=nftables.service iptables.service systemd-sysctl.service
Wants=network-online.target
Before=containerd.service docker.service crio.service podman.service kubelet.service
Before=k3s.service nomad.service
ConditionPathExists=/etc/podnet/%i/boot

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/lib/systemd/systemd-sysctl /etc/podnet/%i/boot/sysctl.conf
ExecStart=-/sbin/ip -force -batch /etc/podnet/%i/boot/devices.batch
ExecStart=/sbin/bridge -batch /etc/podnet/%i/boot/fdb.batch
ExecStart=-/sbin/ip -force -batch /etc/podnet/%i/boot/routes.batch
ExecStart=/usr/sbin/nft -f /etc/podnet/%i/boot/tables.nft
ExecStart=-/sbin/ip -force -batch /etc/podnet/%i/endpoints.batch
ExecStart=-/sbin/ip -batch /etc/podnet/%i/endpoints-inside.batch

[Install]
WantedBy=multi-user.target
"""


def wants(name: str) -> str:
    """Return the link that enables a network's unit, as `systemctl enable` makes it."""
    return f"/etc/systemd/system/multi-user.target.wants/podnet@{name}.service"


def unit_files(name: str) -> dict[str, str]:
    """Return the unit and the link that enables it, as `state.State.files` has them."""
    return {UNIT: UNIT_TEXT, wants(name): f"-> {UNIT}"}


def render(state: State) -> dict[str, str]:
    """Return the boot files that lead from a freshly booted host to `state`.

    All lines but the creation of devices can be replayed at any time without harm.
    """
    devices: list[str] = []
    for name, link in sorted(state.links.items(), key=lambda item: item[1].kind):
        create, *rest = add_link(name, link)
        devices += [create, f"link set dev {name} mtu {link.mtu}"]
        if link.mac:
            devices.append(f"link set dev {name} address {link.mac}")
        devices += rest
    devices += [
        f"addr replace {cidr} dev {device}{_flags(cidr)}" for device, cidr in state.addresses
    ]
    routes = [
        f"neigh replace {address} lladdr {mac} dev {device} nud permanent"
        for (device, address), mac in state.neighbours.items()
    ]
    routes += [route_line(destination, body) for destination, body in state.routes.items()]
    fdb = [
        f"fdb replace {mac} dev {device} dst {remote.split(',')[0]} self permanent"
        for (device, mac), remote in state.fdb.items()
    ]
    tables: list[str] = []
    for table, chains in state.tables.items():
        tables += table_lines(table, chains)
    return {
        "sysctl.conf": _text(f"{key} = {value}" for key, value in state.sysctls.items()),
        "devices.batch": _text(devices),
        "fdb.batch": _text(fdb),
        "routes.batch": _text(routes),
        "tables.nft": _text(tables),
    }


def _flags(cidr: str) -> str:
    return " nodad" if ":" in cidr else ""


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def read(name: str) -> dict[str, str]:
    """Return the boot files that lie on the host, {} where there are none."""
    top = Path(directory(name)) / "boot"
    try:
        return {one.name: one.read_text() for one in sorted(top.iterdir()) if one.is_file()}
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return {}
    except OSError as error:
        raise PodnetError(f"{top}: cannot be read ({error.strerror})") from error


def write(name: str, contents: dict[str, str]) -> None:
    """Replace the boot files by `contents` as one; {} removes them."""
    top = Path(directory(name))
    link = top / "boot"
    keep = ""
    if contents:
        digest = hashlib.sha256(repr(sorted(contents.items())).encode()).hexdigest()[:12]
        keep = f"boot.{digest}"
        for file, text in contents.items():
            files.write_text(str(top / keep / file), text)
        if link.exists() and not link.is_symlink():
            raise PodnetError(f"{link}: not the link that podnet made; move it out of the way")
        beside = top / f".boot-{os.getpid()}"
        with _explained(link):
            beside.symlink_to(keep)
            beside.rename(link)
    else:
        files.remove_file(str(link))
    if top.is_dir():
        for old in top.glob("boot.*"):
            if old.name != keep:
                with contextlib.suppress(OSError):
                    shutil.rmtree(old)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PodnetError(f"{path}: cannot write it ({error.strerror})") from error

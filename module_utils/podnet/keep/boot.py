"""The files that rebuild the network at boot, without podnet, Python or a controller.

They are plain input of `ip -batch`, `bridge -batch`, `nft -f`, sysctl and modprobe, which a script
feeds to these tools (`replay`). /etc/podnet/NAME/boot is a link to a directory that holds all files
of one state. A new state is written to a directory beside that one, and then the link is moved: a
power cut leaves either the old state or the new.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Iterable

from ..backends.registry import MAIN_KINDS, boot_files
from ..core.errors import PodnetError
from ..core.host_view import HostView
from ..core.state import State
from ..state import forwarding, managers
from ..state.diff import add_link, route_line, table_lines
from . import files, health, repair, replay
from .lock import DIRECTORY
from .record_file import directory
from .timer import SYSTEMD

UNIT = f"{SYSTEMD}/podnet@.service"
WAIT_UNIT = f"{SYSTEMD}/podnet-wait@.service"
ONLINE_UNIT = f"{SYSTEMD}/podnet-online@.service"

#: The unit stays "active" when it is done, so `systemctl status` shows what was replayed. It is
#: ordered after services that load firewall rules or sysctls at boot, and before those that start
#: pods. It does not wait for network-online.target, which may take minutes: pods would wait, too.
UNIT_TEXT = f"""\
# Made by podnet. Rebuilds the pod network %i from the files in /etc/podnet/%i/boot.
[Unit]
Description=podnet: pod network %i
Documentation=file://{replay.PATH}
After=systemd-networkd.service NetworkManager.service networking.service
After=systemd-sysctl.service nftables.service iptables.service ip6tables.service
After=netfilter-persistent.service firewalld.service ufw.service
Before=containerd.service docker.service crio.service kubelet.service
Before=podman.service podman-restart.service
Before=k3s.service k3s-agent.service rke2-server.service rke2-agent.service nomad.service
ConditionPathExists=/etc/podnet/%i/boot
OnFailure=podnet-wait@%i.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh {replay.PATH} %i boot
TimeoutStartSec=120

[Install]
WantedBy=multi-user.target
"""

#: Starts when the unit above has failed, tries until all is replayed, and then starts that unit
#: again. No unit is ordered after this one, so none waits for it.
WAIT_TEXT = f"""\
# Made by podnet. Rebuilds the pod network %i when podnet@%i could not: an address is late.
[Unit]
Description=podnet: wait for what pod network %i lacks
Documentation=file://{replay.PATH}
ConditionPathExists=/etc/podnet/%i/boot

[Service]
Type=simple
ExecStart=/bin/sh {replay.PATH} %i wait
Restart=on-failure
RestartSec=10
"""

#: Replays again once the host's network is up: whatever configures the host's links may remove
#: addresses and set them again, and the kernel removes the routes over them.
ONLINE_TEXT = f"""\
# Made by podnet. Looks at the pod network %i again when the host's own network is up.
[Unit]
Description=podnet: look at pod network %i again
Documentation=file://{replay.PATH}
After=network-online.target podnet@%i.service
ConditionPathExists=/etc/podnet/%i/boot
OnFailure=podnet-wait@%i.service

[Service]
Type=oneshot
ExecStart=/bin/sh {replay.PATH} %i
TimeoutStartSec=120

[Install]
WantedBy=network-online.target
"""

#: podnet's files that all networks of a host share; they go with the last network.
SHARED = (UNIT, WAIT_UNIT, ONLINE_UNIT, replay.PATH, managers.NETWORKD_CONF)


def wants(name: str) -> str:
    """Return the link that enables a network's unit, as `systemctl enable` makes it."""
    return f"{SYSTEMD}/multi-user.target.wants/podnet@{name}.service"


def unit_files(name: str) -> dict[str, str]:
    """Return path -> content of the units, their script and the links that enable them.

    The content of a link is "-> TARGET", as in `State.files`.
    """
    return {
        replay.PATH: replay.SCRIPT,
        WAIT_UNIT: WAIT_TEXT,
        ONLINE_UNIT: ONLINE_TEXT,
        UNIT: UNIT_TEXT,
        wants(name): f"-> {UNIT}",
        f"{SYSTEMD}/network-online.target.wants/podnet-online@{name}.service": f"-> {ONLINE_UNIT}",
    }


def paths(name: str) -> list[str]:
    """Return all paths outside /etc/podnet/NAME/boot where a file of this network may lie."""
    return [
        *unit_files(name),
        *repair.paths(name),
        *health.paths(name),
        *managers.paths(name),
    ]


def own_paths(name: str) -> list[str]:
    """Return those of `paths` that are removed with the network: SHARED only with the last one."""
    enabled = Path(SYSTEMD).glob("*.wants/podnet@*.service")
    if all(one.name == f"podnet@{name}.service" for one in enabled):
        return paths(name)
    return [path for path in paths(name) if path not in SHARED]


def render(state: State) -> dict[str, str]:
    """Return name -> text of the boot files that lead from a freshly booted host to `state`.

    All lines can be replayed at any time without harm, except those that create devices.
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
        for (device, address), mac in sorted(state.neighbours.items())
    ]
    routes += [
        route_line(destination, state.routes[destination]) for destination in _ordered(state)
    ]
    tables: list[str] = []
    for table, chains in state.tables.items():
        tables += table_lines(table, chains, state.members)
    return {
        "sysctl.conf": _text(
            f"{key} = {value}" for key, value in forwarding.ordered(state.sysctls)
        ),
        "devices.batch": _text(devices),
        "routes.batch": _text(routes),
        "tables.nft": _text(tables),
        "accepts": _text(" ".join(one) for one in state.accepts),
        **({"modules": _text(sorted(state.modules))} if state.modules else {}),
        **boot_files(state),
    }


def by_address(contents: dict[str, str], host: HostView) -> dict[str, str]:
    """Return the boot files `contents` without names of the host's own interfaces.

    An interface may have another name after a boot. So `@4` and `@6` stand for the one that holds
    the node's IPv4 or IPv6 address; the file `underlay` has a line FAMILY ADDRESS NAME for each.
    """
    result = dict(contents)
    used = []
    for family, own in sorted(host.underlay.items()):
        if not own.holder:
            continue
        device = re.escape(own.holder)
        key = re.escape(own.holder.replace(".", "/"))
        before = dict(result)
        for file in ("routes.batch", *(kind.boot_file for kind in MAIN_KINDS.values())):
            text = result.get(file, "")
            result[file] = re.sub(
                rf" (dev|via) {device}(?= |$)", rf" \1 @{family}", text, flags=re.M
            )
        text = result.get("sysctl.conf", "")
        result["sysctl.conf"] = re.sub(rf"\.conf\.{key}\.", f".conf.@{family}.", text)
        if result != before:
            used.append(f"{family} {own.address} {own.holder}")
    if used:
        result["underlay"] = _text(sorted(used))
    return result


def _ordered(state: State) -> list[str]:
    """Return destinations in an order that depends on nothing but them.

    So no file changes when a peer moves in the inventory. Routes to single addresses come first:
    the IPv6 gateways of other routes need them.
    """
    return sorted(state.routes, key=lambda one: (not one.endswith(("/128", "/32")), one))


def _flags(cidr: str) -> str:
    return " nodad" if ":" in cidr else ""


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def top(name: str) -> str:
    """Return the path of the boot files: a link to the directory of the current state."""
    return f"{directory(name)}/boot"


def read(name: str) -> dict[str, str]:
    """Return name -> text of the boot files on the host, {} where there are none.

    Raises PodnetError if they cannot be read.
    """
    try:
        paths = sorted(Path(top(name)).iterdir())
        return {one.name: one.read_text() for one in paths if one.is_file()}
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return {}
    except OSError as error:
        raise PodnetError(f"{top(name)}: cannot be read ({error.strerror})") from error


def write(name: str, contents: dict[str, str]) -> None:
    """Replace all boot files by `contents` (name -> text) in one step; {} removes them."""
    top = Path(directory(name))
    link = top / "boot"
    if contents:
        digest = hashlib.sha256(repr(sorted(contents.items())).encode()).hexdigest()[:12]
        keep = f"boot.{digest}"
        for file, text in contents.items():
            files.write_text(str(top / keep / file), text)
        if link.exists() and not link.is_symlink():
            raise PodnetError(f"{link}: not the link that podnet made; move it out of the way")
        files.write_link(str(link), keep)
    else:
        files.remove_file(str(link))
        for kept in ("seen", "seen.failed", "leases"):
            files.remove_file(f"{DIRECTORY}/{name}.{kept}")
        health.forget(name)
    sweep(name)


def sweep(name: str) -> None:
    """Remove the directories of states that the link does not lead to.

    An earlier run that was killed may have left one.
    """
    top = Path(directory(name))
    link = top / "boot"
    keep = os.readlink(link) if link.is_symlink() else ""
    for old in top.glob("boot.*"):
        if old.name != keep:
            with contextlib.suppress(OSError):
                shutil.rmtree(old)

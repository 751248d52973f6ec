"""Podman on a host: by which backend it can use the network, and why by none.

Podman 4 can use the CNI file that all runtimes of the host use, if it is told to take its networks
from CNI. Podman 5 knows netavark alone, which gives out addresses by itself: it gets a network of
its own on the same bridge, with a range that host-local never hands out. netavark before 1.14
removes a bridge with its last container; since then it leaves an `unmanaged` one alone.
"""

from __future__ import annotations

import json
import mmap
import re
from pathlib import Path
from types import MappingProxyType
from typing import Iterable, Mapping, NamedTuple

from ..core.errors import PodnetError
from ..core.model import Node, Plan
from ..core.ranges import Range, of_cidr, parse
from ..keep import leases
from ..kernel import run
from . import podman_file
from .podman_file import CNI, NETAVARK

#: Where Podman's programs are: its default `helper_binaries_dir` (containers.conf(5)).
HELPERS = (
    "/usr/local/libexec/podman",
    "/usr/local/lib/podman",
    "/usr/libexec/podman",
    "/usr/lib/podman",
)

#: Where the distribution has its part of Podman's configuration.
VENDOR = "/usr/share/containers"

#: Containers and images of root, and the file in it that names the backend that was chosen first.
STORE = "/var/lib/containers/storage"

#: Words that mean something else than a network after `podman run --network`.
_WORDS = (
    *("podman", "default", "bridge", "container", "host", "none", "ns", "pasta", "private"),
    "slirp4netns",
)

_SETTING = re.compile(
    r"""^[ \t]*(network_backend|network_config_dir)[ \t]*=[ \t]*["']([^"'\n]*)["']""", re.M
)
_VERSION = re.compile(r"\b(\d{1,4})\.(\d{1,4})\b")

#: What a Podman that was built without CNI says when it is told to use it.
_NO_CNI = b"cni support is not enabled in this build"

_UNSET = "or set podnet_podman to false"


class Podman(NamedTuple):
    """Podman as it is on a host.

    `version` and `netavark` are what the programs print of themselves, "" where one is not there.
    `settings` are those of _SETTING that its configuration has, each with the file that says so.
    `containers` is how many it has that were made with netavark, as far as it is known: 0 where it
    is told to use CNI. `no_cni`: it was built without CNI.
    """

    version: str = ""
    netavark: str = ""
    settings: Mapping[str, tuple[str, str]] = MappingProxyType({})
    containers: int = 0
    no_cni: bool = False


def ask(own: str, told: bool) -> Podman:
    """Ask the programs of this host for their versions, and read Podman's configuration.

    `own` is the path of podnet's drop-in, which does not count; `told`: an earlier run wrote it.
    """
    version = _printed("podman")
    if not version:
        return Podman()
    netavark = next(filter(None, (_printed(f"{one}/netavark") for one in HELPERS)), "")
    settings = _settings(own)
    # What the store says was chosen before it was told; containers have been made since.
    told = told or settings.get("network_backend", ("",))[0] == CNI
    return Podman(version, netavark, settings, 0 if told else _containers(), _lacks_cni())


def _lacks_cni() -> bool:
    """Whether Podman was built without CNI: to make it say so would make its storage, too."""
    try:
        with Path(run.find("podman")).open("rb") as program, mmap.mmap(
            program.fileno(), 0, access=mmap.ACCESS_READ
        ) as code:
            return code.find(_NO_CNI) >= 0
    except (OSError, ValueError, PodnetError):
        return False


def _printed(program: str) -> str:
    try:
        done = run.run([program, "--version"])
    except PodnetError:
        return ""
    return done.output.strip()[:80] if done.code == 0 else ""


def _settings(own: str) -> dict[str, tuple[str, str]]:
    """Return what files but `own` set, as Podman reads them: a later one wins."""
    found: dict[str, tuple[str, str]] = {}
    drop_ins = sorted(Path(podman_file.DIRECTORY, "containers.conf.d").glob("*.conf"))
    for file in (
        *(Path(VENDOR, "containers.conf"), Path(podman_file.DIRECTORY, "containers.conf")),
        *drop_ins,
    ):
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if str(file) != own:
            found.update((key, (value, str(file))) for key, value in _SETTING.findall(text))
    return found


def _containers() -> int:
    """Return how many containers of root's Podman has that were made with netavark."""
    try:
        if Path(STORE, "defaultNetworkBackend").read_text().strip() != NETAVARK:
            return 0
        listed = [
            json.loads(one.read_text()) for one in Path(STORE).glob("*-containers/containers.json")
        ]
    except (OSError, ValueError):
        return 0
    return sum(len(one) for one in listed if isinstance(one, list))


def backend(plan: Plan, node: Node, found: Podman, endpoints: Iterable[str]) -> str:
    """Return by which backend Podman can use the network; raise PodnetError if by none.

    `endpoints` are addresses of static endpoints.
    """
    label = f"{node.name}: podnet_podman"
    if not found.version:
        raise PodnetError(f"{label}: Podman is not on this host; install it, {_UNSET}")
    if plan.name in _WORDS:
        raise PodnetError(
            f"{label}: podnet_name is {plan.name!r}, which means something else to podman run "
            f"--network; choose another name, {_UNSET}"
        )
    version = _version(found.version)
    if version is None or version < (4, 0):
        raise PodnetError(
            f"{label}: {found.version!r} is not known to work; podnet needs Podman 4, or 5.4 with "
            f"netavark 1.14; install that, {_UNSET}"
        )
    if version < (5, 0):
        _demand_cni(plan, label, found)
        return CNI
    netavark = _version(found.netavark)
    if version < (5, 4) or netavark is None or netavark < (1, 14):
        raise PodnetError(
            f"{label}: this host has {found.version!r} and {found.netavark or 'no netavark'!r}. "
            "netavark before 1.14 removes the bridge with its last container; install Podman 5.4 "
            f"and netavark 1.14 or newer, {_UNSET}"
        )
    _demand_directory(label, found, podman_file.networks())
    _demand_own_range(plan, node, endpoints)
    return NETAVARK


def _version(text: str) -> tuple[int, int] | None:
    match = _VERSION.search(text)
    return (int(match[1]), int(match[2])) if match else None


def _demand_cni(plan: Plan, label: str, found: Podman) -> None:
    if found.no_cni:
        raise PodnetError(
            f"{label}: {found.version!r} was built without CNI, and before 5.4 it has no other way;"
            f" install Podman 5.4 and netavark 1.14 or newer, {_UNSET}"
        )
    value, file = found.settings.get("network_backend", ("", ""))
    if value not in ("", CNI):
        raise PodnetError(
            f"{label}: {file} sets network_backend to {value!r}, and with that {found.version!r} "
            "removes the bridge with its last container; take that line out (Podman asks for "
            f"`podman system reset` then, which removes all its containers), {_UNSET}"
        )
    if found.containers:
        raise PodnetError(
            f"{label}: Podman has {found.containers} container(s) made with netavark, and they "
            "would lose their network when podnet sets network_backend to 'cni'; remove them "
            f"(podman rm), {_UNSET}"
        )
    _demand_directory(label, found, plan.cni.conf_dir)


def _demand_directory(label: str, found: Podman, wanted: str) -> None:
    value, file = found.settings.get("network_config_dir", ("", ""))
    if value.rstrip("/") not in ("", wanted):
        raise PodnetError(
            f"{label}: {file} sets network_config_dir to {value!r}, so Podman does not look into "
            f"{wanted}; take that line out, {_UNSET}"
        )


def _demand_own_range(plan: Plan, node: Node, endpoints: Iterable[str]) -> None:
    """Raise PodnetError unless netavark has a range of each family in which no other address is."""
    label = f"{node.name}: podnet_podman_range"
    for subnet in filter(None, (node.subnet, node.subnet6)):
        if not podman_file.own_range(node, subnet):
            raise PodnetError(
                f"{label}: has no range of {subnet}. Podman 5 gives out addresses by itself and "
                "does not see those of CNI, so it needs a range of its own, such as "
                f"{_example(subnet)}; set it for this host or for the whole group"
            )
    ranges = [parse(one) for one in node.podman_range]
    for what, addresses in (("a pod", leases.addresses(plan.name)), ("an endpoint", endpoints)):
        for one in addresses:
            if any(parse(one).is_inside(each) for each in ranges):
                lease = f" ({leases.directory(plan.name)}/{one})" if what == "a pod" else ""
                raise PodnetError(
                    f"{label}: {', '.join(node.podman_range)} holds {one}, which {what} "
                    f"has{lease}; end that first, or choose another range. The range is kept from "
                    "new pods also with podnet_podman: false"
                )


def _example(subnet: str) -> str:
    """Return a part of a subnet that a range could be."""
    size, first, last = of_cidr(subnet)
    begin = first + min((last - first + 1) // 2, 1 << 15)
    return Range(size, begin, begin + min((last - first) // 4, 255)).text()

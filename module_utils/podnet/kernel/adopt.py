"""Read what flannel has on a host besides devices and routes, and remove it."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from pathlib import Path
from typing import Any, Iterator

from ..core.errors import PodnetError
from ..core.model import is_file_name
from ..core.state import Leftover
from ..keep import files, leases
from ..state.adopt import Found
from . import forward, services
from .run import SEARCH, nft_document, run

#: flanneld writes it once it has its subnet; the flannel CNI plugin reads it.
SUBNET_ENV = "/run/flannel/subnet.env"

#: Where the flannel CNI plugin keeps the configuration of each pod, and host-local its leases.
PLUGIN_STATE = "/var/lib/cni/flannel"

#: The usual names of a systemd unit that runs flanneld.
UNITS = ("flanneld.service", "flannel.service")

_CHAIN = re.compile(r"FLANNEL-[A-Z0-9-]+\Z")
_TABLES = {("ip", "flannel-ipv4"), ("ip6", "flannel-ipv6")}
#: Table -> base chain from which rules jump to flannel's chains.
_ENTRIES = {"nat": "POSTROUTING", "filter": "FORWARD"}


def has_environment() -> bool:
    """Whether a flanneld has written SUBNET_ENV since the host booted."""
    return Path(SUBNET_ENV).exists()


def read(name: str, conf_dir: str) -> Found:
    """Return what flannel has on this host; `name` is podnet's network that would replace it.

    `conf_dir` is the directory of the CNI configurations.
    """
    configs = dict(cni_configs(conf_dir))
    leftovers: dict[str, Leftover] = {}
    loose, units = [], set()
    for pid, unit in _daemons():
        if unit:
            units.add(unit)
        else:
            loose.append(pid)
    leftovers.update(_units(units))
    for path in (str(Path(SUBNET_ENV).parent), PLUGIN_STATE):
        if Path(path).is_dir():
            leftovers[path] = Leftover("tree", (path,))
    for network in dict.fromkeys([*configs.values(), "cbr0"]):
        if network != name and Path(leases.directory(network)).is_dir():
            leftovers[f"leases of network {network}"] = Leftover(
                "leases", (leases.directory(network), leases.directory(name))
            )
    leftovers.update(_nft())
    leftovers.update(_legacy())
    return Found(tuple(loose), _environment(), configs, leftovers)


def _environment() -> dict[str, str]:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        lines = Path(SUBNET_ENV).read_text().splitlines()
        return {
            key: value for key, _mark, value in (line.partition("=") for line in lines) if value
        }
    return {}


def _daemons() -> Iterator[tuple[int, str]]:
    """Yield (process, its systemd unit or "") of every flanneld that works on this host's network.

    A flanneld in a container has the host's network namespace, too.
    """
    home = Path("/proc/self/ns/net").stat().st_ino
    for one in Path("/proc").iterdir():
        # A process may end while we look.
        with contextlib.suppress(OSError):
            if not one.name.isdigit() or (one / "comm").read_text().strip() != "flanneld":
                continue
            if (one / "ns/net").stat().st_ino == home:
                yield int(one.name), _unit((one / "cgroup").read_text())


def _unit(cgroups: str) -> str:
    """Return the one of UNITS that a process belongs to by its /proc/PID/cgroup, "" for none."""
    for line in cgroups.splitlines():
        last = line.rpartition("/")[2]
        if last in UNITS:
            return last
    return ""


def _units(running: set[str]) -> dict[str, Leftover]:
    """Return how to stop flanneld's units, keep them from starting at boot, and undo both.

    `running` are the units that run a flanneld. When one stops, its devices and routes stay.
    """
    found: dict[str, Leftover] = {}
    if not services.runs_systemd():
        return found
    shown = run(["systemctl", "show", "-p", "Id,ActiveState,UnitFileState", *UNITS]).output
    for block in shown.split("\n\n"):
        said = dict(line.partition("=")[::2] for line in block.splitlines())
        unit = said.get("Id", "")
        enabled = said.get("UnitFileState") == "enabled"
        active = said.get("ActiveState") in ("active", "activating", "reloading")
        if unit in UNITS and (enabled or active or unit in running):
            back = [f"enable {unit}"] * enabled + [f"start {unit}"] * active
            found[f"unit {unit}"] = Leftover(
                "systemctl", (f"disable --now {unit}",), back=tuple(back), first=True
            )
    return found


def cni_configs(conf_dir: str) -> Iterator[tuple[str, str]]:
    """Yield (path, network) of the CNI configurations that use the flannel plugin."""
    try:
        paths = sorted(Path(conf_dir).iterdir())
    except OSError:
        return
    for path in paths:
        with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
            if path.is_symlink() or not is_file_name(path.name):
                continue
            config = json.loads(path.read_text())
            kinds = [one.get("type") for one in [config, *config.get("plugins", ())]]
            if "flannel" in kinds and is_file_name(config.get("name")):
                yield str(path), config["name"]


def _nft() -> dict[str, Leftover]:
    """Return flannel's nft tables, and its chains in the nft tables of iptables-nft."""
    found: dict[str, Leftover] = {}
    for entry in _json(["nft", "-j", "list", "chains"]):
        chain = entry.get("chain", {})
        family, table, name = (str(chain.get(key, "")) for key in ("family", "table", "name"))
        if (family, table) in _TABLES:
            found[f"nft table {family} {table}"] = Leftover(
                "nft", (f"delete table {family} {table}",)
            )
        elif family in ("ip", "ip6") and table in _ENTRIES and _CHAIN.match(name):
            jumps = [
                f"delete rule {family} {table} {_ENTRIES[table]} handle {int(rule['handle'])}"
                for rule in _jumps(family, table, name)
            ]
            where = f"{family} {table} {name}"
            found[f"nft chain {where}"] = Leftover(
                "nft", (*jumps, f"flush chain {where}", f"delete chain {where}")
            )
    return found


def _jumps(family: str, table: str, target: str) -> Iterator[dict[str, Any]]:
    for entry in _json(["nft", "-j", "list", "chain", family, table, _ENTRIES[table]]):
        rule = entry.get("rule", {})
        for part in rule.get("expr", ()):
            if isinstance(part, dict) and {"target": target} in (
                part.get("jump"),
                part.get("goto"),
            ):
                yield rule


def _legacy() -> dict[str, Leftover]:
    """Return flannel's chains in the tables of iptables-legacy that are in use."""
    found: dict[str, Leftover] = {}
    for program, usual, names in forward.LEGACY.values():
        try:
            tables = Path(names).read_text().split()
        except OSError:
            continue
        tool = forward.legacy_program(program, usual)
        if shutil.which(f"{tool}-save", path=SEARCH) is None:
            continue
        for table in _ENTRIES:
            lines = []
            if table in tables:
                lines = _legacy_lines(run([f"{tool}-save", "-t", table]).output, table)
            if lines:
                found[f"{tool} chain {table} {lines[-2].split()[1]}"] = Leftover(
                    f"{tool}-restore", tuple(lines)
                )
    return found


def _legacy_lines(saved: str, table: str) -> list[str]:
    """Return the input of iptables-restore that removes flannel's chains from a saved table."""
    chains = [line[1:].split(" ")[0] for line in saved.splitlines() if line.startswith(":FLANNEL-")]
    chains = [chain for chain in chains if _CHAIN.match(chain)]
    if not chains:
        return []
    jumps = [
        "-D" + line[2:]
        for line in saved.splitlines()
        if line.startswith("-A ") and line.rpartition(" -j ")[2].strip() in chains
    ]
    ends = [f"{verb} {chain}" for verb in ("-F", "-X") for chain in chains]
    return [f"*{table}", *jumps, *ends, "COMMIT"]


def _json(argv: list[str]) -> list[dict[str, Any]]:
    result = run(argv)
    return list(nft_document(argv, result.output).get("nftables", ())) if not result.code else []


def take_away(tool: str, lines: tuple[str, ...]) -> None:
    """Remove a leftover: `tool` and `lines` are as in `Leftover`. Raises PodnetError."""
    if tool == "tree":
        removal = files.tree_removal(lines[0])
        if removal:
            removal.apply()
    elif tool == "leases":
        move_leases(*lines)
    elif tool == "systemctl":
        for line in lines:
            result = run(["systemctl", *line.split(" ")])
            if result.code != 0:
                raise PodnetError(f"systemctl {line}: {result.error} (exit {result.code})")
    else:
        raise PodnetError(f"{tool}: no tool that makes a change; report this")


def move_leases(source: str, target: str) -> None:
    """Move host-local's leases from one network's directory to another's. Raises PodnetError.

    host-local keeps a file for each address in a directory named after the network. By that file
    it does not give an address out twice, and frees it when the pod goes.
    """
    try:
        files.make_directories(target)
        for one in sorted(Path(source).iterdir()):
            # Besides leases there are a lock and the address that was given out last.
            if not (Path(target) / one.name).exists() and one.name != "lock":
                one.rename(Path(target) / one.name)
        shutil.rmtree(source)
    except OSError as error:
        raise PodnetError(f"{source}: cannot move leases to {target} ({error.strerror})") from error

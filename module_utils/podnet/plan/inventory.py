"""What the inventory says, checked: raw variables of hosts -> one network and its hosts.

Input is what the filter `podnet_inventory` collects: for each host a mapping with "name",
"ansible_host" and "inventory_dir" (where set), every ``podnet_*`` variable, and "undefined"
(variable -> reason) for those that could not be templated. All problems are found before any is
raised, so that one run shows them all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from ..backends.planners import PLANNERS
from ..core import model
from ..core.errors import PodnetError
from ..core.text import listed
from . import checks
from .variables import ALLOCATIONS_FILE, BY_NAME, VARIABLES

#: More problems than this are counted, not shown.
_SHOWN = 25

_UNSET = object()

_ADDRESS = {family: checks.address(family) for family in (4, 6)}


class Problems:
    """Collects what is wrong; one problem reads as one line, several as a list."""

    def __init__(self) -> None:
        """Start with none."""
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        """Add one problem."""
        self.lines.append(line)

    def settle(self) -> None:
        """Raise PodnetError with all problems, if there are any."""
        if not self.lines:
            return
        if len(self.lines) == 1:
            raise PodnetError(self.lines[0])
        shown = self.lines[:_SHOWN]
        more = len(self.lines) - len(shown)
        if more:
            shown.append(f"... and {more} more")
        heading = f"{len(self.lines)} problems in the inventory:"
        raise PodnetError("\n".join([heading, *("  " + line for line in shown)]))


@dataclass(frozen=True)
class InventoryHost:
    """One host's own values, canonical; "" or None where the inventory gives none.

    `own` are all of them that are set, named without ``podnet_``.
    """

    name: str
    ip: str = ""
    ip_prefix: int | None = None
    ip6: str = ""
    ip6_prefix: int | None = None
    interface: str = ""
    subnet: str = ""
    subnet6: str = ""
    mac: str = ""
    endpoints: tuple[dict[str, str], ...] = ()
    reserved: tuple[str, ...] = ()
    leave_alone: tuple[str, ...] = ()
    adopt: bool = False
    manage_neighbours: bool = False
    bridge_netfilter: str = ""
    repair_interval: str = ""
    health_interval: str = ""
    health_dir: str = ""
    podman: bool = False
    podman_range: tuple[str, ...] = ()
    own: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Inventory:
    """What the inventory says of a network, checked.

    `values` are the variables that are equal on all hosts, named without ``podnet_``.
    `allocations_file` is a path.
    """

    values: Mapping[str, Any]
    hosts: tuple[InventoryHost, ...]
    allocations_file: str


def read_inventory(raw_hosts: Sequence[Mapping[str, Any]], allocations_file: str = "") -> Inventory:
    """Check every variable of every host. Raises PodnetError naming all that is wrong.

    `allocations_file`, if not empty, overrides the inventory's podnet_allocations_file.
    """
    if not raw_hosts:
        raise PodnetError(
            "podnet_nodes: the group is empty or missing: give the inventory a group podnet_nodes"
            " with the hosts of the network"
        )
    problems = Problems()
    network = _Network(problems, raw_hosts)
    hosts = [_read_host(raw, network, problems) for raw in raw_hosts]
    values = network.values()
    _demand_unique_names(hosts, problems)
    path = allocations_file or values.pop("allocations_file", "")
    path = path or _beside_inventory(raw_hosts, problems)
    problems.settle()
    return Inventory(values, tuple(hosts), path)


class _Network:
    """Gathers the variables that must be equal on all hosts.

    For each variable, `first` is the first host that sets it, `raw` and `canonical` are that host's
    value before and after its check, and `having` counts the hosts that set it.
    """

    def __init__(self, problems: Problems, raw_hosts: Sequence[Mapping[str, Any]]) -> None:
        self.problems = problems
        self.raw_hosts = raw_hosts
        self.raw: dict[str, Any] = {}
        self.canonical: dict[str, Any] = {}
        self.first: dict[str, str] = {}
        self.having: dict[str, int] = {}
        self.differing: set[str] = set()

    def take(self, host: str, variable: str, value: Any) -> None:
        """Note the value of one host; the first host's is checked, the others' compared."""
        self.having[variable] = self.having.get(variable, 0) + 1
        known = self.raw.get(variable, _UNSET)
        if known is _UNSET:
            self.raw[variable], self.first[variable] = value, host
            self.canonical[variable] = self._check(variable, value)
        # 1 == True in Python, so the type counts.
        elif type(known) is not type(value) or known != value:
            self._differs(host, variable, value)

    def _check(self, variable: str, value: Any) -> Any:
        try:
            return BY_NAME[variable].check(value)
        except ValueError as error:
            self.problems.add(f"{variable}: {BY_NAME[variable].show(value)} {error}")
            return _UNSET

    def _differs(self, host: str, variable: str, value: Any) -> None:
        if variable in self.differing:
            return
        try:
            if BY_NAME[variable].check(value) == self.canonical[variable]:
                return
        except ValueError:
            pass
        self.differing.add(variable)
        show = BY_NAME[variable].show
        self.problems.add(
            f"{variable}: must be equal on all hosts, but {self.first[variable]} has"
            f" {show(self.raw[variable])} and {host} has {show(value)}: set it for"
            " the group podnet_nodes, not for a host"
        )

    def values(self) -> dict[str, Any]:
        """Return all variables of the network, defaults filled in, without ``podnet_``."""
        found: dict[str, Any] = {}
        for variable in VARIABLES:
            if variable.per_host:
                continue
            templated = isinstance(variable.default, str) and "{{" in variable.default
            value = "" if templated else variable.check(variable.default)
            given = self.canonical.get(variable.name, _UNSET)
            if given is not _UNSET and (given != value or templated):
                self._demand_everywhere(variable.name)
            found[variable.name[len("podnet_") :]] = value if given is _UNSET else given
        return found

    def _demand_everywhere(self, variable: str) -> None:
        """Report a variable that only some hosts set: all others have the default instead."""
        if self.having[variable] == len(self.raw_hosts):
            return
        for raw in self.raw_hosts:
            if variable not in raw and variable not in (raw.get("undefined") or {}):
                self.problems.add(
                    f"{variable}: must be equal on all hosts, but {self.first[variable]} has"
                    f" {BY_NAME[variable].show(self.raw[variable])} and {raw.get('name')} has none:"
                    " set it"
                    " for the group podnet_nodes, not for a host"
                )
                return


def _read_host(raw: Mapping[str, Any], network: _Network, problems: Problems) -> InventoryHost:
    name = raw.get("name")
    if not isinstance(name, str) or not name or not name.isprintable() or len(name) > 253:
        problems.add(f"host {checks.show(name)}: its name must be printable, 1 to 253 characters")
        return InventoryHost(str(name))
    own: dict[str, Any] = {}
    for key, value in raw.items():
        variable = BY_NAME.get(key)
        if variable is None:
            if not key.startswith("podnet_"):
                continue
            hint = _no_variable(key) or checks.closest(key, list(BY_NAME))
            problems.add(f"{name}: {checks.show(key)[1:-1]} is not a variable of podnet{hint}")
        elif not variable.per_host:
            network.take(name, key, value)
        else:
            try:
                own[key] = variable.check(value)
            except ValueError as error:
                problems.add(f"{name}: {key}: {variable.show(value)} {error}")
                own[key] = None
    undefined = raw.get("undefined") or {}
    for key, reason in undefined.items():
        problems.add(f"{name}: {key}: cannot be computed: {_one_line(reason)}")
    ip, ip6 = _addresses(raw, name, own, undefined, problems)
    return InventoryHost(
        name=name,
        ip=ip[0],
        ip_prefix=ip[1],
        ip6=ip6[0],
        ip6_prefix=ip6[1],
        interface=own.get("podnet_interface") or "",
        subnet=own.get("podnet_subnet") or "",
        subnet6=own.get("podnet_subnet6") or "",
        mac=own.get("podnet_node_mac") or "",
        endpoints=tuple(own.get("podnet_endpoints") or ()),
        reserved=tuple(own.get("podnet_reserved") or ()),
        leave_alone=tuple(
            what for what in model.LEAVABLE if own.get(f"podnet_manage_{what}") is False
        ),
        adopt=bool(own.get("podnet_adopt")),
        manage_neighbours=bool(own.get("podnet_manage_neighbours")),
        bridge_netfilter=own.get("podnet_bridge_netfilter") or "",
        repair_interval=own.get("podnet_repair_interval") or "",
        health_interval=own.get("podnet_health_interval") or "",
        health_dir=(own.get("podnet_health_dir") or "")
        if own.get("podnet_health_interval")
        else "",
        podman=bool(own.get("podnet_podman")),
        podman_range=tuple(own.get("podnet_podman_range") or ()),
        own={key[len("podnet_") :]: value for key, value in own.items()},
    )


def _no_variable(key: str) -> str:
    """Return why a backend has no such variable, "" if there is nothing to say of it."""
    return next(
        (
            f": {why}"
            for planner in PLANNERS.values()
            for last, why in planner.no_variables.items()
            if key.endswith(f"_{last}") and any(one in key for one in planner.prefixes)
        ),
        "",
    )


def _addresses(
    raw: Mapping[str, Any],
    name: str,
    own: Mapping[str, Any],
    undefined: Mapping[str, str],
    problems: Problems,
) -> tuple[tuple[str, int | None], tuple[str, int | None]]:
    """Return the host's underlay addresses, IPv4 and IPv6, each as (address, length or None).

    ansible_host stands in for one that is not set.
    """
    found: list[tuple[str, int | None]] = []
    reach = raw.get("ansible_host") or name
    literal = isinstance(reach, str) and "/" not in reach
    wrong = False
    for key, family in (("podnet_node_ip", 4), ("podnet_node_ip6", 6)):
        if key in own or key in undefined:
            wrong = wrong or key in undefined or own[key] is None
            found.append(own.get(key) or ("", None))
            continue
        try:
            found.append(_ADDRESS[family](reach) if literal else ("", None))
        except ValueError:
            found.append(("", None))
    if found[0][0] == "" and found[1][0] == "" and not wrong:
        problems.add(
            f"{name}: podnet_node_ip: not set, and ansible_host {checks.show(reach)} is not an"
            " address: set podnet_node_ip (or podnet_node_ip6) to the node's address"
        )
    return found[0], found[1]


def _demand_unique_names(hosts: Sequence[InventoryHost], problems: Problems) -> None:
    seen: set[str] = set()
    for host in hosts:
        if host.name in seen:
            problems.add(f"{host.name}: named twice in podnet_nodes")
        seen.add(host.name)


def place(host: Mapping[str, Any]) -> str:
    """Return the path of the allocations file by one host's raw variables alone, "" if unknown."""
    said = host.get("podnet_allocations_file")
    directory = host.get("inventory_dir")
    if isinstance(said, str) and said:
        return said
    return _in_directory(directory) if isinstance(directory, str) else ""


def _in_directory(directory: str) -> str:
    return directory.rstrip("/") + "/" + ALLOCATIONS_FILE


def _beside_inventory(raw_hosts: Sequence[Mapping[str, Any]], problems: Problems) -> str:
    """Return the default path of the allocations file.

    inventory_dir is the directory of the inventory that a host comes from. Where hosts have
    different ones the user has to choose, or the file would depend on the host that is asked.
    """
    where: dict[str, str] = {}
    for raw in raw_hosts:
        directory = raw.get("inventory_dir")
        where.setdefault(directory if isinstance(directory, str) else "", str(raw.get("name")))
    if len(where) == 1 and "" not in where:
        return _in_directory(next(iter(where)))
    if set(where) == {""}:
        reason = "the inventory has no directory to keep the allocations in"
    else:
        places = [f"{host} from {place or 'no directory'}" for place, host in where.items()]
        reason = f"the hosts come from different inventories ({listed(places, 2)})"
    problems.add(f"podnet_allocations_file: not set, and {reason}: set it to the path of a file")
    return ""


def _one_line(text: object) -> str:
    return re.sub(r"\s+", " ", str(text)).strip()

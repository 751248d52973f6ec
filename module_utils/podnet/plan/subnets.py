"""Which subnet each host gets: the one recorded or pinned for it, else a new one is carved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Callable, Mapping, Sequence

from ..core.errors import PodnetError
from ..core.model import Node, is_inside, split_cidr
from ..core.text import listed
from .allocation import Pool, carve
from .allocations_file import Allocations
from .checks import closest, show
from .inventory import Inventory, InventoryHost, Problems

# The address families, IPv4 and IPv6: the suffix of their variables, and the bits of an address.
FAMILIES = (("", 32), ("6", 128))


def recorded_for(inventory: Inventory, recorded: Allocations | None) -> Allocations:
    """Return a copy of what the file says, or empty allocations where there is no file.

    Raises PodnetError for the file of another network.
    """
    name = inventory.values["name"]
    if recorded is None:
        return Allocations(name)
    if recorded.network != name:
        raise PodnetError(
            f"podnet_allocations_file: {inventory.allocations_file} is the record of the network"
            f" {recorded.network}, not of {name}: give each network (podnet_name) a file of its own"
        )
    return replace(recorded, nodes=dict(recorded.nodes), keys=dict(recorded.keys))


def take_released(
    before: Allocations,
    release: Sequence[str],
    hosts: Sequence[InventoryHost],
    problems: Problems,
    notes: list[str],
) -> list[str]:
    """Take the released names out of `before`; return those that were in it."""
    if not release:
        return []
    present = {host.name for host in hosts}
    released = []
    for name in release:
        if name in present:
            problems.add(
                f"podnet_release: {show(name)[1:-1]} is still in podnet_nodes: take it out of the"
                " inventory first"
            )
        elif before.nodes.pop(name, None) is None:
            hint = closest(name, [one for one in before.nodes if one not in present])
            notes.append(f"podnet_release: {show(name)[1:-1]} has no subnet to release{hint}")
        else:
            released.append(name)
    return released


def carve_family(
    inventory: Inventory, before: Allocations, suffix: str, problems: Problems
) -> tuple[dict[str, str], dict[str, int]]:
    """Return name -> subnet for one family, and its counts {"total", "used", "free"}.

    Both are empty if there are problems.
    """
    hosts = inventory.hosts
    variable = "podnet_cluster_cidr" + suffix
    cidr, prefix = inventory.values[variable[7:]], inventory.values["node_prefix" + suffix]
    index = 1 if suffix else 0
    kept = {name: both[index] for name, both in before.nodes.items() if both[index]}
    nothing: tuple[dict[str, str], dict[str, int]] = ({}, {})
    number = len(problems.lines)
    _check_kept(inventory, before, kept, suffix, problems)
    if len(problems.lines) > number:
        return nothing
    pool = Pool.of(cidr, prefix)
    fixed = {name: pool.number_of(subnet) for name, subnet in kept.items()}
    present = {host.name for host in hosts}
    owners = {value: name for name, value in fixed.items()}
    family = _Family(suffix, cidr, inventory.allocations_file, pool, kept, owners, present)
    for host in hosts:
        pin = host.subnet6 if suffix else host.subnet
        if pin:
            value = _check_pin(family, host, pin, problems)
            if value is not None:
                fixed[host.name] = value
                owners[value] = host.name
    if len(problems.lines) > number:
        return nothing
    left = [name for name in kept if name not in present]
    given = carve(
        pool,
        [host.name for host in hosts],
        {name: value for name, value in fixed.items() if name in present},
        [fixed[name] for name in left],
    )
    if given is None:
        reserved = f", and {len(left)} more are reserved for {listed(left, 3)}" if left else ""
        release = ", or release what is reserved with podnet_release" if left else ""
        problems.add(
            f"{variable}: {cidr} has room for {pool.count} nodes with a /{prefix} each, but the"
            f" inventory has {len(hosts)}{reserved}: widen it{release}"
        )
        return nothing
    used = len(given) + len(left)
    counts = {"total": pool.count, "used": used, "free": pool.count - used}
    return {name: pool.text(value) for name, value in given.items()}, counts


def _check_kept(
    inventory: Inventory,
    before: Allocations,
    kept: Mapping[str, str],
    suffix: str,
    problems: Problems,
) -> None:
    """Report recorded subnets that do not fit the cluster CIDR or the node prefix any more."""
    cidr, prefix = (
        inventory.values["cluster_cidr" + suffix],
        inventory.values["node_prefix" + suffix],
    )
    old_cidr = before.cluster_cidr6 if suffix else before.cluster_cidr
    old_prefix = before.node_prefix6 if suffix else before.node_prefix
    path = inventory.allocations_file
    if not kept or (cidr, prefix) == (old_cidr, old_prefix):
        return
    if prefix != old_prefix:
        problems.add(
            f"podnet_node_prefix{suffix}: {prefix}, but {len(kept)} nodes have a /{old_prefix} in"
            f" {path} ({listed(_with(kept, list(kept)), 3)}): set it back to {old_prefix}, or"
            " delete their lines there, which renumbers all their pods"
        )
        return
    outside = [name for name, subnet in kept.items() if not is_inside(subnet, cidr)]
    if outside:
        present = {host.name for host in inventory.hosts}
        gone = [name for name in outside if name not in present]
        release = f"; release those that left the inventory: {listed(gone, 3)}" if gone else ""
        problems.add(
            f"podnet_cluster_cidr{suffix}: {cidr} leaves out subnets that are in use"
            f" ({listed(_with(kept, outside), 3)}): keep it wide enough for them, or delete their"
            f" lines in {path}, which renumbers their pods{release}"
        )


def _with(kept: Mapping[str, str], chosen: Sequence[str]) -> list[str]:
    return [f"{name} {kept[name]}" for name in chosen]


@dataclass(frozen=True)
class _Family:
    """One address family while it is carved.

    `path` is the allocations file. `kept` maps a node to its recorded subnet, `owners` a subnet's
    number (Pool.number_of) to the node that has it. `present` are the hosts in the inventory.
    """

    suffix: str
    cidr: str
    path: str
    pool: Pool
    kept: Mapping[str, str]
    owners: dict[int, str]
    present: set[str]

    def owner_of(self, subnet: str) -> str:
        """Return the node that has a subnet of the pool, "" for none."""
        return self.owners.get(self.pool.number_of(subnet), "")


class Misfit(Enum):
    """Why a node cannot have a subnet that somebody wants for it."""

    SIZE = "another prefix length"
    OUTSIDE = "not in the cluster CIDR"
    OTHER = "the node has another one"
    TAKEN = "another node has it"


def misfit(
    pool: Pool, subnet: str, name: str, kept: str, owner_of: Callable[[str], str]
) -> Misfit | None:
    """Return why node `name` cannot have `subnet`, None if it can.

    `kept` is what is recorded for it, `owner_of` tells who has a subnet of the pool; "" is none.
    """
    if split_cidr(subnet)[1] != pool.node_prefix:
        return Misfit.SIZE
    if not pool.holds(pool.number_of(subnet)):
        return Misfit.OUTSIDE
    if kept not in ("", subnet):
        return Misfit.OTHER
    return Misfit.TAKEN if owner_of(subnet) not in ("", name) else None


def _check_pin(family: _Family, host: InventoryHost, pin: str, problems: Problems) -> int | None:
    """Return the number of a host's pinned subnet, or None when it cannot have it."""
    suffix, pool, kept = family.suffix, family.pool, family.kept
    label = f"{host.name}: podnet_subnet{suffix}: {pin}"
    wrong = misfit(pool, pin, host.name, kept.get(host.name, ""), family.owner_of)
    if wrong is Misfit.SIZE:
        problems.add(f"{label} is not a /{pool.node_prefix} (podnet_node_prefix{suffix})")
    elif wrong is Misfit.OUTSIDE:
        problems.add(f"{label} is outside podnet_cluster_cidr{suffix} {family.cidr}")
    elif wrong is Misfit.OTHER:
        problems.add(
            f"{label}, but the node has {kept[host.name]} in {family.path}: take the"
            " pin away, or delete the node's line there, which renumbers its pods"
        )
    elif wrong is Misfit.TAKEN:
        owner = family.owner_of(pin)
        way_out = (
            "choose another one"
            if owner in family.present
            else "choose another one, or release it with podnet_release (it left the inventory)"
        )
        problems.add(f"{label} belongs to {owner}: {way_out}")
    return None if wrong else pool.number_of(pin)


def after(values: Mapping[str, Any], before: Allocations, nodes: Mapping[str, Node]) -> Allocations:
    """Return the allocations after this plan.

    The subnets of a family without a cluster CIDR stay recorded.
    """
    keys = {name: node.key for name, node in nodes.items() if node.key}
    after = Allocations(values["name"], nodes=dict(before.nodes), keys=keys)
    for suffix, _other in FAMILIES:
        source: Any = values["cluster_cidr" + suffix] and values
        used = any(both[1 if suffix else 0] for both in before.nodes.values())
        for key in ("cluster_cidr" + suffix, "node_prefix" + suffix):
            if source:
                setattr(after, key, values[key])
            elif used:
                setattr(after, key, getattr(before, key))
    for name, node in nodes.items():
        old = before.nodes.get(name, ("", ""))
        after.nodes[name] = (node.subnet or old[0], node.subnet6 or old[1])
    return after


def note_unused(values: Mapping[str, Any], before: Allocations, notes: list[str]) -> None:
    """Note which recorded subnets are unused because their family has no cluster CIDR."""
    for suffix, _other in FAMILIES:
        unused = [name for name, both in before.nodes.items() if both[1 if suffix else 0]]
        if unused and not values["cluster_cidr" + suffix]:
            notes.append(
                f"podnet_cluster_cidr{suffix} is empty: the subnets of {listed(unused, 3)} in that"
                " family stay recorded, unused"
            )

"""What podnet_reserved keeps from pods: to each node its own part of what the inventory lists.

A list may be given to a whole group. An entry counts for the node in whose subnet it lies. What
podnet_podman_range lists is kept from pods in the same way, and noted as Podman's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Iterable, Mapping, NamedTuple, Sequence

from ..core.model import Node
from ..core.ranges import Range, free, of_cidr, parse, usable
from .inventory import InventoryHost, Problems


class _Owner(NamedTuple):
    """A node, and its subnet as text and as a range."""

    name: str
    subnet: str
    span: Range


class _Owners:
    """Finds the node in whose subnet an address lies; all subnets of a family are of one size."""

    def __init__(self, subnets: Iterable[tuple[str, tuple[str, str]]]) -> None:
        self._found: dict[tuple[int, int], _Owner] = {}
        self._bits: dict[int, int] = {}
        for name, both in subnets:
            for subnet in filter(None, both):
                span = of_cidr(subnet)
                self._bits[span.size] = (span.last - span.first).bit_length()
                self._found[span.size, span.first] = _Owner(name, subnet, span)

    def of(self, entry: Range) -> _Owner | None:
        """Return the node in whose subnet the first address of `entry` lies."""
        bits = self._bits.get(entry.size)
        if bits is None:
            return None
        return self._found.get((entry.size, entry.first >> bits << bits))


def give(
    hosts: Sequence[InventoryHost],
    nodes: Mapping[str, Node],
    recorded: Mapping[str, tuple[str, str]],
    problems: Problems,
) -> dict[str, Node]:
    """Return the nodes, each with what is reserved in its subnets.

    `recorded` are the subnets of the allocations file before this plan. Those of nodes that left
    count, so that a group's list need not change with them in the same moment.
    """
    result = dict(nodes)
    lists = {host.name: frozenset(_listed(host)) for host in hosts if _listed(host)}
    if not lists:
        return result
    left = [(name, both) for name, both in recorded.items() if name not in nodes]
    # A subnet that is released may be another node's by now: that one comes later.
    owners = _Owners([*left, *((one.name, (one.subnet, one.subnet6)) for one in nodes.values())])
    podmans = {host.name: frozenset(host.podman_range) for host in hosts if host.podman_range}
    # Each entry is looked at once, though a group's list comes from every host.
    listed_by: dict[str, str] = {}
    own: dict[str, list[str]] = {name: [] for name in lists}
    for host in hosts:
        for text in _listed(host):
            listed_by.setdefault(text, host.name)
    for text, name in listed_by.items():
        owner = owners.of(parse(text))
        wrong = _wrong(text, owner, nodes[name], lists, nodes)
        if wrong:
            problems.add(f"{name}: {_variable(text, name, podmans)}: {text} {wrong}")
        elif owner is not None and owner.name in nodes and text in lists.get(owner.name, ()):
            own[owner.name].append(text)
    for name, those in own.items():
        podman = tuple(one for one in those if one in podmans.get(name, ()))
        result[name] = replace(nodes[name], reserved=tuple(those), podman_range=podman)
        _demand_room(result[name], problems)
        _demand_one_range(result[name], problems)
    return result


def _listed(host: InventoryHost) -> tuple[str, ...]:
    return (*host.reserved, *host.podman_range)


def _variable(text: str, name: str, podmans: Mapping[str, frozenset[str]]) -> str:
    return "podnet_podman_range" if text in podmans.get(name, ()) else "podnet_reserved"


def _demand_one_range(node: Node, problems: Problems) -> None:
    """Report ranges for Podman that it cannot use or that are not its alone."""
    label = f"{node.name}: podnet_podman_range"
    for suffix, subnet in (("", node.subnet), ("6", node.subnet6)):
        mine = [one for one in node.podman_range if (":" in one) == bool(suffix)]
        if len(mine) > 1:
            problems.add(
                f"{label}: {', '.join(mine)} are all in {subnet}, and Podman takes one range: give"
                " the others to podnet_reserved, or take them out"
            )
        for text in mine:
            entry, whole = parse(text), usable(subnet)
            if not entry.is_inside(whole):
                problems.add(
                    f"{label}: {text} has addresses of {subnet} that no container may have: give a"
                    f" part of {whole.text()}"
                )
            for endpoint in node.endpoints:
                address = getattr(endpoint, "address" + suffix)
                if address and parse(address).is_inside(entry):
                    problems.add(
                        f"{label}: {text} holds {address}, which podnet_endpoints gives to"
                        f" {endpoint.name}: change one of them"
                    )


def _wrong(
    text: str,
    owner: _Owner | None,
    node: Node,
    lists: Mapping[str, frozenset[str]],
    nodes: Mapping[str, Node],
) -> str:
    """Return what is wrong with an entry of `node`'s list, "" if nothing is.

    `owner` has the subnet in which it begins; `lists` are those of all nodes that have one.
    """
    entry = parse(text)
    if owner is None:
        subnet = node.subnet if entry.size == 4 else node.subnet6
        if not subnet:
            return "has a family that pods do not have: take it out, or set the cluster CIDR for it"
        return f"is in no node's subnet ({node.name} has {subnet}): correct it, or take it out"
    if not entry.is_inside(owner.span):
        return (
            f"reaches beyond {owner.subnet}, the subnet of {owner.name}: give each node's part as a"
            " range of its own"
        )
    theirs = lists.get(owner.name, frozenset())
    if owner.name not in nodes or text in theirs:
        return ""
    if any(entry.is_inside(parse(other)) for other in theirs):
        return ""
    return (
        f"is in the subnet of {owner.name}, which does not reserve it: set it for {owner.name}, or"
        " for the whole group"
    )


def _demand_room(node: Node, problems: Problems) -> None:
    """Report a subnet of which nothing is left for pods."""
    for suffix, subnet in (("", node.subnet), ("6", node.subnet6)):
        asked = [getattr(one, "address" + suffix) for one in node.endpoints]
        mine = [one for one in node.reserved if (":" in one) == bool(suffix)]
        if subnet and mine and not free(subnet, [*mine, *filter(None, asked)]):
            problems.add(
                f"{node.name}: podnet_reserved: leaves no address of {subnet} for pods: reserve"
                " less, or give nodes larger subnets"
            )

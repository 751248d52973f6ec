"""Room in the kernel's neighbour tables: how many entries a host needs, and the sysctls for it."""

from __future__ import annotations

from typing import Mapping

from ..core.model import Node, split_cidr
from .host_view import HostView
from .state import State

#: Pods that a node is taken to have at most (kubelet's default is 110); its subnet may be larger.
_PODS = 254

_GC_THRESH = {
    family: [f"net.ipv{family}.neigh.default.gc_thresh{number}" for number in (1, 2, 3)]
    for family in (4, 6)
}


def needed(node: Node, host: HostView, final: State) -> dict[int, int]:
    """Return how many neighbours the kernel's tables must hold, by family.

    Peers on this segment, whatever the backend, since packets to them leave by their own address;
    and for each pod one on the bridge and one, its gateway, in the pod: a kernel counts all
    namespaces together. Permanent entries do not count (neigh_alloc in net/core/neighbour.c).
    """
    near: set[str] = {remote for remote in final.fdb.values() if host.on_link_device(remote)}
    for body in final.routes.values():
        words = body.split()
        if "via" in words and "onlink" not in words:
            via = words[words.index("via") + 1 :]
            near.add(via[1] if via[0] == "inet6" else via[0])
    result = {}
    for family, subnet in ((4, node.subnet), (6, node.subnet6)):
        count = sum((":" in address) == (family == 6) for address in near)
        if subnet:
            bits = 32 if family == 4 else 128
            count += 2 * min(2 ** (bits - split_cidr(subnet)[1]), _PODS)
        if count:
            result[family] = count
    return result


def limits(families: Mapping[int, int]) -> list[str]:
    """Return the sysctls that limit the tables of these families."""
    return [key for family in families for key in _GC_THRESH[family]]


def raised(wanted: Mapping[int, int], values: Mapping[str, str]) -> dict[str, str]:
    """Return the sysctls that make room for as many neighbours as are needed.

    Twice as many as needed, since the kernel begins to collect at gc_thresh2 and leaves only what
    is below gc_thresh1 alone.
    """
    found = {}
    for family, count in wanted.items():
        first, second, third = _GC_THRESH[family]
        if not values.get(third, "").isdigit() or int(values[third]) >= count:
            continue
        most = 1 << (2 * count - 1).bit_length()
        found.update({first: str(most // 4), second: str(most // 2), third: str(most)})
    return found


def crowded(node: Node, wanted: Mapping[int, int], values: Mapping[str, str]) -> list[str]:
    """Return a warning for each family whose table is too small."""
    enough = raised(wanted, values)
    lines = []
    for family, count in wanted.items():
        key = _GC_THRESH[family][2]
        if key in enough:
            lines.append(
                f"{node.name}: the kernel's neighbour table holds {values[key]} entries ({key}), "
                f"and this host's peers and up to {_PODS} pods need {count} of IPv{family}; when "
                "it is full, packets to new neighbours are lost. Set podnet_manage_neighbours: "
                f"true, or {key} to {enough[key]}"
            )
    return lines

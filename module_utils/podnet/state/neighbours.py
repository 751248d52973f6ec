"""Room in the kernel's neighbour tables: how many entries a host needs, and the sysctls for it."""

from __future__ import annotations

from typing import Mapping

from ..backends.registry import KINDS
from ..core.host_view import HostView
from ..core.model import Node, split_cidr
from ..core.state import State

#: Pods that a node is assumed to have at most (kubelet's default is 110), even in a larger subnet.
_PODS = 254

#: How a bridge asks whether the pod that had an address still has it: with the first packet, and
#: all pods, not the one that may be gone. That takes a second at most. The kernel's way (arp(7))
#: is to believe what it knew for five seconds, then to ask the old MAC three times; so long a new
#: pod with that address is silent to other hosts. CNI plugins of 1.1 do not announce it.
_PODS_SYSCTLS = {
    4: {
        "delay_first_probe_time": "0",
        "locktime": "0",
        "mcast_resolicit": "3",
        "ucast_solicit": "0",
    },
    6: {"delay_first_probe_time": "0", "mcast_resolicit": "3", "ucast_solicit": "0"},
}

_GC_THRESH = {
    family: [f"net.ipv{family}.neigh.default.gc_thresh{number}" for number in (1, 2, 3)]
    for family in (4, 6)
}


def of_pods(bridge: str, family: int) -> dict[str, str]:
    """Return the sysctls by which `bridge` notices that another pod has got an address."""
    device = bridge.replace(".", "/")
    settings = _PODS_SYSCTLS[family].items()
    return {f"net.ipv{family}.neigh.{device}.{key}": value for key, value in settings}


def needed(node: Node, host: HostView, final: State) -> dict[int, int]:
    """Return how many entries the kernel's neighbour tables must hold, by family (4 or 6).

    One for each peer on the host's own segment, with any backend, since packets then go straight to
    the peer's address. Two for each pod: the pod on the bridge, and the gateway in the pod's
    namespace, because the kernel counts all namespaces together. Permanent entries do not count
    (neigh_alloc in net/core/neighbour.c).
    """
    remotes = {
        KINDS[final.links[device].kind].remote(entry)
        for (device, _other), entry in final.entries.items()
    }
    near = {remote for remote in remotes if host.on_link_device(remote)}
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
    """Return sysctl -> value for each family whose table holds less than the entries `wanted`.

    `values` are the sysctls as they are. The limit becomes at least twice the number wanted, since
    the kernel collects garbage from gc_thresh2 on, and never below gc_thresh1.
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

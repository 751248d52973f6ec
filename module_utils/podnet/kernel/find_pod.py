"""Find a pod of this host by its address or namespace."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ..core import schema
from ..core.errors import PodnetError
from ..core.model import Node, Plan, is_address, is_inside, offset, split_cidr
from . import observe as eyes
from . import pods

#: Where a named namespace lies (ip-netns(8)).
_NAMED = "/run/netns"


class FoundPod(NamedTuple):
    """A pod of this host, or an address that stands for one: then `namespace` is "".

    `device` is the pod's own end of the veth pair, `host_end` the other one ("" if not found).
    """

    address: str
    namespace: str = ""
    device: str = ""
    host_end: str = ""


def find_pod(plan: Plan, node: Node, family: int, which: str = "") -> FoundPod:
    """Return a pod of this host: the one with the address or in the namespace `which`, or any.

    Where no pod has that address, or the host has none, the address alone is returned, in the
    latter case the last of the node's subnet. Raises PodnetError for a namespace that is not there.
    """
    subnet = node.subnet if family == 4 else node.subnet6
    bits = 32 if family == 4 else 128
    # A namespace's name may have dots.
    by_address = ":" in which or is_address(which)
    if which and not by_address and not Path(_NAMED, which).exists():
        raise PodnetError(
            f"{node.name}: no network namespace {which!r} on the host (ip netns lists them): name "
            "one of them, or an address of a pod"
        )
    links = {str(one["ifindex"]): one for one in eyes.read_links()}
    found: list[FoundPod] = []
    for path, link in pods.everywhere():
        for address in schema.held(link):
            if (":" in address) != (family == 6) or address.startswith("fe80"):
                continue
            if by_address and address != which:
                continue
            if not by_address and not is_inside(f"{address}/{bits}", subnet or "::/0"):
                continue
            if which and not by_address and path != f"{_NAMED}/{which}":
                continue
            outer = links.get(str(link.get("link_index", "")), {})
            host_end = str(outer.get("ifname", "")) if "link_netnsid" in outer else ""
            found.append(FoundPod(address, path, str(link["ifname"]), host_end))
    found.sort(key=lambda one: ("podnet-probe-" in one.namespace, one.namespace))
    if found:
        return found[0]
    if which and not by_address:
        raise PodnetError(
            f"{node.name}: namespace {which} has no address of {subnet or 'that family'}; is it a "
            "pod of this network? playbooks/site.yml attaches endpoints again"
        )
    return FoundPod(which or _last(subnet))


def _last(subnet: str) -> str:
    base, length = split_cidr(subnet)
    bits = (128 if ":" in base else 32) - length
    return offset(base, (1 << min(bits, 16)) - 2)

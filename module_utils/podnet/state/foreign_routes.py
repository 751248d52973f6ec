"""Routes in the cluster CIDRs that podnet did not make: which of them divert pods' packets.

The longest prefix wins. A route with a shorter prefix than a node's subnet does no harm:
`0.0.0.0/1` of a VPN, `10.0.0.0/8` of a site, even the cluster CIDR itself. One whose prefix is as
long or longer diverts packets to that node's pods. One in a range that no node has yet would divert
those of a node that gets this range.
"""

from __future__ import annotations

from typing import Iterable, Mapping

from ..core.host_view import Prefix, make_prefix
from ..core.model import Node, Plan, split_cidr
from ..core.text import listed


def judge(plan: Plan, node: Node, foreign: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return (problems, notes): a route that diverts packets to a node's pods is a problem.

    `foreign` maps each destination in the cluster CIDRs to the rest of its route, for routes that
    podnet did not make.
    """
    if not foreign:
        return [], []
    subnets = [one for peer in plan.nodes.values() for one in (peer.subnet, peer.subnet6) if one]
    tree = _by_length(subnets)
    taking, idle = [], []
    for destination, body in foreign.items():
        plain = destination.split(" ", 1)[0]
        taken = _holder(_prefix(plain), tree)
        shown = f"{destination} {body}"
        if taken:
            whose = next(one for one in plan.nodes.values() if taken in (one.subnet, one.subnet6))
            taking.append(f"{shown} (takes packets to {whose.name}'s {taken})")
        else:
            idle.append(shown)
    ranges = " or ".join(one for one in (plan.cluster_cidr, plan.cluster_cidr6) if one)
    if taking:
        return [
            f"{node.name}: the host has routes of others inside {ranges}: "
            f"{listed(taking, 3, '; ')}. "
            "Remove them, or set podnet_cluster_cidr to a range that is free"
        ], []
    return [], [
        f"{node.name}: routes of others inside {ranges} that no node's pods need now: "
        f"{listed(idle, 3)}"
    ]


def _prefix(cidr: str) -> Prefix:
    address, length = split_cidr(cidr)
    return make_prefix(address, length)


def _by_length(cidrs: Iterable[str]) -> dict[tuple[int, int], dict[int, str]]:
    """Return (size, shift) -> value -> CIDR, in the terms of `Prefix`."""
    tree: dict[tuple[int, int], dict[int, str]] = {}
    for cidr in cidrs:
        one = _prefix(cidr)
        tree.setdefault((one.size, one.shift), {})[one.value] = cidr
    return tree


def _holder(one: Prefix, tree: Mapping[tuple[int, int], Mapping[int, str]]) -> str:
    """Return the CIDR that a prefix equals or lies in, "" for none."""
    for (size, shift), values in tree.items():
        if size == one.size and shift >= one.shift:
            found = values.get(one.value >> (shift - one.shift))
            if found:
                return found
    return ""

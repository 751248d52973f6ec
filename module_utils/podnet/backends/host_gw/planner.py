"""host-gw in a plan: all hosts must share a segment."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ...core.model import Plan, split_cidr
from ...core.segments import Addressed, Segments, span
from ...core.text import listed
from ..planner import Findings, Planner


class HostGatewayPlanner(Planner):
    """Plain routes to every peer."""

    def host_findings(
        self, values: Mapping[str, Any], hosts: Sequence[Addressed], groups: Sequence[Segments]
    ) -> Findings:
        """Demand one segment, and an IPv6 address on every host for IPv6 pods."""
        found = Findings([], [])
        lacking = [host.name for host in hosts if not host.ip6]
        if values["cluster_cidr6"] and lacking:
            found.problems.append(
                f"podnet_node_ip6: {listed(lacking, 3)} without one, and host-gw routes IPv6 pods"
                " through it: set it on every host, or set podnet_backend to vxlan"
            )
        for group in groups:
            found.problems.extend([*nesting_problems(group), *_segment_problems(group)])
            found.notes.extend(unknown_notes(group, hosts))
        return found

    def described(self, plan: Plan) -> str:
        """Return the name: there are no settings."""
        return "host-gw"


def unknown_notes(group: Segments, hosts: Sequence[Addressed]) -> list[str]:
    """Return a note, in a list, if only the hosts know who is on-link."""
    if not group.unknown or len(hosts) < 2:
        return []
    return [
        f"prefix length of the IPv{group.family} address not given for"
        f" {listed(group.unknown, 3)}: each host decides from its own addresses who is"
        " on-link"
    ]


def nesting_problems(group: Segments) -> list[str]:
    """Return problems of networks that lie in a wider one: hosts would disagree on who is on-link.

    A network of one address (/32, /128) is left out: it is meant to have nobody on-link.
    """
    problems: list[str] = []
    full = 32 if group.family == 4 else 128
    found = sorted((*span(cidr), cidr) for cidr in group.members if split_cidr(cidr)[1] < full)
    outer: tuple[int, int, str] | None = None
    # By first address, the wider first: what is nested comes right after what holds it.
    for low, high, cidr in sorted(found, key=lambda item: (item[0], -item[1])):
        if outer is not None and low <= outer[1]:
            one, other = group.members[outer[2]][0], group.members[cidr][0]
            problems.append(
                f"{other}: its network {cidr} lies in {outer[2]} of {one}: give hosts on one"
                " segment one prefix length"
            )
        else:
            outer = (low, high, cidr)
    return problems


def _segment_problems(group: Segments) -> list[str]:
    """Return a problem, in a list, for pairs on different segments: host-gw cannot join them."""
    _other, apart = group.pairs()
    if not apart:
        return []
    firsts = [(members[0], cidr) for cidr, members in group.members.items()]
    full = 32 if group.family == 4 else 128
    shown = [f"{one} ({cidr}) and {firsts[0][0]} ({firsts[0][1]})" for one, cidr in firsts[1:4]]
    alone = all(split_cidr(cidr)[1] == full for _other, cidr in firsts)
    hint = f"; a /{full} leaves nobody on-link, give the segment's prefix length" if alone else ""
    rest = f" and {apart - len(shown)} more" if apart > len(shown) else ""
    return [
        f"podnet_backend: host-gw needs all hosts on one segment, and these share none:"
        f" {', '.join(shown)}{rest}{hint}: set podnet_backend to vxlan and podnet_direct_routing"
        " to true"
    ]

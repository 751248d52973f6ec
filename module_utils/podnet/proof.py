"""Prove a shift on the spot: who answered before the routes moved must answer after.

Asked are the peers' bridges, from this host, at a small and at the pods' full size with
fragmentation forbidden. Exit codes cannot say that packets arrive; this can, and while the old way
still exists the host can go back.
"""

from __future__ import annotations

from .backends.base import peers
from .errors import PodnetError
from .look import Look
from .model import offset
from .prober import SMALL, Probe, run
from .state import State

_HOST = "host"


def answering(seen: Look, after: State) -> list[Probe]:
    """Return the questions that peers answer now; those silent before prove nothing later."""
    mtu = min(state.links[seen.plan.bridge].mtu for state in (seen.before, after))
    probes = [
        Probe(_HOST, offset(subnet.partition("/")[0], 1), size)
        for peer in peers(seen.plan, seen.node)
        for subnet in (peer.subnet, peer.subnet6)
        if subnet
        for size in (SMALL, mtu)
    ]
    answers = run(probes, {_HOST: ""})
    return [probe for probe, answer in zip(probes, answers) if answer.ok]


def demand_still(seen: Look, probes: list[Probe]) -> None:
    """Raise PodnetError naming the peers that do not answer `probes` any more."""
    names = {
        offset(subnet.partition("/")[0], 1): peer.name
        for peer in seen.plan.nodes.values()
        for subnet in (peer.subnet, peer.subnet6)
        if subnet
    }
    lost = [
        f"{names[probe.address]} ({probe.address}, {probe.size} bytes: {answer.error})"
        for probe, answer in zip(probes, run(probes, {_HOST: ""}))
        if not answer.ok
    ]
    if lost:
        more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
        raise PodnetError(
            f"{seen.node.name}: after the routes moved, no answer from {', '.join(lost[:5])}{more}"
            f". Packets of {seen.plan.backend} may be dropped between the hosts"
        )

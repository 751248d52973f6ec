"""The record of a network on a host: what podnet made there, and how far a change has got.

Here is what it holds, and its text; keep/record_file.py has the file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from ..backends.registry import BACKENDS
from ..core.edition import Edition
from ..core.errors import PodnetError
from ..core.model import Plan

#: The `phase` in the record after a change that has finished.
DONE = "done"


@dataclass
class Record:
    """A network's record on this host.

    `parameters` are those of the plan that only a switch may change. `devices` are the names of
    devices that were or are ours, `cidrs` the cluster CIDRs that our routes lie in, `pod_mtu` is
    the MTU that pods were given, in bytes. `mac` is the MAC by which peers know this host,
    `bridge_mac` the bridge's where it was taken over from flannel. `phase` is DONE or the phase
    that was begun last. `network` (its id), `generation` and `digest` are the edition of the
    allocations that this host has seen; `nodes` maps the nodes of that plan to their subnets ("IPv4
    IPv6"). `unsettled` are files that the phase under way changes: programs that read them may not
    have reloaded them yet.
    """

    node: str
    parameters: dict[str, Any]
    phase: str = DONE
    devices: list[str] = field(default_factory=list)
    cidrs: list[str] = field(default_factory=list)
    pod_mtu: int = 0
    mac: str = ""
    bridge_mac: str = ""
    network: str = ""
    generation: int = 0
    digest: str = ""
    nodes: dict[str, str] = field(default_factory=dict)
    unsettled: list[str] = field(default_factory=list)
    version: int = 1

    @property
    def edition(self) -> Edition:
        """The edition of the allocations that this host has seen."""
        return Edition(self.network, self.generation, self.digest)


#: Fields that the text leaves out while they are empty: so a record that was written before they
#: existed needs no change.
_LATER = ("network", "generation", "digest", "nodes", "unsettled")


def parameters(plan: Plan) -> dict[str, Any]:
    """Return the parameters whose change is a switch: all hosts must go through it in step."""
    return BACKENDS[plan.backend].parameters(plan)


def is_reached(known: Record, plan: Plan) -> bool:
    """Whether the record says that this host has the plan's parameters already.

    A record may hold more than the plan's backend uses: earlier versions of podnet recorded all.
    """
    wanted = parameters(plan)
    return {key: known.parameters.get(key) for key in wanted} == wanted


def parse(text: str, path: str) -> Record:
    """Return the record that `text` is; raise PodnetError naming `path` on a damaged one."""
    try:
        record = Record(**json.loads(text))
        intact = (
            isinstance(record.parameters, dict)
            and all(
                isinstance(one, str) for one in record.devices + record.cidrs + record.unsettled
            )
            and isinstance(record.phase, str)
            and record.edition.is_valid()
            and all(isinstance(one, str) for pair in record.nodes.items() for one in pair)
        )
    except (ValueError, TypeError, AttributeError):
        intact = False
    if not intact:
        raise PodnetError(
            f"{path}: damaged; remove it and run again: podnet then recognises its own "
            "devices and routes by their marks"
        )
    return record


def dump(record: Record) -> str:
    """Return the text of a record."""
    fields = {key: value for key, value in asdict(record).items() if value or key not in _LATER}
    return json.dumps(fields, indent=1, sort_keys=True) + "\n"


def transient_tables(name: str, known: Record | None) -> list[str]:
    """Return the nft tables that an unfinished change may have left (phases.both_macs)."""
    return [f"netdev {name}"] if known is not None and known.phase != DONE else []

"""The record of a network on a host: what podnet made there, and how far a change has got.

Here is what it holds, and its text; keep/record_file.py has the file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..backends.registry import BACKENDS
from ..core.edition import Edition
from ..core.errors import PodnetError
from ..core.model import Plan
from ..core.version import VERSION, is_newer, is_version

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
    have reloaded them yet. `podnet_version` is the version that changed this host last, "" before
    records had one.
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
    podnet_version: str = ""

    @property
    def edition(self) -> Edition:
        """The edition of the allocations that this host has seen."""
        return Edition(self.network, self.generation, self.digest)


#: Fields that the text leaves out while they are empty: so a record that was written before they
#: existed needs no change.
_LATER = ("network", "generation", "digest", "nodes", "unsettled", "podnet_version")


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
    """Return the record that `text` is.

    Raises PodnetError naming `path` if it is damaged, or written by a newer podnet: what that one
    has made on the host may be unknown here, whether or not the record can be read.
    """
    try:
        fields = json.loads(text)
        told = newer(fields.get("podnet_version", ""), path)
        if told:
            raise PodnetError(told)
        record = Record(**fields)
        intact = (
            isinstance(record.parameters, dict)
            and all(
                isinstance(one, str) for one in record.devices + record.cidrs + record.unsettled
            )
            and isinstance(record.phase, str)
            and record.edition.is_valid()
            and all(isinstance(one, str) for pair in record.nodes.items() for one in pair)
            and (record.podnet_version == "" or is_version(record.podnet_version))
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


def newer(theirs: object, path: str) -> str:
    """Return why this podnet must leave a host alone whose record is `theirs`; "" if it need not.

    `theirs` is what the record at `path` has as podnet_version.
    """
    if not isinstance(theirs, str) or not is_newer(theirs):
        return ""
    return (
        f"{path}: podnet {theirs} has changed this host, and this is the older podnet {VERSION}, "
        f"which may not know what it finds. Run podnet {theirs} or later; to go back to an older "
        f"one, first run playbooks/reset.yml of podnet {theirs}"
    )


def noted(text: str) -> str:
    """Return the text of a record with this podnet's version in it."""
    return dump(replace(parse(text, "record"), podnet_version=VERSION))


def transient_tables(name: str, known: Record | None) -> list[str]:
    """Return the nft tables that an unfinished change may have left (phases.both_macs)."""
    return [f"netdev {name}"] if known is not None and known.phase != DONE else []

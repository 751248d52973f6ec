"""What podnet remembers on a host: which network it made, how far it got, what was there before.

`record.json` is written ahead: before the first change of a phase it says what is under way, so a
run that died leaves a record from which the next one goes on. `originals.json` keeps the values
of sysctls from before podnet, for all networks of the host together: the last network that needs
one puts it back.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from . import files, forwarding
from .backends import BACKENDS
from .edition import Edition
from .errors import PodnetError
from .model import Plan

ORIGINALS = files.STATE + "/originals.json"

#: The last phase, which a finished run leaves in the record.
DONE = "done"


@dataclass
class Record:
    """A network's record on this host.

    `parameters` are the plan's that a switch changes. `devices` are names that were or are ours,
    `cidrs` the cluster CIDRs that our routes lie in, `pod_mtu` what pods were given. `mac` is the
    VTEP's MAC that peers know, `bridge_mac` the bridge's where it is not podnet's own choice.
    `phase` is DONE or the name of the phase that was begun last. `network`, `generation` and
    `digest` are the edition of the allocations that this host has seen, `nodes` the nodes of that
    plan with their subnets (two of them with a space between). `unsettled` are files that a phase
    under way has changed, or is about to, and whose readers may not have been told.
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


#: Fields that a record has only where they say something: one from before them stays as it is.
_LATER = ("network", "generation", "digest", "nodes", "unsettled")


def directory(name: str) -> str:
    """Return the directory that holds all files of a network."""
    return f"{files.STATE}/{name}"


def path(name: str) -> str:
    """Return the path of a network's record."""
    return directory(name) + "/record.json"


def parameters(plan: Plan) -> dict[str, Any]:
    """Return the parameters whose change is a switch: all hosts must go through it in step.

    Only those that the plan's backend uses: another VXLAN port under host-gw is no switch.
    """
    return {key: getattr(plan, key) for key in BACKENDS[plan.backend].parameters}


def is_reached(known: Record, plan: Plan) -> bool:
    """Whether the record says that this host has the plan's parameters already.

    A record may hold more than the plan's backend uses: earlier ones held all.
    """
    wanted = parameters(plan)
    return {key: known.parameters.get(key) for key in wanted} == wanted


def load(name: str) -> Record | None:
    """Return a network's record, None where there is none; raise PodnetError on a damaged one."""
    text = files.read_text(path(name))
    if text is None:
        return None
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
            f"{path(name)}: damaged; remove it and run again: podnet then recognises its own "
            "devices and routes by their marks"
        )
    return record


def transient_tables(name: str, known: Record | None) -> list[str]:
    """Return the nft tables that a change which is not finished may have left (phases)."""
    return [f"netdev {name}"] if known is not None and known.phase != DONE else []


def dump(record: Record) -> str:
    """Return the text of a record."""
    fields = {key: value for key, value in asdict(record).items() if value or key not in _LATER}
    return json.dumps(fields, indent=1, sort_keys=True) + "\n"


def save(name: str, record: Record) -> None:
    """Write a network's record unless it stands there already."""
    change = files.text_change(path(name), dump(record))
    if change:
        change.apply()


def load_originals() -> dict[str, dict[str, Any]]:
    """Return sysctl key -> {"value": before podnet, "networks": [names that need it changed]}."""
    text = files.read_text(ORIGINALS)
    if text is None:
        return {}
    try:
        originals = json.loads(text)
        intact = isinstance(originals, dict) and all(
            isinstance(entry["value"], str) and isinstance(entry["networks"], list)
            for entry in originals.values()
        )
    except (ValueError, TypeError, KeyError):
        intact = False
    if not intact:
        raise PodnetError(
            f"{ORIGINALS}: damaged; remove it if the sysctls of this host may stay as they are"
        )
    return dict(originals)


def keep_originals(name: str, before: dict[str, str], after: dict[str, str]) -> None:
    """Note the values of sysctls that network `name` is about to change, where not noted yet.

    Those of devices are noted also where they are right: what a tool sets later is not the host's
    own, and a change of ip_forward sets them all.
    """
    # Other networks' runs have the same file.
    with files.alone():
        originals = load_originals()
        for key, value in after.items():
            if key in originals:
                if name not in originals[key]["networks"]:
                    originals[key]["networks"].append(name)
            elif before.get(key, value) != value or (key in before and forwarding.device(key)):
                originals[key] = {"value": before[key], "networks": [name]}
        _save_originals(originals)


def forget_originals(name: str, keys: list[str]) -> None:
    """Drop the claim of network `name` on sysctls that it no longer needs."""
    with files.alone():
        originals = load_originals()
        for key in keys:
            if key in originals:
                networks = [one for one in originals[key]["networks"] if one != name]
                if networks:
                    originals[key]["networks"] = networks
                else:
                    del originals[key]
        _save_originals(originals)


def restorable(name: str) -> dict[str, str]:
    """Return sysctl key -> original value for those that network `name` alone keeps changed."""
    return {
        key: entry["value"]
        for key, entry in load_originals().items()
        if entry["networks"] == [name]
    }


def claimed(name: str) -> list[str]:
    """Return the sysctls that network `name` has a claim on."""
    return [key for key, entry in load_originals().items() if name in entry["networks"]]


def _save_originals(originals: dict[str, dict[str, Any]]) -> None:
    text = json.dumps(originals, indent=1, sort_keys=True) + "\n" if originals else None
    change = files.text_change(ORIGINALS, text)
    if change:
        change.apply()

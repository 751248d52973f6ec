"""`originals.json`: the values that sysctls had before podnet, one file for all networks of a host.

The last network that needs a sysctl changed puts its value back.
"""

from __future__ import annotations

import json
from typing import Any

from ..core.errors import PodnetError
from ..state import forwarding
from . import files

PATH = files.STATE + "/originals.json"


def load() -> dict[str, dict[str, Any]]:
    """Return sysctl key -> {"value": before podnet, "networks": [names that need it changed]}.

    Raises PodnetError on a damaged file.
    """
    text = files.read_text(PATH)
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
            f"{PATH}: damaged; remove it if the sysctls of this host may stay as they are"
        )
    return dict(originals)


def keep(name: str, before: dict[str, str], after: dict[str, str]) -> None:
    """Record the original values of the sysctls that network `name` needs, unless recorded already.

    `before` and `after` map keys to their values now and to the wanted ones. A key of a single
    device is recorded even if its value is right already: a change of ip_forward sets those of all
    devices, and so what stands there later is not the host's own value.
    """
    # Runs for other networks write the same file.
    with files.alone():
        originals = load()
        for key, value in after.items():
            if key in originals:
                if name not in originals[key]["networks"]:
                    originals[key]["networks"].append(name)
            elif before.get(key, value) != value or (key in before and forwarding.device(key)):
                originals[key] = {"value": before[key], "networks": [name]}
        _save(originals)


def forget(name: str, keys: list[str]) -> None:
    """Record that network `name` no longer needs the sysctls `keys` changed."""
    with files.alone():
        originals = load()
        for key in keys:
            if key in originals:
                networks = [one for one in originals[key]["networks"] if one != name]
                if networks:
                    originals[key]["networks"] = networks
                else:
                    del originals[key]
        _save(originals)


def restorable(name: str) -> dict[str, str]:
    """Return sysctl key -> original value for those that no other network than `name` needs."""
    return {key: entry["value"] for key, entry in load().items() if entry["networks"] == [name]}


def claimed(name: str) -> list[str]:
    """Return the keys of the sysctls that network `name` needs changed."""
    return [key for key, entry in load().items() if name in entry["networks"]]


def _save(originals: dict[str, dict[str, Any]]) -> None:
    text = json.dumps(originals, indent=1, sort_keys=True) + "\n" if originals else None
    change = files.text_change(PATH, text)
    if change:
        change.apply()

"""A network's record on a host, `record.json` (`state.record`).

Before the first change of a phase it is written with what the phase is going to do. So if a run
dies, the next one knows from the record what it may find.
"""

from __future__ import annotations

import json

from ..state.record import Record, dump, newer, noted, parse
from . import files


def directory(name: str) -> str:
    """Return the directory that holds all files of a network."""
    return f"{files.STATE}/{name}"


def path(name: str) -> str:
    """Return the path of a network's record."""
    return directory(name) + "/record.json"


def load(name: str) -> Record | None:
    """Return a network's record, None where there is none; raise PodnetError on a damaged one."""
    text = files.read_text(path(name))
    return None if text is None else parse(text, path(name))


def save(name: str, record: Record) -> None:
    """Write a network's record unless it stands there already."""
    change = files.text_change(path(name), dump(record))
    if change:
        change.apply()


def note_version(name: str) -> None:
    """Write this podnet's version into a network's record: it has changed the host.

    For changes that the record does not hold otherwise. Raises PodnetError on a damaged record.
    """
    text = files.read_text(path(name))
    change = files.text_change(path(name), noted(text)) if text is not None else None
    if change:
        change.apply()


def refusal(name: str) -> str:
    """Return why this podnet must leave the host alone; "" if it need not. See `record.newer`."""
    try:
        fields = json.loads(files.read_text(path(name)) or "{}")
        return newer(fields.get("podnet_version", ""), path(name))
    except (ValueError, AttributeError):
        # A removal goes by the marks of what is there, and tells that the record is damaged.
        return ""

"""A network's record on a host, `record.json` (`state.record`).

Before the first change of a phase it is written with what the phase is going to do. So if a run
dies, the next one knows from the record what it may find.
"""

from __future__ import annotations

from ..state.record import Record, dump, parse
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

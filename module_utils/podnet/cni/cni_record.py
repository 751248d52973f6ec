"""`cni.json`: what podnet wrote on a host for the CNI of one network."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Iterator

from ..core.model import is_directory
from ..keep import files

#: Each archive of plugins is unpacked into a directory of its own below this one.
ARCHIVES = "/opt/podnet/cni"


@dataclass(frozen=True)
class CniRecord:
    """What podnet wrote on this host for one network.

    `path` is the conflist, `links` are the links to plugins, `archive_dir` is where an archive was
    unpacked. `exclusive`: the configurations of others beside `path` were moved aside. `podman` is
    the file that tells Podman of the network, "" if there is none.
    """

    path: str = ""
    links: tuple[str, ...] = ()
    archive_dir: str = ""
    exclusive: bool = False
    podman: str = ""

    @property
    def directory(self) -> str:
        """Where the conflist is, "" if there is none."""
        return str(Path(self.path).parent) if self.path else ""

    def to_text(self) -> str:
        """Return the file's text."""
        fields = dict(vars(self), links=list(self.links))
        # As it was before there were such fields.
        for key in ("exclusive", "podman"):
            if not fields[key]:
                del fields[key]
        return json.dumps(fields, indent=2) + "\n"


def record_path(name: str) -> str:
    """Return where the record of network `name` lies."""
    return f"{files.STATE}/{name}/cni.json"


def read_record(name: str) -> CniRecord:
    """Return the record of network `name`; an empty one if there is none or it is damaged.

    A damaged record counts as lost and is written anew: the configuration file itself names its
    network.
    """
    try:
        found = json.loads(files.read_text(record_path(name)) or "{}")
        record = CniRecord(
            str(found.get("path", "")),
            tuple(str(one) for one in found.get("links", ())),
            str(found.get("archive_dir", "")),
            found.get("exclusive", False) is True,
            str(found.get("podman", "")),
        )
    except (ValueError, AttributeError, TypeError):
        return CniRecord()
    # podnet deletes the directory that the record names, so one outside of ARCHIVES is ignored.
    if not is_archive_dir(record.archive_dir):
        record = replace(record, archive_dir="")
    return record


def others(name: str) -> Iterator[CniRecord]:
    """Yield the records of the other podnet networks of this host."""
    for path in sorted(Path(files.STATE).glob("*/cni.json")):
        if path.parent.name != name:
            yield read_record(path.parent.name)


def is_archive_dir(path: str) -> bool:
    """Whether `path` is a directory in which podnet unpacks an archive of plugins."""
    return is_directory(path) and str(Path(path).parent) == ARCHIVES

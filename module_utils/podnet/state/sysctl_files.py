"""Which of a host's files would set a sysctl to another value than the network needs. Pure.

Files are read in the order of their names, and the last one wins (sysctl.d(5)). `sysctl --system`,
which installers like to call, reads /etc/sysctl.conf after all of them.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Iterable, Mapping, NamedTuple

from . import forwarding

#: A file in a directory hides those of the same name in the directories after it.
DIRECTORIES = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d")
LAST = "/etc/sysctl.conf"

#: Another name of the same switch (ip-sysctl.rst).
_ALIASES = {"net.ipv4.conf.all.forwarding": forwarding.IP_FORWARD}


class Undoing(NamedTuple):
    """`file` sets `key` to `value`, and the network needs `wanted`."""

    file: str
    key: str
    value: str
    wanted: str


def undoing(files: Iterable[tuple[str, str]], wanted: Mapping[str, str]) -> list[Undoing]:
    """Return what the files (path, text) would undo of the sysctls `wanted`."""
    have: dict[str, tuple[str, str, bool]] = {}
    for path, text in sorted(files, key=_order):
        for line in text.splitlines():
            key, equals, value = line.strip().partition("=")
            if not equals or key.startswith(("#", ";")):
                continue
            name = _name(key.strip().lstrip("-"))
            name = _ALIASES.get(name, name)
            glob = "*" in name
            for one in wanted if glob else [name] if name in wanted else []:
                # A key that is named counts more than a pattern, wherever it stands.
                if not glob or (fnmatchcase(one, name) and (one not in have or have[one][2])):
                    have[one] = path, value.strip(), glob
    return [
        Undoing(path, key, value, wanted[key])
        for key, (path, value, _glob) in have.items()
        if not _suffices(key, value, wanted[key])
    ]


def _order(file: tuple[str, str]) -> tuple[bool, str]:
    return file[0] == LAST, file[0].rpartition("/")[2]


def _name(key: str) -> str:
    """Return a key with dots between its parts, whichever way it is written (sysctl.d(5))."""
    slash, dot = key.find("/"), key.find(".")
    if slash < 0 or 0 <= dot < slash:
        return key
    return key.translate(str.maketrans("/.", "./"))


def _suffices(key: str, value: str, wanted: str) -> bool:
    if value == wanted:
        return True
    # A limit of the neighbour tables may be larger.
    both = value.isdigit() and wanted.isdigit()
    return key.startswith(forwarding.NEIGH_HEADS) and both and int(value) >= int(wanted)

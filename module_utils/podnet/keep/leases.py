"""Addresses that host-local (a CNI plugin) has handed out: a file each, named after the address."""

from __future__ import annotations

from pathlib import Path

from ..core.model import pack

#: Where host-local keeps them, in a directory a network.
DIRECTORY = "/var/lib/cni/networks"

#: Namespaces and container ids of probe pods begin with this, so no other pod is taken for one.
PROBE = "podnet-probe-"


def directory(name: str) -> str:
    """Return the directory of the leases of network `name`."""
    return f"{DIRECTORY}/{name}"


def addresses(name: str) -> list[str]:
    """Return the addresses that host-local has handed out for network `name`."""
    return [one.name for one in _files(name)]


def of_probes(name: str) -> list[Path]:
    """Return the leases of network `name` that probe pods hold or, after a reboot, have held.

    A lease's first line is the container's id.
    """
    found = []
    for lease in _files(name):
        try:
            if lease.read_text(errors="replace").startswith(PROBE):
                found.append(lease)
        except OSError:
            continue  # It was freed just now.
    return found


def _files(name: str) -> list[Path]:
    try:
        entries = sorted(Path(directory(name)).iterdir())
    except OSError:
        return []
    return [entry for entry in entries if _is_address(entry.name)]


def _is_address(text: str) -> bool:
    """Whether `text` is an address, as a lease's file is named.

    Beside leases lie a lock and the address that was given out last. host-local replaces IPv6's
    colons on Windows only.
    """
    try:
        pack(text)
    except ValueError:
        return False
    return True

"""Addresses that host-local (a CNI plugin) has handed out: a file each, named after the address."""

from __future__ import annotations

from pathlib import Path

#: Where host-local keeps them, in a directory a network.
DIRECTORY = "/var/lib/cni/networks"

#: Namespaces and container ids of probe pods begin with this, so no other pod is taken for one.
PROBE = "podnet-probe-"


def of_probes(name: str, directory: str = DIRECTORY) -> list[Path]:
    """Return the leases of network `name` that probe pods hold or, after a reboot, have held.

    A lease's first line is the container's id.
    """
    found: list[Path] = []
    try:
        for entry in Path(directory, name).iterdir():
            if entry.is_file() and entry.read_text(errors="replace").startswith(PROBE):
                found.append(entry)
    except OSError:
        pass
    return found

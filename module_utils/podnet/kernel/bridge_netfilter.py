"""Ask a host about br_netfilter: who needs it, and whether the kernel has it."""

from __future__ import annotations

import os
from pathlib import Path

from ..core.model import Node
from ..state.bridge_netfilter import CLIENTS, KEYS, MODULE, OFF, ON, BridgeFacts, families
from .observe import sysctl_path
from .run import SEARCH

#: Where programs and units of these may lie, beside SEARCH.
_PROGRAMS = ("/opt/bin", "/var/lib/rancher/rke2/bin")
_UNITS = tuple(f"{one}/systemd/system" for one in ("/etc", "/usr/local/lib", "/usr/lib", "/lib"))

#: The capability by which a process may load modules (linux/capability.h).
_CAP_SYS_MODULE = 16


def ask(node: Node) -> BridgeFacts:
    """Return what is to be known of a host; a kernel that nobody will ask for it is not asked."""
    client = _client()
    if node.bridge_netfilter == OFF or not (client or node.bridge_netfilter == ON):
        return BridgeFacts(client)
    present = all(sysctl_path(KEYS[family]).exists() for family in families(node))
    return BridgeFacts(client, present, _is_loadable(present), os.uname().release)


def _client() -> str:
    """Return the first thing that is found of CLIENTS: a program's or unit's path, or a process."""
    for name, unit in CLIENTS.items():
        for directory in (*SEARCH.split(":"), *_PROGRAMS):
            if Path(directory, name).is_file():
                return f"{directory}/{name}"
        for directory in _UNITS:
            if Path(directory, f"{unit}.service").is_file():
                return f"{directory}/{unit}.service"
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                name = (process / "comm").read_text().strip()
            except (OSError, UnicodeDecodeError):
                continue  # It has ended, or is none of those.
            if name in CLIENTS:
                return f"{name} (process {process.name})"
    return ""


def _is_loadable(present: bool) -> bool:
    """Whether br_netfilter is a module, not built into the kernel, and is or can be loaded."""
    if present:
        # What is built in has no state.
        return Path("/sys/module", MODULE, "initstate").exists()
    listed = Path("/lib/modules", os.uname().release, "modules.dep")
    try:
        if f"/{MODULE}.ko" not in listed.read_text(errors="replace"):
            return False
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False
    able = int(status.partition("CapEff:")[2].split()[0], 16)
    return bool(able >> _CAP_SYS_MODULE & 1)

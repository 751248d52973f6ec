"""Whom a change must not cut off: the SSH client of the run, or all that it may be."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Sequence

from ..core.text import listed

PROC = "/proc"


class Clients(NamedTuple):
    """The addresses that a change must not cut off; `certain`: the run's own SSH client, or none.

    Otherwise these are the clients of all sessions on the host, one of which is the run's.
    """

    addresses: Sequence[str]
    certain: bool = True

    def note(self) -> str:
        """Return a sentence for the user about clients that are a guess, "" for others."""
        if self.certain:
            return ""
        return (
            "this process does not descend from an SSH session (become by machinectl or run0?), so "
            "which session is the run's is not known: the timed rollback watches all clients, "
            f"{listed(self.addresses)}"
        )


def clients(run_name: str = "") -> Clients:
    """Return the addresses whose way to this host a change must not take away unproven.

    sshd(8) sets SSH_CONNECTION; sudo(8) drops it, so parent processes' environments are read, too.
    machinectl(1) and run0(1) have systemd start the process, which then descends from no session:
    then each session's client may be the run's. `run_name` is the run's name, which holds the id of
    ansible-playbook's process: what descends from that came by no SSH.
    """
    controller = run_name.split(" ")[1] if run_name.count(" ") == 3 else ""
    pid, local = "self", False
    for _turn in range(40):
        address = _ssh_client(pid)
        if address is not None:
            # Also above a local ansible-playbook: it is the session of the person who started it.
            return Clients([address] if address else [])
        pid = _parent(pid)
        if pid in ("", "0", "1"):
            break
        # The id alone may be another process's, on another machine.
        local = local or (pid == controller and b"ansible" in _read(pid, "cmdline"))
    if local:
        return Clients([])
    found = {_ssh_client(one.name) for one in Path(PROC).glob("[0-9]*")} - {None, ""}
    return Clients(sorted(str(one) for one in found), certain=not found)


def _ssh_client(pid: str) -> str | None:
    """Return the address in a process's SSH_CONNECTION, None if it has none or is gone."""
    for entry in _read(pid, "environ").split(b"\0"):
        if entry.startswith(b"SSH_CONNECTION="):
            return entry.split(b"=", 1)[1].split(b" ")[0].decode("ascii", "replace")
    return None


def _parent(pid: str) -> str:
    """Return the id of a process's parent, "" if it is gone."""
    return _read(pid, "status").partition(b"\nPPid:\t")[2].partition(b"\n")[0].decode()


def _read(pid: str, name: str) -> bytes:
    try:
        return Path(f"{PROC}/{pid}/{name}").read_bytes()
    except OSError:
        return b""

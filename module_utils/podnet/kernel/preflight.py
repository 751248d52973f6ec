"""Ask a host what `state.preflight.questions` wants to know, without changing anything there.

What a kernel can do is not read from its version: it is tried in a short-lived network namespace.
The only trace may be a loaded kernel module, which the run would load, too.
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Iterable

from ..core.state import State
from ..state.diff import table_lines
from ..state.preflight import NO_DIRECTORY, Facts, Questions
from .observe import read_sysctls
from .run import run

_RENAME = (
    "link add podnet-try type bridge\n"
    "link set dev podnet-try up\n"
    "link set dev podnet-try name podnet-tried"
)

#: Bytes that must be free in addition to what is written.
_SPARE = 64 * 1024


def ask(asked: Questions) -> Facts:
    """Return the answers to the questions in `asked`; what is not asked is not tried."""
    values: dict[str, str] | None = {}
    if asked.disabled6:
        on = Path("/proc/sys/net/ipv6").is_dir()
        values = read_sysctls(asked.disabled6) if on else None
    needs = asked.needs
    return Facts(
        makes=not needs or Path("/sys/module", needs.module).exists() or _works(needs.trial),
        holder=_holder(needs.port, needs.family) if needs else "",
        can_rename=not asked.renames or _works(_RENAME),
        release=os.uname().release,
        values=values,
    )


def _works(batch: str) -> bool:
    """Whether the kernel does what `batch` wants, in a network namespace of its own."""
    return run(["unshare", "--net", "ip", "-batch", "-"], stdin=f"{batch}\n").code == 0


def cannot_have(final: State) -> str:
    """Return why nft or the kernel does not take the tables of `final`, "" if they do.

    nft -c lets the kernel check all of it, and changes nothing.
    """
    lines = [
        line
        for table, chains in final.tables.items()
        for line in table_lines(table, chains, final.members)
    ]
    result = run(["nft", "-c", "-f", "-"], stdin="\n".join(lines) + "\n")
    error = result.error.strip() or "failed"
    return "" if result.code == 0 else error.splitlines()[0]


def _holder(port: int, family: int) -> str:
    """Return who holds a UDP port that is needed on all addresses, "" if it is free."""
    with socket.socket(
        socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_DGRAM
    ) as one:
        try:
            if family == 6:
                # As the kernel's own tunnel sockets over IPv6 (udp_sock_create6).
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(("::" if family == 6 else "0.0.0.0", port))
        except OSError as error:
            return _process(port) if error.errno == errno.EADDRINUSE else ""
    return ""


def _process(port: int) -> str:
    """Return the process that holds a UDP port; a port that none holds is the kernel's."""
    inodes = set()
    for table in ("udp", "udp6"):
        try:
            lines = Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            words = line.split()
            if int(words[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{words[9]}]")
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                handles = [os.readlink(one) for one in (process / "fd").iterdir()]
                if inodes & set(handles):
                    return f"process {process.name} ({_printable(process / 'comm')})"
            except OSError:
                continue  # It has ended, or is not to be looked into.
    return "the kernel (a tunnel device, or another namespace's process)"


def _printable(path: Path) -> str:
    text = path.read_text(errors="replace").strip()
    return "".join(one if one.isprintable() else "?" for one in text)[:40]


def unwritable(directories: Iterable[str], size: int) -> dict[str, str]:
    """Return directory -> reason for those in which `size` bytes cannot be written.

    Where one does not exist, what is there of the path counts. It is tried with a file that has no
    name (O_TMPFILE of open(2)), so nothing is left, and the directory's times do not change.
    """
    found = {}
    for directory in sorted({_existing(one) for one in directories}):
        reason = _reason(directory, size)
        if reason:
            found[directory] = reason
    return found


def _existing(directory: str) -> str:
    path = Path(directory)
    while not path.exists() and path != path.parent:
        path = path.parent
    return str(path)


def _reason(directory: str, size: int) -> str:
    try:
        handle = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, bytes(4096))
        finally:
            os.close(handle)
        space = os.statvfs(directory)
    except OSError as error:
        # EISDIR, EOPNOTSUPP: a file system without O_TMPFILE.
        if error.errno in (errno.EISDIR, errno.EOPNOTSUPP, errno.EINVAL):
            return "read-only" if os.statvfs(directory).f_flag & os.ST_RDONLY else ""
        words = {
            errno.EROFS: "its file system is read-only",
            errno.ENOSPC: "no space is left",
            errno.ENOTDIR: NO_DIRECTORY,
        }
        return words.get(error.errno or 0, error.strerror or "failed")
    free = space.f_bfree * space.f_frsize
    # Some file systems count neither blocks nor files.
    if space.f_blocks and free < size + _SPARE:
        return f"{free // 1024} KiB are free, and {(size + _SPARE) // 1024} are needed"
    if space.f_files and space.f_ffree < 30:
        return "no inodes are left"
    return ""

"""Make changes on a host: consecutive changes for one tool take one command.

`ip -batch` is no transaction: it stops at the first bad line and leaves the earlier ones applied.
After an error the caller of `apply` therefore reads the host again and applies what leads back.
"""

from __future__ import annotations

from itertools import groupby
from typing import Sequence

from ..backends.registry import TOOLS
from ..core.errors import PodnetError
from ..core.state import Change, State
from ..keep import files
from . import adopt
from .observe import sysctl_path
from .pods import has_device
from .run import run

_IP = ["ip", "-batch", "-"]


def apply(changes: Sequence[Change], after: State) -> None:
    """Apply `changes` in order; `after` has the contents of files to write.

    Raises PodnetError at the first change that fails, naming the line.
    """
    for tool, those in groupby(changes, key=lambda change: change.tool):
        group = list(those)
        lines = [line for change in group for line in change.lines]
        if tool in ("ip", "bridge"):
            batch([tool, "-batch", "-"], lines)
        elif tool == "nft":
            batch(["nft", "-f", "-"], lines)
        elif tool == "port":
            _change_ports(lines)
        elif tool == "pod":
            # Pairs of lines: a namespace, and what to run there. Each takes a process of its own.
            for namespace, line in zip(lines[::2], lines[1::2]):
                _change_pod(["nsenter", f"--net={namespace}", *_IP], line, namespace)
        elif tool in ("iptables", "command", "module", "sysctl", "file", "secret"):
            for line in lines:
                _one(tool, line, after)
        elif tool in TOOLS:
            for argv in TOOLS[tool](lines):
                _command(argv)
        elif tool != "boot":
            for change in group:
                _take_away(tool, change.lines)


def _change_ports(lines: Sequence[str]) -> None:
    try:
        batch(_IP, lines)
    except PodnetError:
        # Which lines were done, and whose pod has left, is not known. All may be done twice.
        for line in lines:
            _change_pod(_IP, line)


def _change_pod(argv: list[str], line: str, namespace: str = "") -> None:
    """Run a line `link set dev DEVICE ...`; it is no error that the device's pod has left."""
    try:
        batch(argv, [line])
    except PodnetError:
        if has_device(line.split(" ")[3], namespace):
            raise


def batch(argv: list[str], lines: Sequence[str]) -> None:
    """Feed `lines` to a tool; raise PodnetError with the line that fails."""
    broken = [line for line in lines if "\n" in line or "\0" in line]
    if broken:
        raise PodnetError(f"{argv[0]}: {broken[0]!r} is more than one line; nothing was run")
    result = run(argv, stdin="\n".join(lines) + "\n")
    if result.code == 0:
        return
    # iproute2 ends with "Command failed -:N" after the kernel's words (lib/utils.c, do_batch).
    number = result.error.rpartition("-:")[2].strip()
    line = ""
    if number.isdigit() and 0 < int(number) <= len(lines):
        line = f"{argv[0]} {lines[int(number) - 1]}: "
    reason = "; ".join(part.strip() for part in result.error.splitlines()[:2]) or "failed"
    raise PodnetError(f"{line}{reason} ({' '.join(argv)}, exit {result.code})")


def _one(tool: str, line: str, after: State) -> None:
    if tool in ("iptables", "command"):
        _command(line.split(" "))
    elif tool == "module":
        _command(["modprobe", line])
    elif tool == "secret":
        _write_secret(line, after)
    elif tool == "sysctl":
        _write_sysctl(line)
    else:
        _write_file(line, after.files)


def _take_away(tool: str, lines: tuple[str, ...]) -> None:
    if tool.endswith("-restore"):
        batch([tool, "--noflush"], lines)
    else:
        adopt.take_away(tool, lines)


def _command(argv: list[str]) -> None:
    result = run(argv)
    if result.code != 0:
        raise PodnetError(f"{' '.join(argv)}: {result.error or 'failed'} (exit {result.code})")


def _write_sysctl(line: str) -> None:
    key, _mark, value = line.partition("=")
    try:
        sysctl_path(key).write_text(value)
    except OSError as error:
        raise PodnetError(f"sysctl {key}={value}: {error.strerror}") from error


def _write_secret(path: str, after: State) -> None:
    if path not in after.secrets:
        files.remove_file(path)
    elif path in after.contents:
        files.write_text(path, after.contents[path], 0o600)
    else:
        raise PodnetError(f"{path}: its content is not known on this host")


def _write_file(path: str, contents: dict[str, str]) -> None:
    content = contents.get(path)
    if content is not None and content.startswith("-> "):
        link = files.link_change(path, content[3:])
        if link:
            link.apply()
    elif content is not None:
        text = files.text_change(path, content)
        if text:
            text.apply()
    else:
        files.remove_file(path)

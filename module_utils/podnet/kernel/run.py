"""Run the tools of iproute2 and nftables: argument lists, a pinned locale, a time limit."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import stat
import subprocess
from pathlib import Path
from typing import IO, Any, Callable, Sequence

from ..backends.base import HostTools
from ..backends.registry import PACKAGES
from ..core import schema
from ..core.errors import PodnetError
from ..keep.files import read_text
from ..keep.lock import handles

#: Seconds. The tools answer in milliseconds; one that hangs must not hold the host's lock for ever.
TIMEOUT = 60

SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENVIRONMENT = {"PATH": SEARCH, "LC_ALL": "C", "LANG": "C"}

_PACKAGES = {
    "ip": "iproute2",
    "bridge": "iproute2",
    "nft": "nftables",
    "modprobe": "kmod",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "systemctl": "systemd",
    "systemd-run": "systemd",
    **PACKAGES,
}


class Result:
    """What a command said; `code` is its exit status."""

    def __init__(self, code: int, output: str, error: str) -> None:
        """Keep the three."""
        self.code = code
        self.output = output
        self.error = error.strip()


def find(tool: str) -> str:
    """Return the path of a tool; raise PodnetError naming the package that has it."""
    path = shutil.which(tool, path=SEARCH)
    if path is None:
        raise PodnetError(
            f"{tool} is not installed on {os.uname().nodename}; "
            f"install the package {_PACKAGES.get(tool, tool)}"
        )
    return path


def run(argv: Sequence[str], stdin: str | None = None) -> Result:
    """Run a tool by its name in argv[0]; the caller judges the exit status.

    Raises PodnetError if it is not installed, cannot be run, or takes longer than TIMEOUT.
    """
    command = [find(argv[0]), *argv[1:]]
    try:
        with _ready(stdin) as source:
            done = subprocess.run(
                command,
                stdin=source,
                capture_output=True,
                encoding="utf-8",
                # Names and aliases of devices may hold any bytes (dev_valid_name in the kernel).
                errors="backslashreplace",
                env=_ENVIRONMENT,
                pass_fds=handles(),
                timeout=TIMEOUT,
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        raise PodnetError(
            f"{' '.join(argv)}: no answer within {TIMEOUT} s; see what holds it and run again"
        ) from error
    except OSError as error:
        raise PodnetError(f"{' '.join(argv)}: cannot be run ({error.strerror})") from error
    return Result(done.returncode, done.stdout, done.stderr)


def _ready(text: str | None) -> IO[bytes]:
    """Return a file that holds `text` completely before the tool starts.

    From a pipe, a tool would take half a line for a whole one if this process died while writing.
    """
    if text is None:
        return Path(os.devnull).open("rb")
    file = os.fdopen(os.memfd_create("podnet"), "w+b")
    file.write(text.encode("utf-8"))
    file.seek(0)
    return file


_IPROUTE2 = "iproute2 4.18 or newer"
NFTABLES = "nftables 0.9.3 or newer, built with JSON"


def read_json(
    argv: Sequence[str], check: Callable[[Any], None], *, may_fail: bool = False
) -> list[Any]:
    """Run a tool that prints a JSON list; raise PodnetError when it fails or prints none.

    `check` is the function of `schema` for an entry of the list; it raises ValueError. For an empty
    list iproute2 prints nothing, `[]` or `[{}]`, depending on version and object. With `may_fail` a
    tool that fails has nothing to list: for ip a routing table without routes does not exist.
    """
    result = run(argv)
    if may_fail and result.code != 0:
        return []
    if result.code != 0:
        # An option that it does not know; podnet gives it none that it has not had since.
        too_old = f"; podnet needs {_IPROUTE2}" if "is unknown" in result.error else ""
        raise PodnetError(
            f"{' '.join(argv)}: {result.error or 'failed'} (exit {result.code}){too_old}"
        )
    try:
        entries = _entries(result.output) if result.output.strip() else []
    except (ValueError, RecursionError) as error:
        raise PodnetError(
            f"{' '.join(argv)}: printed no JSON ({error}); podnet needs {_IPROUTE2}"
        ) from error
    entries = [entry for entry in entries if entry] if isinstance(entries, list) else []
    for entry in entries:
        try:
            check(entry)
        except ValueError as error:
            raise PodnetError(
                f"{' '.join(argv)}: printed what podnet does not know ({error}); report the "
                "version of iproute2"
            ) from error
    return entries


_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def _entries(text: str) -> Any:
    """Read the JSON of iproute2, which is not always valid.

    Names and aliases of devices may hold any bytes. iproute2 prints them as they are, and `run`
    turns bytes that are no UTF-8 into text like "\\xff". JSON has no such escape, nor some of those
    that iproute2 makes itself.
    """
    try:
        # Not strict: an alias may hold control characters.
        return json.loads(text, strict=False)
    except ValueError:
        return json.loads(_ESCAPE.sub(_as_json, text), strict=False)


def _as_json(found: re.Match[str]) -> str:
    return found[0] if found[1] in '"\\/bfnrtu' else f"\\\\{found[1]}"


def nft_document(argv: Sequence[str], output: str) -> Any:
    """Return what `nft -j` printed, parsed; raise PodnetError unless `schema.nft` accepts it."""
    try:
        document = json.loads(output, strict=False)
        schema.nft(document)
    except (ValueError, RecursionError) as error:
        raise PodnetError(
            f"{' '.join(argv)}: printed what podnet does not know ({error}); podnet needs "
            f"{NFTABLES}"
        ) from error
    return document


def _output(argv: Sequence[str], stdin: str) -> str | None:
    result = run(argv, stdin=stdin or None)
    return result.output if result.code == 0 else None


def _mode(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


def _names(directory: str) -> list[str]:
    try:
        return sorted(one.name for one in Path(directory).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _resolve(name: str, family: int) -> list[str]:
    families = {4: socket.AF_INET, 6: socket.AF_INET6}
    try:
        found = socket.getaddrinfo(name, None, families[family], socket.SOCK_DGRAM)
    except OSError:
        return []
    return sorted({str(one[4][0]) for one in found})


#: How a backend reads this host.
TOOLS = HostTools(read_json, _output, read_text, _mode, _names, _resolve)


def demand_root() -> None:
    """Raise PodnetError unless this process may change the network."""
    if os.geteuid() != 0:
        raise PodnetError(
            "podnet needs root rights on the host; set `become: true` or connect as root"
        )

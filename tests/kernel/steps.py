"""Kill podnet at each of its steps: runs on a host of netns_hosts, in a process of its own.

A step is whatever changes something: a command, a file that is opened for writing, renamed,
removed or made. Python announces each of them beforehand (audit events, PEP 578), so nothing of
podnet has to be prepared for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from podnet.core.errors import PodnetError
from podnet.host import info
from podnet.kernel import run as edge

_CHANGES = {
    "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.truncate", "shutil.rmtree",
}  # fmt: skip

# What Python itself would write is no step of podnet's.
sys.dont_write_bytecode = True

#: Where podnet writes; the sysctls and the kernel's objects come on top.
TREES = ("/etc/podnet", "/etc/cni", "/etc/systemd/system", "/opt", "/var/lib/cni")

_SYSCTLS = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv4.conf.all.rp_filter")


def _is_step(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "subprocess.Popen":
        # A command that only reads is no step.
        return not {"show", "list", "-j"} & set(arguments[1])
    if event == "os.remove" and str(arguments[0]).endswith(".podnet"):
        return False  # What a dead run left is looked for before every write.
    if event == "open":
        return bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)) and arguments[0] != os.devnull
    return event in _CHANGES


def _in_child(operation: Callable[[], object], prepare: Callable[[], None]) -> int:
    """Run it in a child; return the child's wait status. What it raises is told on stderr."""
    child = os.fork()
    if child == 0:
        try:
            prepare()
            operation()
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            sys.stderr.flush()
            os._exit(1)
    return os.waitpid(child, 0)[1]


def killed_before(step: int, operation: Callable[[], object]) -> bool:
    """Run it, killed before its step number `step` (from 1); whether it came that far."""
    left = step

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if _is_step(event, arguments):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return _judge(_in_child(operation, lambda: sys.addaudithook(hook)))


def killed_in_batch(number: int, operation: Callable[[], object]) -> bool:
    """Run it, killed when half of its batch number `number` is applied; whether it came so far."""
    left = number
    real = edge.run

    def half(argv: Any, stdin: str | None = None) -> edge.Result:
        nonlocal left
        if stdin is None or argv[0] == "nft" or "-j" in argv:
            return real(argv, stdin)
        left -= 1
        if left:
            return real(argv, stdin)
        lines = stdin.splitlines()
        real(argv, "\n".join(lines[: (len(lines) + 1) // 2]) + "\n")
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    def prepare() -> None:
        for module in list(sys.modules.values()):
            if getattr(module, "run", None) is real:
                module.run = half  # type: ignore[attr-defined]

    return _judge(_in_child(operation, prepare))


def _judge(status: int) -> bool:
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    assert status == 0, f"not killed, but ended with status {status}"
    return False


def complete(operation: Callable[[], object]) -> None:
    """Run it to its end, in a child, so that nothing of it stays in this process."""
    assert _in_child(operation, lambda: None) == 0


def files() -> dict[str, str]:
    """Return what lies in TREES: path -> mode and content."""
    found = {}
    for path in _walk():
        text = oct(path.lstat().st_mode)
        if path.is_symlink():
            text += f" -> {os.readlink(path)}"  # noqa: PTH115
        elif path.is_file():
            content = path.read_bytes()
            text += f" {hashlib.sha256(content).hexdigest()[:12]} {len(content)}"
        found[str(path)] = text
    return found


def _walk() -> Iterator[Path]:
    for tree in TREES:
        for top, names, plain in os.walk(tree):
            yield Path(top)
            yield from (Path(top, name) for name in [*names, *plain])


def _shown(*argv: str) -> list[str]:
    shown = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return sorted(line.rstrip() for line in shown.splitlines() if line.split())


def state(name: str = "podnet") -> dict[str, Any]:
    """Return what a host has of a network, and everything that podnet may have left."""
    observed = info.observed(name)

    def lines(*argv: str) -> list[str]:
        return [line.split("@")[0].split()[0] for line in _shown(*argv)]

    sysctls = {key: Path("/proc/sys", *key.split(".")).read_text().strip() for key in _SYSCTLS}
    return {
        "observed": json.loads(json.dumps(observed, default=vars)),
        "links": lines("ip", "-br", "link"),
        "namespaces": lines("ip", "netns"),
        "routes": [line.replace(" linkdown", "") for line in _shown("ip", "route")],
        "sysctls": sysctls,
        "files": files(),
    }


def difference(one: Any, other: Any, where: str = "") -> list[str]:
    """Return what differs, a line each."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            line
            for key in sorted({*one, *other})
            for line in difference(one.get(key), other.get(key), f"{where} {key}")
        ]
    if isinstance(one, list) and isinstance(other, list):
        gone, come = ([x for x in a if x not in b] for a, b in ((one, other), (other, one)))
        one, other = gone, come
    return [] if one == other else [f"{where}: {one!r} became {other!r}"[:500]]


def walk(
    operation: Callable[[], Any],
    recover: Callable[[], Any],
    back: Callable[[], object],
    check: Callable[[], bool],
    killers: tuple[Callable[[int, Callable[[], object]], bool], ...] = (
        killed_before,
        killed_in_batch,
    ),
) -> dict[str, Any]:
    """Kill `operation` at each step in turn; after each, `recover` must lead to the same state.

    `back` returns to where `operation` begins, and `check` says whether there is nothing left to
    do after `recover`. Returns the number of steps and what went wrong, by step.
    """
    begin = state()
    complete(operation)
    end = state()
    complete(back)
    wrong: dict[str, list[str]] = {}
    counts: list[int] = []
    if difference(begin, state()):
        wrong["undisturbed"] = difference(begin, state())
    for killer in killers:
        number = 1
        while killer(number, operation):
            label = f"{killer.__name__} {number}"
            found = _recovered(recover, end, check)
            complete(back)
            if number % 5 == 1:
                found += [f"back:{line}" for line in difference(begin, state())]
            if found:
                wrong[label] = found[:8]
            if len(wrong) > 5:
                return {"steps": counts, "wrong": wrong}
            number += 1
        counts.append(number - 1)
        complete(back)
        if difference(begin, state()):
            wrong[f"after {killer.__name__}"] = difference(begin, state())
    return {"steps": counts, "wrong": wrong}


def there_and_back(
    there: Callable[[], Any],
    back: Callable[[], Any],
    is_there: Callable[[], bool],
    is_back: Callable[[], bool],
) -> dict[str, Any]:
    """Kill two operations that undo each other at each step of both, as `walk` does one.

    Each is finished by another run of it, and where it ends the other begins.
    """
    begin = state()
    complete(there)
    end = state()
    complete(back)
    wrong: dict[str, list[str]] = {}
    counts: list[int] = []
    if difference(begin, state()):
        wrong["undisturbed"] = difference(begin, state())
    for killer in (killed_before, killed_in_batch):
        number, last = 0, [0, 0]
        while last.count(number):
            number += 1
            for index, (operation, aim, check) in enumerate(
                ((there, end, is_there), (back, begin, is_back))
            ):
                if last[index] == number - 1 and killer(number, operation):
                    last[index] = number
                    found = _recovered(operation, aim, check)
                else:
                    if last[index] < number - 1:
                        complete(operation)
                    found = difference(aim, state())
                if found:
                    wrong[f"{killer.__name__} {number}, {('there', 'back')[index]}"] = found[:8]
            if len(wrong) > 5:
                return {"steps": counts, "wrong": wrong}
        counts += last
    return {"steps": counts, "wrong": wrong}


def _recovered(
    recover: Callable[[], object], end: dict[str, Any], check: Callable[[], bool]
) -> list[str]:
    try:
        complete(recover)
        found = difference(end, state())
        if not check():
            found.append("a further run has something to do")
        return found
    except (AssertionError, PodnetError) as error:
        return [str(error)]

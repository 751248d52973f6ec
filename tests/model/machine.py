"""Run the real core on a model of a host: its kernel, its files, its timed rollback.

Replaced is only the edge: what starts a tool, and what opens a file. Everything that changes
something is a step; a walk is the list of states after each of them, so it holds every state that
a host can be in if it dies, loses its connection or is killed meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from unittest import mock

from podnet.backends.base import HostTools
from podnet.core.errors import PodnetError
from podnet.core.model import Plan
from podnet.core.state import Chain, Change, Port, Rule
from podnet.host import converge, look, rollback, ssh_clients, switch_proof
from podnet.keep import boot, files, lock
from podnet.keep.files import LinkChange, TextChange
from podnet.kernel import adopt as kernel_adopt
from podnet.kernel import bridge_netfilter as kernel_bridge_netfilter
from podnet.kernel import forward, observe, pods, run, services
from podnet.kernel import preflight as kernel_preflight
from podnet.state import bridge_netfilter, managers
from podnet.state.adopt import Found
from podnet.state.preflight import Facts, Questions

from . import answers
from .kernel import Chains, Kernel, Refused


class Armed(NamedTuple):
    """A timed rollback: the way back as a script, and what files held before and after."""

    script: str
    before: tuple[tuple[str, str | None], ...]
    after: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A host at one moment; equal ones are one object (`Machine.freeze`), so `is` compares them.

    `wire` numbers what decides about packets.
    """

    kernel: Kernel
    files: Mapping[str, str]
    boot: Mapping[str, str]
    armed: Armed | None
    wire: int


class Step(NamedTuple):
    """What was done, and the host after it; `passing`: the same command goes on at once."""

    text: str
    after: Snapshot
    passing: bool = False


class Walk(NamedTuple):
    """What a call did, step by step; `error` is what it said, "" for success.

    `undone` tells at which step it failed and began to go back, 0 for never.
    """

    begin: Snapshot
    steps: tuple[Step, ...]
    error: str = ""
    undone: int = 0
    armed: bool = False
    switching: bool = False

    @property
    def end(self) -> Snapshot:
        """The host afterwards."""
        return self.steps[-1].after if self.steps else self.begin


_KNOWN: dict[object, Snapshot] = {}
_WIRES: dict[object, int] = {}


def snapshot(
    kernel: Kernel, texts: Mapping[str, str], booted: Mapping[str, str], armed: Armed | None
) -> Snapshot:
    """Return the one object for a host's state."""
    key = kernel.all(), frozenset(texts.items()), frozenset(booted.items()), armed
    known = _KNOWN.get(key)
    if known is None:
        wire = _WIRES.setdefault(kernel.wire(), len(_WIRES))
        known = Snapshot(kernel.copy(), dict(texts), dict(booted), armed, wire)
        _KNOWN[key] = known
    return known


@dataclass
class Machine:
    """The host that the core works on just now."""

    kernel: Kernel
    files: dict[str, str] = field(default_factory=dict)
    boot: dict[str, str] = field(default_factory=dict)
    armed: Armed | None = None
    client: str = ""
    fails_at: int = 0
    steps: list[Step] = field(default_factory=list)
    failed: int = 0

    @classmethod
    def of(cls, begin: Snapshot) -> Machine:
        """Return one in the state of a snapshot."""
        return cls(begin.kernel.copy(), dict(begin.files), dict(begin.boot), begin.armed)

    def freeze(self) -> Snapshot:
        """Return the state it is in."""
        return snapshot(self.kernel, self.files, self.boot, self.armed)

    @contextlib.contextmanager
    def step(self, text: str, passing: bool = False) -> Iterator[None]:
        """Do one thing, unless it is the one to fail; keep the state after it."""
        if self.fails_at == len(self.steps) + 1 and not self.failed:
            self.failed = self.fails_at
            raise Refused("refused by the test")
        yield
        self.steps.append(Step(text, self.freeze(), passing))

    # What the core calls instead of tools and files

    def tool(self, argv: Sequence[str], stdin: str | None = None) -> run.Result:
        lines = (stdin or "").splitlines()
        namespace = ""
        if argv[0] == "nsenter":
            namespace = argv[1].removeprefix("--net=")
            argv = argv[2:]
        if lines and all(line.startswith("route get ") for line in lines):
            return self._ways(lines)
        try:
            if "-batch" in argv:
                for number, line in enumerate(lines, 1):
                    text, passing = self._named(argv[0], namespace, line), number < len(lines)
                    with self._batched(number), self.step(text, passing):
                        self._line(argv[0], namespace, line)
            elif list(argv[:2]) == ["nft", "-c"]:
                self.kernel.copy().nft(lines)
            elif list(argv[:2]) == ["nft", "-f"]:
                with self.step("nft -f: " + next((x for x in lines if "{" in x), lines[-1])):
                    self.kernel.nft(lines)
            else:
                return run.Result(1, "", f"the model does not know {' '.join(argv)}")
        except Refused as error:
            return run.Result(1, "", str(error))
        return run.Result(0, "", "")

    def _ways(self, lines: Sequence[str]) -> run.Result:
        printed, failed = [], []
        for number, line in enumerate(lines, 1):
            answer = answers.way(self.kernel, line)
            if answer is None:
                failed.append(f"Command failed -:{number}")
            else:
                printed.append(json.dumps([answer]))
        return run.Result(1 if failed else 0, "\n".join(printed), "\n".join(failed))

    @staticmethod
    def _named(tool: str, namespace: str, line: str) -> str:
        return f"{tool} {line}" + (f" in {namespace}" if namespace else "")

    @staticmethod
    @contextlib.contextmanager
    def _batched(number: int) -> Iterator[None]:
        try:
            yield
        except Refused as error:
            raise Refused(f"{error}\nCommand failed -:{number}") from error

    def _line(self, tool: str, namespace: str, line: str) -> None:
        if not namespace:
            self.kernel.execute(tool, line)
            return
        words = line.split()
        assert words[:4] == ["link", "set", "dev", "eth0"] and words[4] == "mtu", line
        for name, pod in self.kernel.pods.items():
            if pod.namespace == namespace:
                self.kernel.pods[name] = pod._replace(mtu=int(words[5]))

    def read_json(self, argv: Sequence[str], _check: object) -> list[dict[str, Any]]:
        return answers.read_json(self.kernel, argv)

    def read_table(self, name: str) -> observe.Table | None:
        full = name if " " in name else f"inet {name}"
        found: Chains | None = self.kernel.tables.get(full)
        if found is None:
            return None
        chains = tuple(
            Chain(chain, hook, tuple(Rule(text, tag) for text, tag in rules))
            for chain, hook, rules in found
        )
        sets = self.kernel.sets.items()
        own = {element: one for (owner, one), those in sets if owner == full for element in those}
        return observe.Table(chains, own)

    def with_inner_ends(self, ports: dict[str, Port], _links: object) -> dict[str, Port]:
        inside = self.kernel.pods
        return {
            name: port._replace(
                inner_mtu=inside[name].mtu, inner="eth0", namespace=inside[name].namespace
            )
            if name in inside
            else port
            for name, port in ports.items()
        }

    @contextlib.contextmanager
    def _file_step(self, text: str) -> Iterator[None]:
        try:
            with self.step(text):
                yield
        except Refused as error:
            raise PodnetError(f"{text}: {error}") from error

    def read_text(self, path: str) -> str | None:
        return self.files.get(path)

    def write_text(self, path: str, text: str, _mode: int = 0o644) -> None:
        with self._file_step(f"write {path}"):
            self.files[path] = text

    def write_link(self, path: str, target: str) -> None:
        with self._file_step(f"link {path}"):
            self.files[path] = f"-> {target}"

    def remove_file(self, path: str) -> None:
        if path in self.files:
            with self._file_step(f"remove {path}"):
                del self.files[path]

    def text_change(self, path: str, after: str | None, _mode: int = 0o644) -> TextChange | None:
        before = self.files.get(path)
        return None if before == after else TextChange(path, before, after)

    def link_change(self, path: str, after: str | None) -> LinkChange | None:
        before = self.files.get(path)
        wanted = f"-> {after}" if after is not None else None
        return None if before == wanted else LinkChange(path, before, after)

    def read_files(self, paths: Sequence[str]) -> list[tuple[str, str]]:
        return [(path, self.files[path]) for path in dict.fromkeys(paths) if path in self.files]

    def write_boot(self, _name: str, contents: dict[str, str]) -> None:
        with self._file_step("move the link to the new boot files"):
            self.boot = dict(contents)

    def arm(
        self,
        name: str,
        way_back: Sequence[Change],
        kept: Mapping[str, str | None],
        _timeout: int,
    ) -> None:
        with self._file_step("arm the timed rollback"):
            text = rollback.script(name, way_back, list(kept))
            self.armed = Armed(text, tuple(kept.items()))

    def note_written(self, _name: str, paths: Sequence[str]) -> None:
        assert self.armed is not None
        with self._file_step("note what was written"):
            found = tuple((path, self.files[path]) for path in paths if path in self.files)
            self.armed = self.armed._replace(after=found)

    def disarm(self, _name: str) -> list[str]:
        if self.armed is not None:
            with self._file_step("disarm the timed rollback"):
                self.armed = None
        return []

    def prove(self, *_: object) -> None:
        with self._file_step("ask the peers after the shift"):
            pass


class _Sysctl:
    """Stands for a file below /proc/sys."""

    def __init__(self, key: str) -> None:
        self.key = key

    def read_text(self) -> str:
        value = _now().kernel.read_sysctl(self.key)
        if value is None:
            raise FileNotFoundError(self.key)
        return value + "\n"

    def write_text(self, value: str) -> None:
        try:
            with _now().step(f"sysctl {self.key}={value}"):
                _now().kernel.execute("sysctl", f"{self.key}={value}")
        except Refused as error:
            raise OSError(2, str(error)) from error

    def __str__(self) -> str:
        return f"sysctl:{self.key}"


class _Proof:
    """Stands for the proof of a shift: every question is a step that may fail."""

    def __init__(self, *_: object) -> None:
        pass

    def new_way(self) -> list[str]:
        return []

    def real_way(self) -> list[str]:
        _now().prove()
        return []


_CURRENT: list[Machine] = []


def _now() -> Machine:
    return _CURRENT[-1]


def _as(name: str) -> Callable[..., Any]:
    def stand_in(*args: Any, **kwargs: Any) -> Any:
        return getattr(_now(), name)(*args, **kwargs)

    return stand_in


def _nothing(*_: object, **__: object) -> None:
    return None


def _facts(asked: Questions) -> Facts:
    """Say of a host that it can all that is asked."""
    values = observe.read_sysctls(asked.disabled6)
    return Facts(makes=True, holder="", can_rename=True, release="6.18", values=values)


#: How a backend reads a machine: JSON and files; no other tool is there, and no name.
_TOOLS = HostTools(
    _as("read_json"),
    lambda _argv, _stdin: None,
    _as("read_text"),
    lambda _path: 0o600,
    lambda _directory: [],
    lambda _name, _family: [],
)


def _replacements() -> list[tuple[object, object]]:
    """Return (what is of the edge, what stands in for it)."""
    return [
        (run.run, _as("tool")),
        (run.read_json, _as("read_json")),
        (run.TOOLS, _TOOLS),
        (run.demand_root, _nothing),
        (run.find, lambda tool: tool),
        (observe.sysctl_path, _Sysctl),
        (observe.read_table, _as("read_table")),
        (forward.read, lambda *_: ({}, [])),
        (kernel_adopt.read, lambda *_: Found()),
        (kernel_adopt.has_environment, lambda *_: False),
        (kernel_preflight.ask, _facts),
        (kernel_bridge_netfilter.ask, lambda _node: bridge_netfilter.BridgeFacts()),
        (files.read_text, _as("read_text")),
        (files.text_change, _as("text_change")),
        (files.link_change, _as("link_change")),
        (files.write_text, _as("write_text")),
        (files.write_link, _as("write_link")),
        (files.remove_file, _as("remove_file")),
        (files.prune_directories, lambda *_: []),
        (files.alone, contextlib.nullcontext),
        (look.read_files, _as("read_files")),
        (boot.read, lambda _name: dict(_now().boot)),
        (boot.write, _as("write_boot")),
        (boot.sweep, _nothing),
        (boot.own_paths, boot.paths),
        (services.await_replay, _nothing),
        (services.settle, lambda _paths: []),
        (lock.held, lambda *_: contextlib.nullcontext()),
        (pods.with_inner_ends, _as("with_inner_ends")),
        # No pod leaves here: see tests/kernel/test_passing_pods.py.
        (pods.has_device, lambda *_: True),
        (ssh_clients.clients, lambda _run="": ssh_clients.Clients([_now().client])),
        (rollback.arm, _as("arm")),
        (rollback.note_written, _as("note_written")),
        (rollback.confirm, _as("disarm")),
        (rollback.settle, _as("disarm")),
        (switch_proof.begin, lambda *_: {}),
        (switch_proof.end, lambda *_: []),
        (switch_proof.Proof, _Proof),
    ]


@contextlib.contextmanager
def edge_replaced() -> Iterator[None]:
    """Let the core work on `Machine`s for a while, wherever it imported the edge's functions."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(managers, "SIGNS", {}))
        wanted = {id(real): stand_in for real, stand_in in _replacements()}
        for name, module in list(sys.modules.items()):
            if name == "podnet" or name.startswith("podnet."):
                for attribute, value in list(vars(module).items()):
                    if id(value) in wanted:
                        stack.enter_context(mock.patch.object(module, attribute, wanted[id(value)]))
        yield


def call(machine: Machine, operation: Callable[[], Any]) -> Walk:
    """Let the core do something on a machine; only its own errors are results."""
    begin = machine.freeze()
    _CURRENT.append(machine)
    error = ""
    result = None
    try:
        result = operation()
    except PodnetError as raised:
        error = str(raised)
    finally:
        _CURRENT.pop()
    return Walk(
        begin,
        tuple(machine.steps),
        error,
        machine.failed,
        bool(getattr(result, "armed", False)),
        bool(getattr(result, "switching", False)),
    )


def change(
    begin: Snapshot,
    plan: Plan,
    node: str,
    phase: str,
    *,
    fails_at: int = 0,
    client: str = "",
    confirming: bool = False,
) -> Walk:
    """Let `converge.converge` lead a host to the end of a phase; fail its step `fails_at`."""
    machine = Machine.of(begin)
    machine.fails_at, machine.client = fails_at, client
    return call(
        machine,
        lambda: converge.converge(plan, node, phase, False, confirming=confirming, proof={}),
    )


def pending(begin: Snapshot, plan: Plan, node: str) -> tuple[int, bool]:
    """Return (changes left, whether all hosts must keep step), as a look says."""
    machine = Machine.of(begin)
    _CURRENT.append(machine)
    try:
        found = converge.converge(plan, node, "all", True)
    finally:
        _CURRENT.pop()
    return len(found.changes), found.switching

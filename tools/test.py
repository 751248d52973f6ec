"""All that must hold, in one run: linters, pytest, molecule's scenarios; `make test` calls it.

    python tools/test.py [lint] [unit] [molecule] [SCENARIO...]

Goes on after a failure, to show all of them. Parts run side by side, and some scenarios count
lost pings; so one that fails beside others is shown, then run once more, alone, and that counts.
With each part stand the seconds that it took, and those of CPU that it and its lab's hosts used.
The last line is `N passed, N failed`: each linter and each scenario counts as one, pytest's tests
as so many. What failed is named before it, also where the second try passed. The status is 0 only
if something ran and nothing failed; a part that executed nothing has failed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
LOGS = ROOT / ".cache" / "test"

#: Parts that run side by side: one for each core of a small machine.
WORKERS = 2

#: The longest parts, in the order in which they begin: what is short comes last, so that all
#: workers end at about the same time.
LONGEST = (
    *("pytest kernel", "molecule kernels", "molecule interrupted", "molecule wireguard"),
    *("pytest unit", "molecule two_controllers", "molecule switch", "molecule runtimes"),
)

#: Scenarios that run with nothing beside them, at the end: there a process carries all packets, and
#: one that gets no CPU drops some.
ALONE: tuple[str, ...] = ()

#: What chooses a kernel, or how much of a scenario is run, and so is no accident.
CHOICES = ("PODNET_SUITE", "PODNET_KERNELS", "PODNET_DOCTOR")

#: Seconds that a scenario may take; all switches on emulated processors take longer.
SCENARIO_TIMEOUT, ALL_KERNELS_TIMEOUT = 2000.0, 7200.0

#: How a part is asked to end, and seconds to wait: an interrupted lab clears up after itself.
PATIENCE = ((signal.SIGINT, 20.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))

#: Lines of a failed part's output to show, of the thousands that it may have.
TAIL = 120

#: The lab that pytest's tests make.
PYTEST_LAB = "labtest"

#: What ends a run. SIGINT, too: a shell's background jobs start with it ignored.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: Held by a run that makes labs; the kernel frees it however the run ends.
LOCK = Path("/run/podnet-test.lock")

#: Where the kernel counts what the hosts of labs use (cgroups(7)).
CGROUPS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))

#: Marks all processes of a part, so that they can be found and ended by id, and no others.
_MARK = "PODNET_TEST_PART"

_PYTHON_TREES = [
    *("module_utils", "library", "action_plugins", "filter_plugins"),
    *("tests", "lab", "molecule", "tools", "bench"),
]
# What tests run on hosts, beside the project's own code.
_TESTS_ON_HOSTS = ["tests/traffic/onhost", "tests/scenario/snapshot.py", "tests/intruder.py"]
_TESTS_ON_HOSTS += ["lab/bytecode.py"]
_YAML_TREES = ["playbooks", "roles", "molecule", "inventory/example", "docs/examples", ".config"]
_ANSIBLE_TREES = ["playbooks", "roles", "molecule", "inventory/example", "docs/examples"]


@dataclass
class Part:
    """A command that passes or fails. `junit`: it counts the tests in that file, not itself.

    `alone`: nothing else runs meanwhile. `again`: it has failed once.
    """

    name: str
    argv: Sequence[str]
    junit: Path | None = None
    scenario: str = ""
    alone: bool = False
    again: bool = False
    timeout: float = 600
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return LOGS / f"{self.name.replace(' ', '-')}.log"

    @property
    def results(self) -> Path | None:
        """The file in which its tests' results are, if it has any."""
        return LOGS / f"molecule-{self.scenario}.xml" if self.scenario else self.junit


@dataclass
class Running:
    """A part that was started."""

    part: Part
    process: subprocess.Popen[bytes]
    begin: float
    #: Seconds of CPU of its processes, when it has ended, and of its lab's hosts so far.
    processes: float = 0.0
    hosts: float = 0.0

    @property
    def mark(self) -> str:
        """The value of _MARK in the environment of its processes."""
        return _mark(self.part)


@dataclass
class Count:
    """What came out so far; `named` says what failed, also where the second try passed."""

    passed: int = 0
    failed: int = 0
    named: list[str] = field(default_factory=list)


def _python(*argv: str) -> list[str]:
    return [sys.executable, *argv]


def lint_parts() -> list[Part]:
    """Return the linters, the slowest first."""
    modules = sorted(path.stem for path in (ROOT / "library").glob("*.py"))
    ansible_lint = [str(BIN / "ansible-lint"), "--offline", "--nocolor", "-q"]
    commands = {
        # Named trees: asking git for the files fails where the clone belongs to somebody else.
        "ansible-lint": [*ansible_lint, *_ANSIBLE_TREES],
        "mypy": _python("-m", "mypy", *_PYTHON_TREES),
        "ruff check": [str(BIN / "ruff"), "check", "--no-cache"],
        "ruff format": [str(BIN / "ruff"), "format", "--check", "--no-cache"],
        "yamllint": _python("-m", "yamllint", "--strict", *_YAML_TREES),
        "vermin": [
            *(str(BIN / "vermin"), "--no-tips", "--quiet", "--violations", "-t=3.8-"),
            *("module_utils", "library", *_TESTS_ON_HOSTS),
        ],
        "roles": _python("tools/checks.py", "roles"),
        "includes": _python("tools/checks.py", "includes"),
        "scenarios": _python("tools/checks.py", "scenarios"),
        "hostcode": _python("tools/checks.py", "hostcode"),
    }
    for module in modules:
        commands[f"ansible-doc {module}"] = [str(BIN / "ansible-doc"), "-t", "module", module]
    return [Part(name, argv) for name, argv in commands.items()]


def unit_parts() -> list[Part]:
    """Return pytest's parts: one for each directory of tests."""
    parts = []
    for directory in ("unit", "model", "kernel", "lab"):
        junit = LOGS / f"{directory}.xml"
        argv = _python("-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={junit}")
        parts.append(
            Part(f"pytest {directory}", [*argv, f"tests/{directory}"], junit, timeout=3000)
        )
    return parts


def scenario_names() -> list[str]:
    """Return molecule's scenarios."""
    return sorted(path.parent.name for path in ROOT.glob("molecule/*/molecule.yml"))


def molecule_parts(names: Sequence[str], state: Path) -> list[Part]:
    """Return scenarios as parts; `state` is a directory for what molecule keeps of this run."""
    parts = []
    for name in names:
        argv = _python("-m", "molecule", "-c", ".config/molecule/config.yml")
        environment = {
            "MOLECULE_EPHEMERAL_DIRECTORY": str(state / name),
            "MOLECULE_PROJECT_DIRECTORY": str(ROOT),
        }
        argv += ["test", "-s", name]
        parts.append(
            Part(
                f"molecule {name}",
                argv,
                scenario=name,
                alone=name in ALONE,
                timeout=ALL_KERNELS_TIMEOUT if "PODNET_KERNELS" in os.environ else SCENARIO_TIMEOUT,
                environment=environment,
            )
        )
    return parts


def ordered(parts: Sequence[Part]) -> list[Part]:
    """Return the parts, the longest first and those that run alone last; others as they are."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    return sorted(parts, key=lambda part: (part.alone, ranks.get(part.name, len(ranks))))


# Running


def run(parts: Sequence[Part], base: dict[str, str], count: Count) -> None:
    """Run all parts, WORKERS at a time; print and count each one's result as it ends."""
    waiting = list(parts)
    running: list[Running] = []
    try:
        while waiting or running:
            while waiting and _may_start(waiting[0], running):
                running.append(_start(waiting.pop(0), base))
            for one in list(running):
                overdue = time.monotonic() - one.begin > one.part.timeout
                one.hosts = max(one.hosts, _hosts_seconds(one.part))
                if _has_ended(one) or overdue:
                    running.remove(one)
                    waiting += _finish(one, overdue and one.process.returncode is None, count)
            time.sleep(0.05)
    finally:
        for one in running:
            print(f"ended  {one.part.name}", flush=True)
            _end(one)


def _may_start(part: Part, running: Sequence[Running]) -> bool:
    if part.alone:
        return not running
    return len(running) < WORKERS and not any(one.part.alone for one in running)


def _start(part: Part, base: dict[str, str]) -> Running:
    environment = base | part.environment | {_MARK: _mark(part)}
    if part.results:
        part.results.unlink(missing_ok=True)
    if part.scenario:
        # Proves that a scenario's verify step ran: molecule passes where it is skipped.
        environment["PODNET_JUNIT"] = str(part.results)
    with part.log.open("wb") as log:
        process = subprocess.Popen(
            part.argv,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Running(part, process, time.monotonic())


def _has_ended(one: Running) -> bool:
    """Whether its process has ended; note what it used, which Popen would not."""
    if one.process.returncode is None:
        pid, status, usage = os.wait4(one.process.pid, os.WNOHANG)
        if pid:
            one.process.returncode = os.waitstatus_to_exitcode(status)
            one.processes = usage.ru_utime + usage.ru_stime
    return one.process.returncode is not None


def _hosts_seconds(part: Part) -> float:
    """Return the seconds of CPU of a scenario's hosts: they are no children of its process."""
    for directory in CGROUPS if part.scenario else ():
        with contextlib.suppress(OSError):
            file = directory / f"podnet-lab-{lab_name(part.scenario)}" / "cpu.stat"
            words = dict(line.split() for line in file.read_text().splitlines())
            return int(words["usage_usec"]) / 1e6
    return 0.0


def _finish(one: Running, overdue: bool, count: Count) -> list[Part]:
    """Count and print a part's result; return what has to run once more."""
    part = one.part
    if overdue:
        _end(one)
    seconds = time.monotonic() - one.begin
    problem = _problem(one, overdue)
    details = ""
    if part.junit:
        passed, failed, skipped = _tests(part.junit)
        if passed + failed == 0:
            problem = problem or "no test was executed"
        if skipped:
            # Whatever a test needs, this run has set up; a skipped one proves nothing.
            problem = problem or f"{skipped} skipped"
            failed += skipped
        count.passed += passed
        count.failed += failed or (1 if problem else 0)
        details = f"{passed} passed, {failed} failed, "
    elif part.results and not problem and _tests(part.results)[0] == 0:
        problem = "its verify step did not run"
    again = bool(problem and part.scenario and not part.again)
    if not part.junit and not again:
        count.passed += not problem
        count.failed += bool(problem)
    used = f"{seconds:.0f} s, CPU {one.processes + one.hosts:.0f} s"
    print(f"{'FAILED' if problem else 'ok'}  {part.name}  ({details}{used})", flush=True)
    if problem:
        when = "alone" if part.alone else "beside others" if again else ""
        tests = _failures(part.results) if part.results else []
        label = " ".join(word for word in (part.name, when) if word)
        count.named += [f"{label}: {one}" for one in tests or [problem]]
        lines = part.log.read_text(errors="replace").splitlines()
        print(f"---- {part.name}: {problem}; its last lines, all are in {part.log}:")
        print("\n".join(lines[-TAIL:]))
        print(f"---- end of {part.name}", flush=True)
        if part.scenario:
            _end(one)
            lab_down(lab_name(part.scenario))
    if not again:
        return []
    print(f"again  {part.name}, alone, when all others have ended", flush=True)
    return [replace(part, alone=True, again=True)]


def _problem(one: Running, overdue: bool) -> str:
    if overdue:
        return f"not done after {one.part.timeout:.0f} s"
    status = one.process.returncode
    return f"status {status}" if status else ""


def _tests(junit: Path) -> tuple[int, int, int]:
    """Return how many tests passed, failed and were skipped; none where there is no file."""
    with contextlib.suppress(OSError, ET.ParseError):
        suites = list(ET.parse(junit).getroot().iter("testsuite"))
        total, failures, errors, skipped = (
            sum(int(suite.get(key, 0)) for suite in suites)
            for key in ("tests", "failures", "errors", "skipped")
        )
        return total - failures - errors - skipped, failures + errors, skipped
    return 0, 0, 0


def _failures(junit: Path) -> list[str]:
    """Return the tests that failed, each with the beginning and the end of why."""
    with contextlib.suppress(OSError, ET.ParseError):
        return [
            f"{case.get('name')}: {_shortened(' '.join(str(bad.get('message')).split()))}"
            for case in ET.parse(junit).getroot().iter("testcase")
            for bad in (*case.findall("failure"), *case.findall("error"))
        ]
    return []


def _shortened(text: str, most: int = 700) -> str:
    return text if len(text) <= most else f"{text[: most // 2]} [...] {text[-most // 2 :]}"


# Ending and clearing


def _mark(part: Part) -> str:
    return f"{os.getpid()}-{part.name.replace(' ', '-')}"


def _end(one: Running) -> None:
    """End all processes of a part, also those that left its session; politely first."""
    for number, seconds in PATIENCE:
        deadline = time.monotonic() + seconds
        for pid in _marked(one.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        while time.monotonic() < deadline:
            _has_ended(one)
            if not list(_marked(one.mark)):
                return
            time.sleep(0.1)


def _marked(mark: str) -> Iterator[int]:
    entry = f"{_MARK}={mark}".encode()
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if entry in (directory / "environ").read_bytes().split(b"\0"):
                yield int(directory.name)


def lab_name(scenario: str) -> str:
    """Return the lab of a scenario, as molecule/shared/vars/lab.yml has it."""
    return f"mol-{scenario.replace('_', '-')}"


def lab_down(name: str) -> None:
    """Remove a lab of the tests; whatever is wrong with it is shown, and does not stop the run."""
    done = subprocess.run(
        _python("-m", "lab", "down", "--name", name),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    if done.returncode:
        print(f"lab {name} could not be removed", flush=True)


def left_labs(names: Sequence[str]) -> list[str]:
    """Return which of these labs there are, also halves of them."""
    places = ("/run/podnet-lab/{}", "/run/netns/podnet-lab-{}")
    return [name for name in names if any(Path(one.format(name)).exists() for one in places)]


def clear(names: Sequence[str]) -> None:
    """Remove what an earlier run left of these labs, here or in another clone."""
    for name in left_labs(names):
        print(f"clearing lab {name} of an earlier run", flush=True)
        lab_down(name)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold the machine's labs of the tests, whose names are the same in all clones."""
    with LOCK.open("w") as handle:
        told = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    print("another run of the tests is at work here; waiting for it", flush=True)
                told = True
                time.sleep(1)
        yield


def environment(home: Path) -> dict[str, str]:
    """Return the environment of all parts: the caller's, less what would make them differ."""
    dropped: tuple[str, ...] = (
        "ANSIBLE_",
        "MOLECULE_",
        "PYTEST_",
        "PODNET_",
        "MYPY",
        "RUFF_",
        "YAMLLINT_",
        "LC_",
    )
    dropped += ("GIT_", "PY_COLORS", "FORCE_COLOR", "PYTHONPATH", "PYTHONHOME", "LANGUAGE")
    dropped += ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")
    kept = {
        key: value
        for key, value in os.environ.items()
        if key in CHOICES or not key.startswith(dropped)
    }
    system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return kept | {
        "PATH": f"{BIN}:{system}",
        # Ansible refuses to run without a UTF-8 locale; this one is there without a package.
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        # Nothing of the user's, and nothing left in the user's home.
        "HOME": str(home),
        "ANSIBLE_HOME": str(home / ".ansible"),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "NO_COLOR": "1",
        "TERM": "dumb",
        "COLUMNS": "100",
        "PYTHONUNBUFFERED": "1",
        # Thousands of processes start: what one has compiled all use, and the tree stays clean.
        "PYTHONPYCACHEPREFIX": str(home / "bytecode"),
    }


def main() -> int:
    """Run the parts that are named, by default all."""
    wanted = sys.argv[1:] or ["lint", "unit", "molecule"]
    names = scenario_names()
    if unknown := set(wanted) - {"lint", "unit", "molecule", *names}:
        print(f"{', '.join(sorted(unknown))}: neither a kind of test nor a scenario")
        print("0 passed, 1 failed")
        return 1
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    # Not emptied: another run may be at work there, and a part begins with files of its own.
    LOGS.mkdir(parents=True, exist_ok=True)
    count = Count()
    begin = time.monotonic()
    home = Path(tempfile.mkdtemp(prefix="podnet-test-"))
    chosen = names if "molecule" in wanted else [name for name in names if name in wanted]
    labs = [lab_name(name) for name in chosen] + [PYTEST_LAB] * ("unit" in wanted)
    held: list[str] = []
    stack = contextlib.ExitStack()
    try:
        if labs:
            stack.enter_context(alone())
            held = labs
        clear(held)
        parts = unit_parts() if "unit" in wanted else []
        parts += molecule_parts(chosen, home / "molecule")
        parts += lint_parts() if "lint" in wanted else []
        run(ordered(parts), environment(home), count)
        if left := left_labs(held):
            count.failed += 1
            print(f"FAILED  labs were left: {', '.join(left)}")
    except KeyboardInterrupt:
        count.failed += 1
        print("interrupted", flush=True)
    except Exception:
        count.failed += 1
        traceback.print_exc()
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        for name in left_labs(held):
            lab_down(name)
        shutil.rmtree(home, ignore_errors=True)
        stack.close()
    for line in count.named:
        print(f"failed: {line}")
    print(f"{time.monotonic() - begin:.0f} s")
    print(f"{count.passed} passed, {count.failed} failed", flush=True)
    return 0 if count.passed and not count.failed else 1


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())

"""Run podnet with each ansible-core; write docs/controllers.md. Needs root, makes a lab.

    python tools/controllers.py [--make] [VERSION...]

For each version of VERSIONS: an environment of its own in .cache/controllers, a new lab of two
hosts, and on it what STEPS says. A version that no Python here can run keeps a row that says so.
The status is 0 only if something ran and nothing failed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lab import Lab, LabError  # noqa: E402
from tools import venv  # noqa: E402

CACHE = ROOT / ".cache" / "controllers"
RESULTS = ROOT / "docs" / "controllers.json"
PAGE = ROOT / "docs" / "controllers.md"
LAB = "controllers"
NEWEST = "newest"

#: ansible-core -> the Pythons that it runs on as a controller, the first that is here is taken.
#: NEWEST is what the registry has, release candidates too: what will be news next.
VERSIONS: dict[str, tuple[str, ...]] = {
    "2.16": ("3.11", "3.12", "3.10"),
    "2.17": ("3.11", "3.12", "3.10"),
    "2.18": ("3.11", "3.12", "3.13"),
    "2.19": ("3.11", "3.12", "3.13"),
    "2.20": ("3.13", "3.12", "3.14"),
    "2.21": ("3.13", "3.12", "3.14"),
    NEWEST: ("3.14", "3.13", "3.12"),
}


_PAGE = """\
# Controllers

Which ansible-core podnet was run with, on two real hosts (Debian 12) of a lab. Written by
`make test-controllers`; `make test-controllers VERSIONS=2.19` runs one, and the other rows stay as
they are. `requirements.txt` allows the versions for which all steps are ok.

{table}

* *bootstrap*: `site.yml` on fresh hosts. *nothing to do*: again, and no host may change. *switch*:
  `site.yml` from vxlan to host-gw, in phases, proven before routes move. *verify*: `verify.yml`,
  every pair of pods. *reset*: `reset.yml`. Each step ends with status 0 and does what is said here,
  or its cell says what it did.
* *Python on hosts* is the oldest that this ansible-core's modules run with; podnet's own run with
  3.8.
* The newest is what the package registry has, release candidates too.
* ansible-core before 2.19 takes a host that is lost in the middle of a call for failed where
  pipelining is off: the run stops and names the host, but does not wait for it to come back.
  `ansible.cfg` turns pipelining on.
"""


@dataclass(frozen=True)
class Step:
    """A playbook's run. `changes`: whether it must change hosts; None where that is no matter.

    `tells` is what its output must have.
    """

    title: str
    playbook: str
    arguments: tuple[str, ...] = ()
    changes: bool | None = None
    tells: str = ""


_SWITCHED = ("-e", "podnet_backend=host-gw")
STEPS = (
    Step("bootstrap", "site.yml", changes=True),
    Step("nothing to do", "site.yml", changes=False),
    Step("switch", "site.yml", _SWITCHED, changes=True, tells="Move the routes]"),
    Step("verify", "verify.yml", _SWITCHED, tells="probes were answered"),
    Step("reset", "reset.yml", _SWITCHED, changes=True),
)


@dataclass
class Row:
    """What came out for one version; `why_not` where it could not be tried."""

    date: str
    core: str = ""
    python: str = ""
    hosts_python: str = ""
    steps: dict[str, str] = field(default_factory=dict)
    deprecations: list[str] = field(default_factory=list)
    why_not: str = ""

    @property
    def good(self) -> bool:
        """Whether all steps did what they must."""
        return bool(self.steps) and set(self.steps.values()) == {"ok"}


def choose(wanted: Sequence[str], found: Mapping[str, Path]) -> Path | None:
    """Return the first of the wanted Pythons that is there."""
    return next((found[one] for one in wanted if one in found), None)


def pythons(directories: Iterable[Path]) -> dict[str, Path]:
    """Return version -> interpreter of those in `directories`; the first one counts."""
    result: dict[str, Path] = {}
    for directory in directories:
        for file in sorted(directory.glob("python3.*")):
            version = file.name.removeprefix("python")
            if re.fullmatch(r"3\.\d+", version) and os.access(file, os.X_OK):
                result.setdefault(version, file)
    return result


def places() -> list[Path]:
    """Return where to look for Pythons: Debian's own, the PATH, pyenv's."""
    path = [Path(one) for one in os.environ.get("PATH", "").split(":") if one]
    # An environment's Python, and pyenv's stand-ins, are not the interpreters themselves.
    path = [one for one in path if not (one.parent / "pyvenv.cfg").exists() and one.name != "shims"]
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    return [Path("/usr/bin"), *path, *sorted((root / "versions").glob("*/bin"), reverse=True)]


def requirements(version: str, text: str) -> list[str]:
    """Return what to install for a version; `text` is requirements.txt, for all but the core."""
    core = ["--pre", "ansible-core"] if version == NEWEST else [f"ansible-core~={version}.0"]
    lines = [line.strip() for line in text.splitlines()]
    return core + [line for line in lines if line and not line.startswith(("#", "ansible-core"))]


def oldest(basic: str) -> str:
    """Return the oldest Python 3 that module_utils/basic.py of an ansible-core takes."""
    found = re.search(r"^_PY3?_MIN = [^\d(]*\((\d+), (\d+)\)", basic, re.MULTILINE)
    return ".".join(found.groups()) if found else "not known"


def changed(output: str) -> dict[str, int]:
    """Return host -> number of changed tasks, as the recap says."""
    recap = output.rpartition("PLAY RECAP")[2]
    return {
        host: int(number)
        for host, number in re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", recap, re.MULTILINE)
    }


def judge(step: Step, status: int, output: str) -> str:
    """Return "ok", or what is wrong with a run of `step`."""
    counts = changed(output)
    if status:
        return f"status {status}"
    if not counts:
        return "no host took part"
    if step.changes is True and not any(counts.values()):
        return "changed nothing"
    if step.changes is False and any(counts.values()):
        return "changed " + ", ".join(host for host, number in counts.items() if number)
    if step.tells not in output:
        return f"did not say: {step.tells}"
    return "ok"


def deprecations(output: str) -> list[str]:
    """Return the deprecation warnings, each once, each on one line."""
    # ansible-core before 2.19 breaks lines. The end is a gap, another warning or a host's result.
    more = r"(?:\n(?!\[|[a-z]+: \[).+)*"
    found = re.findall(rf"^\[DEPRECATION WARNING\]:? *(.*{more})", output, re.MULTILINE)
    return list(dict.fromkeys(" ".join(one.split()) for one in found))


def table(rows: Mapping[str, Row]) -> str:
    """Return the page's table."""
    titles = [step.title for step in STEPS]
    head = ["ansible-core", "Python", "Python on hosts", *titles, "deprecation warnings", "on"]
    lines = [head, ["---"] * len(head)]
    for version in sorted(rows, key=list(VERSIONS).index):
        row = rows[version]
        if row.why_not:
            left = [f"not tried: {row.why_not}", *[""] * (len(titles) + 2)]
            lines.append([version, *left, row.date])
            continue
        cells = [row.steps.get(title, "not reached") for title in titles]
        told = str(len(row.deprecations) or "none")
        lines.append([row.core, row.python, row.hosts_python, *cells, told, row.date])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def page(rows: Mapping[str, Row]) -> str:
    """Return docs/controllers.md."""
    told = [f"* {row.core}: {one}" for row in rows.values() for one in row.deprecations]
    said = "\nDeprecation warnings:\n\n" + "\n".join(told) + "\n" if told else ""
    return _PAGE.format(table=table(rows)) + said


def read() -> dict[str, Row]:
    """Return what was found before."""
    if not RESULTS.is_file():
        return {}
    content = json.loads(RESULTS.read_text())
    return {version: Row(**row) for version, row in content.items() if version in VERSIONS}


def write(rows: Mapping[str, Row]) -> None:
    """Write the results and the page that is made from them."""
    content = {version: asdict(rows[version]) for version in VERSIONS if version in rows}
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    PAGE.write_text(page(rows))


# Running


def environment(version: str, python: Path) -> Path:
    """Return the bin directory of this version's environment; make it, or bring it up to date."""
    packages = requirements(version, (ROOT / "requirements.txt").read_text())
    return venv.make(CACHE / version, python, packages)


def make(versions: Sequence[str], found: Mapping[str, Path]) -> int:
    """Make the environments of these versions; return the exit status."""
    for version in versions:
        python = choose(VERSIONS[version], found)
        if python is None:
            print(f"controllers: {version}: {missing(version)}", file=sys.stderr)
            return 1
        environment(version, python)
    return 0


def missing(version: str) -> str:
    """Return why a version cannot be tried where none of its Pythons is there."""
    return f"no Python {', '.join(sorted(VERSIONS[version]))} here"


def about(place: Path) -> tuple[str, str, str]:
    """Return the versions of ansible-core, of its Python, and of the oldest Python on hosts."""
    code = (
        "import platform, ansible.release as core; from ansible.module_utils import basic; "
        "print(core.__version__, platform.python_version(), basic.__file__)"
    )
    command = [str(place / "python"), "-c", code]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return said[0], said[1], oldest(Path(said[2]).read_text())


def play(place: Path, inventory: Path, step: Step) -> tuple[int, str]:
    """Run one step; return its status and its output."""
    command = [str(place / "ansible-playbook"), "-i", str(inventory)]
    command += [f"playbooks/{step.playbook}", *step.arguments]
    config, warn = str(ROOT / "ansible.cfg"), "1"
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=venv.variables(place, ANSIBLE_CONFIG=config, ANSIBLE_DEPRECATION_WARNINGS=warn),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def attempt(version: str, found: Mapping[str, Path], name: str) -> Row:
    """Try one version on a new lab."""
    row = Row(time.strftime("%Y-%m-%d"))
    python = choose(VERSIONS[version], found)
    if python is None:
        row.why_not = missing(version)
        return row
    place = environment(version, python)
    row.core, row.python, row.hosts_python = about(place)
    lab = Lab(name, CACHE / "inventory" / name)
    try:
        lab.up(hosts=2)
        for step in STEPS:
            status, output = play(place, lab.inventory_dir, step)
            row.steps[step.title] = judge(step, status, output)
            row.deprecations += [one for one in deprecations(output) if one not in row.deprecations]
            print(f"{row.core}  {step.title}: {row.steps[step.title]}", flush=True)
            if row.steps[step.title] != "ok":
                print(output)
                break
    finally:
        lab.down()
    return row


def main() -> int:
    """Try the versions that are named, or all."""
    parser = argparse.ArgumentParser(prog="python tools/controllers.py", description=__doc__)
    parser.add_argument("version", nargs="*", help=f"of {', '.join(VERSIONS)} (default: all)")
    parser.add_argument("--make", action="store_true", help="make the environments, try nothing")
    parser.add_argument("--name", default=LAB, help="the lab's name (default: %(default)s)")
    options = parser.parse_args()
    unknown = [one for one in options.version if one not in VERSIONS]
    if unknown:
        parser.error(f"there is no version {', '.join(unknown)}; there are {', '.join(VERSIONS)}")
    found = pythons(places())
    if options.make:
        return make(options.version, found)
    rows = read()
    tried: list[Row] = []
    broken = False
    for version in options.version or VERSIONS:
        try:
            row = attempt(version, found, options.name)
        except (LabError, subprocess.CalledProcessError) as error:
            print(f"controllers: {version}: {error}", file=sys.stderr)
            broken = True
            continue
        rows[version] = row
        if not row.why_not:
            tried.append(row)
        # After each one: a version that fails later does not cost what was found.
        write(rows)
    print(f"\n{table(rows)}\n\nwritten: {PAGE.relative_to(ROOT)}, on {platform.release()}")
    return 0 if tried and not broken and all(row.good for row in tried) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Build what is handed out, and check it: python tools/release.py [--quick].

Writes into .cache/release/dist the collection, the definition of an execution environment that has
it, and SHA256SUMS. The checks are Ansible's own, in an environment of theirs (.cache/release/venv):
ansible-test sanity, antsibull-docs, galaxy-importer, ansible-builder. `--quick` leaves these out.
The status is 0 only if nothing was found; the last line says whether this is a release.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools import collection, venv  # noqa: E402

CACHE = ROOT / ".cache" / "release"
DIST = CACHE / "dist"
LOGS = CACHE / "logs"
RECORDED = ROOT / "tests" / "upgrade" / "recorded"

#: What the checks need, none of which podnet does. ansible-test comes with ansible-core.
TOOLS = (
    "ansible-core==2.19.14",
    "antsibull-docs==2.28.0",
    "galaxy-importer==0.4.44",
    "ansible-builder==3.2.0",
)

#: galaxy-importer demands a repository; this one stands for it where pyproject.toml names none.
NO_REPOSITORY = "https://podnet.invalid/"

_ENVIRONMENT = """\
---
# An execution environment with podnet in it, for AWX and ansible-navigator. Beside the collection's
# file: ansible-builder build -f execution-environment.yml -t podnet:{version}
# It needs the network when it is built, and none but to the hosts when it runs.
version: 3
dependencies:
  python_interpreter:
    package_system: python3
  ansible_core:
    package_pip: ansible-core~=2.19.0
  ansible_runner:
    package_pip: ansible-runner
  galaxy:
    collections:
      - name: {file}
        type: file
options:
  package_manager_path: /usr/bin/dnf
"""

#: What ansible-test runs to bring pip into an environment that it has made without one. Its own it
#: would get from a server of Ansible's; the versions are those that it asks for.
_BOOTSTRAP = """\
import subprocess, sys
asked = [one for one in sys.argv[1:] if one not in ("--no-setuptools", "--no-wheel")]
command = [{python!r}, "-m", "pip", "--python", sys.executable, "install", *asked]
sys.exit(subprocess.run(command).returncode)
"""


# One version


def disagreements(
    version: str, changelog: str, tags: Mapping[str, bool], recorded: Sequence[str], changed: str
) -> list[str]:
    """Return where the places that name a version differ from `version`, a sentence each.

    `tags` maps the repository's tags to whether they are that of its last commit; `recorded` are
    the versions whose files on hosts are kept; `changed` are files that are not committed.
    """
    found = re.search(r"^## \[(.+?)\](.*)$", changelog, re.MULTILINE)
    first, rest = (found[1], found[2]) if found else ("nothing", "")
    here = [tag for tag, is_here in tags.items() if is_here and re.match(r"v\d", tag)]
    lines = []
    if is_development(version):
        if first != "Unreleased":
            lines.append(f"CHANGELOG.md begins with {first}, and {version} is not released")
        lines += [f"the tag {tag} is at {version}" for tag in here]
        return lines
    if first != version:
        lines.append(f"CHANGELOG.md begins with {first}, not with {version}")
    elif not re.fullmatch(r" - \d{4}-\d{2}-\d{2}", rest):
        lines.append(f"CHANGELOG.md: {version} has no date: ## [{version}] - YYYY-MM-DD")
    lines += [f"the tag {tag} is not v{version}" for tag in here if tag != f"v{version}"]
    if tags.get(f"v{version}") is False:
        lines.append(f"the tag v{version} is at another commit: raise VERSION, or move the tag")
    if version not in recorded:
        lines.append(
            f"tests/upgrade/recorded has no {version}: make a lab of two hosts, then "
            "python -m tests.upgrade.record LAB"
        )
    if changed:
        lines.append(f"not committed: {changed}")
    return lines


def is_development(version: str) -> bool:
    """Whether a version is not for others: files of two commits may both have it."""
    return version.endswith("-dev")


def git(*arguments: str) -> list[str]:
    """Return what git prints, line by line; nothing where there is no repository."""
    if not (ROOT / ".git").exists():
        return []
    # A clone may belong to somebody else than who builds from it.
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def tags() -> dict[str, bool]:
    """Return the repository's tags, and whether each is that of its last commit."""
    here = set(git("tag", "--points-at", "HEAD"))
    return {tag: tag in here for tag in git("tag")}


# What is handed out


def sums(directory: Path) -> str:
    """Return what `sha256sum --check` takes, for all files of a directory."""
    names = sorted(file.name for file in directory.iterdir() if file.name != "SHA256SUMS")
    return "".join(
        f"{hashlib.sha256((directory / name).read_bytes()).hexdigest()}  {name}\n" for name in names
    )


def build(directory: Path, version: str) -> Path:
    """Write all that is handed out into a new directory; return the collection's file."""
    shutil.rmtree(directory, ignore_errors=True)
    file = collection.build(directory)
    text = _ENVIRONMENT.format(version=version, file=file.name)
    (directory / "execution-environment.yml").write_text(text)
    (directory / "SHA256SUMS").write_text(sums(directory))
    return file


# Ansible's own checks


class Checks:
    """Runs tools in the environment of the checks, and collects which of them found something."""

    def __init__(self) -> None:
        """Make the environment, or bring it up to date."""
        self.failed: list[str] = []
        self.bin = venv.make(CACHE / "venv", Path(sys.executable), TOOLS)
        LOGS.mkdir(parents=True, exist_ok=True)

    def run(self, title: str, argv: Sequence[str], directory: Path, **environment: str) -> None:
        """Run one; say in a line what came out, and show what it printed if it found something."""
        log = LOGS / f"{title.replace(' ', '-')}.log"
        with log.open("wb") as output:
            done = subprocess.run(
                [str(self.bin / argv[0]), *argv[1:]],
                cwd=directory,
                env=venv.variables(self.bin, HOME=str(CACHE / "home"), **environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        print(f"{'FAILED' if done.returncode else 'ok'}  {title}", flush=True)
        if done.returncode:
            self.failed.append(title)
            print("\n".join(log.read_text(errors="replace").splitlines()[-60:]), flush=True)

    def prepare_sanity(self) -> None:
        """Put the bootstrap where ansible-test looks for one before it asks its server."""
        package = next((CACHE / "venv" / "lib").glob("python*/site-packages/ansible_test"))
        source = (package / "_internal" / "python_requirements.py").read_text()
        found = re.search(r"^\s+pip='([\d.]+)',$", source, re.MULTILINE)
        assert found, "ansible-test names its pip in another way"
        cache = CACHE / "home" / ".ansible" / "test" / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        script = _BOOTSTRAP.format(python=str(self.bin / "python"))
        (cache / f"get_pip_{found[1].replace('.', '_')}.py").write_text(script)


def check(checks: Checks, file: Path) -> None:
    """Run all of Ansible's checks on the collection's file."""
    # Outside of the repository: there ansible-test would ask git which files count.
    with tempfile.TemporaryDirectory(prefix="podnet-release-") as scratch:
        top = Path(scratch)
        install = ["ansible-galaxy", "collection", "install", str(file), "--offline"]
        checks.run("install", [*install, "-p", scratch], top)
        tree = top / "ansible_collections" / "podnet" / "podnet"
        if not tree.is_dir():
            return
        lint = ["antsibull-docs", "lint-collection-docs", "--plugin-docs"]
        checks.run("documentation", [*lint, "--validate-collection-refs=self", "."], tree)
        checks.prepare_sanity()
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        checks.run("sanity", ["ansible-test", "sanity", "--python", python], tree)
        galaxy = collection.build(top / "galaxy", repository=NO_REPOSITORY)
        (top / "empty").mkdir()
        importer = ["python", "-m", "galaxy_importer.main", str(galaxy)]
        checks.run("galaxy importer", importer, top / "empty")
        context = ["ansible-builder", "create", "-c", str(top / "context")]
        context += ["-f", str(DIST / "execution-environment.yml")]
        checks.run("execution environment", context, DIST)


def problems(version: str) -> Iterator[str]:
    """Yield what keeps this tree from being that version."""
    if not (ROOT / ".git").exists():
        yield "no git repository: its tag cannot be compared"
    recorded = [path.name for path in RECORDED.iterdir()]
    changed = " ".join(line[3:] for line in git("status", "--porcelain"))
    changelog = (ROOT / "CHANGELOG.md").read_text()
    yield from disagreements(version, changelog, tags(), recorded, changed)


def main() -> int:
    """Build and check."""
    parser = argparse.ArgumentParser(prog="python tools/release.py", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="without Ansible's own checks")
    options = parser.parse_args()
    version = collection.podnet_version()
    failed = list(problems(version))
    file = build(DIST, version)
    if not options.quick:
        checks = Checks()
        check(checks, file)
        failed += [f"{title}: see {LOGS / title.replace(' ', '-')}.log" for title in checks.failed]
    print((DIST / "SHA256SUMS").read_text(), end="")
    for line in failed:
        print(f"failed: {line}")
    if failed:
        print(f"{version} is not fit to be handed out")
        return 1
    if options.quick or is_development(version):
        print(f"{version} is built, and is no release")
    elif not tags().get(f"v{version}"):
        print(f"{version} is ready to be released: git tag v{version}")
    else:
        print(f"{version} is released with what is in {DIST}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

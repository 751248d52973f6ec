"""Walks cases/KIND/*: a new case is a new folder and no code. walk.py says what is in a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit import states, walk

ROOT = walk.CASES.parent.parent.parent

#: What walks the folders, and nothing else.
WALKERS = ("tests/unit/test_cases.py", "tests/unit/test_plan_cases.py")

#: The modules that decide, each branch of which has a case.
DECIDES = (
    "backends/host_gw/host",
    "backends/host_gw/planner",
    "backends/vxlan/host",
    "backends/vxlan/planner",
    "backends/wireguard/planner",
    "core/segments",
    "plan/underlay",
    "run/course",
    "state/desire",
    "state/diff",
    "core/host_view",
    "state/phases",
)


@pytest.mark.parametrize("case", walk.cases())
def test_case(case: str) -> None:
    walk.check(case)


def test_every_branch_has_a_case(tmp_path: Path) -> None:
    """What no folder reaches is not needed, or not known to be right."""
    files = [f"module_utils/podnet/{name}.py" for name in DECIDES]
    environment = dict(os.environ, COVERAGE_FILE=str(tmp_path / "data"))
    coverage = [sys.executable, "-m", "coverage"]
    run = [*coverage, "run", "--branch", f"--include={','.join(files)}", "-m", "pytest"]
    # cases/plan takes those of underlay.py.
    run += ["-q", "-p", "no:cacheprovider", "-k", "test_case[", *WALKERS]
    for argv in (run, [*coverage, "json", "-q", "-o", str(tmp_path / "report.json")]):
        done = subprocess.run(
            argv, cwd=ROOT, env=environment, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())["files"]
    assert sorted(report) == sorted(files)
    missed = {
        name: (found["missing_lines"], found["missing_branches"])
        for name, found in report.items()
        if found["missing_lines"] or found["missing_branches"]
    }
    assert missed == {}, "lines, and branches from line to line, that no case takes"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("link: {}", "unknown link"),
        ("links: {cni0: {kind: bridge, mtu: 1450, mac: '', alias: '', colour: red}}", "colour"),
        ("links: [cni0]", "links"),
        ("sysctls: {a: {b: c}}", "sysctls.a"),
    ],
)
def test_a_misspelt_word_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        states.state(states.parse(text))


def test_states_are_read_as_they_are_written() -> None:
    for path in sorted(walk.CASES.glob("diff/*/*rrent.yml")):
        one = states.state(states.read(path))
        text = states.write(states.describe(one))
        assert states.state(states.parse(text)) == one, path

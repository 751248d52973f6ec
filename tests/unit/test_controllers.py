"""What tools/controllers.py makes of a run, and that requirements.txt allows what was shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tools import controllers
from tools.controllers import NEWEST, Row, Step

ROOT = Path(__file__).resolve().parents[2]
RECAP = """
TASK [podnet_network : Move the routes] ****
PLAY RECAP ******
n1                         : ok=9    changed=1    unreachable=0    failed=0
n2                         : ok=9    changed={}    unreachable=0    failed=0
"""
SWITCH = Step("switch", "site.yml", changes=True, tells="Move the routes]")


def test_the_first_python_that_is_there_is_taken(tmp_path: Path) -> None:
    for directory, name in (("a", "python3.11"), ("a", "python3.11-config"), ("b", "python3.13")):
        file = tmp_path / directory / name
        file.parent.mkdir(exist_ok=True)
        file.touch(mode=0o755)
    (tmp_path / "b" / "python3.11").touch(mode=0o755)
    (tmp_path / "b" / "python3.12").touch(mode=0o644)
    found = controllers.pythons([tmp_path / "a", tmp_path / "b"])
    assert found == {"3.11": tmp_path / "a/python3.11", "3.13": tmp_path / "b/python3.13"}
    assert controllers.choose(("3.12", "3.13"), found) == tmp_path / "b/python3.13"
    assert controllers.choose(("3.14",), found) is None


def test_an_environment_gets_one_core_and_all_else() -> None:
    text = "# why\nansible-core>=2.16\nnetaddr~=1.3\n"
    assert controllers.requirements("2.18", text) == ["ansible-core~=2.18.0", "netaddr~=1.3"]
    assert controllers.requirements(NEWEST, text) == ["--pre", "ansible-core", "netaddr~=1.3"]


@pytest.mark.parametrize(
    ("basic", "said"),
    [
        ("x = 1\n_PY_MIN = (3, 8)\n", "3.8"),
        ("_PY3_MIN = sys.version_info >= (3, 6)\n_PY_MIN = _PY3_MIN or _PY2_MIN\n", "3.6"),
        ("_PY_MIN = else", "not known"),
    ],
)
def test_the_oldest_python_of_hosts(basic: str, said: str) -> None:
    assert controllers.oldest(basic) == said


@pytest.mark.parametrize(
    ("step", "status", "output", "said"),
    [
        (SWITCH, 0, RECAP.format(0), "ok"),
        (SWITCH, 2, RECAP.format(0), "status 2"),
        (SWITCH, 0, "PLAY RECAP\n", "no host took part"),
        (SWITCH, 0, RECAP.format(0).replace("changed=1", "changed=0"), "changed nothing"),
        (SWITCH, 0, RECAP.format(0).replace("Move", "x"), "did not say: Move the routes]"),
        (Step("again", "site.yml", changes=False), 0, RECAP.format(3), "changed n1, n2"),
        (Step("verify", "verify.yml"), 0, RECAP.format(3), "ok"),
    ],
)
def test_a_step_is_judged_by_what_it_did(step: Step, status: int, output: str, said: str) -> None:
    assert controllers.judge(step, status, output) == said


def test_deprecation_warnings_are_found_once_and_whole() -> None:
    warning = "[DEPRECATION WARNING]: The plugin is\nold. It goes in 2.30.\n[WARNING]: else\n"
    assert controllers.deprecations(f"PLAY [x]\n{warning}\nok: [n1]\n{warning}") == [
        "The plugin is old. It goes in 2.30."
    ]
    # The host's result comes right after it, and is no part of it.
    results = f"{warning}ok: [n1]\n".replace("[WARNING]: else\n", "")
    assert controllers.deprecations(results + results.replace("n1", "n2")) == [
        "The plugin is old. It goes in 2.30."
    ]
    assert controllers.deprecations("ok: [n1]\n[WARNING]: else\n") == []


def test_the_page_tells_what_could_not_be_tried_and_what_failed() -> None:
    rows = {
        "2.20": Row("2026-01-02", why_not="no Python 3.12 here"),
        "2.16": Row("2026-01-01", "2.16.1", "3.11.2", "2.7", {"bootstrap": "status 2"}, ["old"]),
    }
    page = controllers.page(rows)
    assert "| 2.20 | not tried: no Python 3.12 here |" in page
    first = "| 2.16.1 | 3.11.2 | 2.7 | status 2 | not reached |"
    assert first in page
    assert page.index(first) < page.index("| 2.20 |")
    assert "* 2.16.1: old\n" in page
    widths = {line.count("|") for line in controllers.table(rows).splitlines()}
    assert len(widths) == 1


def test_a_row_is_good_only_where_all_went_well() -> None:
    assert not Row("d").good
    assert not Row("d", steps={"bootstrap": "ok", "switch": "status 2"}).good
    assert Row("d", steps={"bootstrap": "ok"}).good


def test_requirements_allow_what_was_shown() -> None:
    rows = controllers.read()
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    allowed = next(Requirement(line) for line in lines if line.startswith("ansible-core")).specifier
    for row in rows.values():
        if not row.why_not:
            assert row.good == allowed.contains(row.core, prereleases=True), row
    # Neither end of the range is open beyond what was shown, once something was.
    shown = {".".join(row.core.split(".")[:2]) for row in rows.values() if row.good}
    for minor in range(10, 40):
        if rows and allowed.contains(f"2.{minor}.9"):
            assert f"2.{minor}" in shown


def test_the_readme_says_what_requirements_allow() -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    good = [row for row in controllers.read().values() if row.good]
    minors = [".".join(row.core.split(".")[:2]) for row in good]
    assert f"ansible-core {minors[0]} to {minors[-1]} " in readme
    # Where ansible-core's modules need a later Python than podnet's.
    newer = {row.hosts_python: minor for row, minor in zip(good[::-1], minors[::-1], strict=True)}
    for python, minor in newer.items():
        if int(python.split(".")[1]) > 8:
            assert f"({python} from ansible-core {minor} on)" in readme


def test_the_page_is_the_one_of_the_results() -> None:
    assert controllers.PAGE.exists() == controllers.RESULTS.exists()
    if controllers.PAGE.exists():
        assert controllers.PAGE.read_text() == controllers.page(controllers.read())

"""The test runner: what counts as passed, as failed, and that it ends what it started."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

import pytest

from tools import test as runner
from tools.test import Part


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(runner, "LOGS", tmp_path)
    monkeypatch.setattr(runner, "lab_down", lambda _name: None)
    patience = tuple((number, 0.5) for number, _seconds in runner.PATIENCE)
    monkeypatch.setattr(runner, "PATIENCE", patience)
    return tmp_path


def outcome(*parts: Part) -> tuple[int, int]:
    count = runner.Count()
    runner.run(parts, dict(os.environ), count)
    return count.passed, count.failed


def shell(name: str, script: str, **more: object) -> Part:
    return Part(name, ["/bin/sh", "-c", script], **more)  # type: ignore[arg-type]


def junit(tests: int, failures: int = 0, skipped: int = 0) -> str:
    counts = f'tests="{tests}" failures="{failures}" errors="0" skipped="{skipped}"'
    return f"<testsuites><testsuite {counts}/></testsuites>"


def test_each_part_counts_and_a_failure_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    parts = (shell("bad", "echo because; exit 3"), shell("one", "true"), shell("two", "true"))
    assert outcome(*parts) == (2, 1)
    shown = capsys.readouterr().out
    assert "FAILED  bad" in shown
    assert "status 3" in shown
    assert "because" in shown


@pytest.mark.parametrize(
    ("text", "status", "expected"),
    [
        (junit(7), 0, (7, 0)),
        (junit(7, failures=2), 1, (5, 2)),
        (junit(7, skipped=1), 0, (6, 1)),
        (junit(0), 0, (0, 1)),
        (junit(7), 2, (7, 1)),
        ("", 0, (0, 1)),
    ],
)
def test_pytests_tests_are_counted(
    logs: Path, text: str, status: int, expected: tuple[int, int]
) -> None:
    file = logs / "a.xml"
    script = f"printf %s '{text}' > {file}; exit {status}"
    assert outcome(shell("pytest", script, junit=file)) == expected


def test_a_result_of_an_earlier_run_does_not_count(logs: Path) -> None:
    (logs / "a.xml").write_text(junit(7))
    assert outcome(shell("pytest", "true", junit=logs / "a.xml")) == (0, 1)


def test_a_scenario_whose_verify_step_did_not_run_has_failed(logs: Path) -> None:
    file = logs / "molecule-x.xml"
    environment = {"PODNET_JUNIT": str(file)}
    more = {"scenario": "x", "environment": environment}
    assert outcome(shell("molecule x", "true", **more)) == (0, 1)
    script = f"printf %s '{junit(2)}' > {file}"
    assert outcome(shell("molecule x", script, **more)) == (1, 0)


def test_what_hangs_is_ended_with_all_that_it_started(
    logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A session of its own and a closed terminal, as ssh's masters and Ansible's workers have.
    file = logs / "pid"
    part = shell("hang", f"setsid sleep 600 & echo $! > {file}; wait", timeout=0.5)
    begin = time.monotonic()
    assert outcome(part) == (0, 1)
    assert time.monotonic() - begin < 30
    assert "not done after" in capsys.readouterr().out
    assert list(runner._marked(runner._mark(part))) == []


def test_what_shall_run_alone_does(logs: Path) -> None:
    file = logs / "order"
    script = f"echo begin $0 >> {file}; sleep 0.3; echo end $0 >> {file}"
    names = ["a", "again", "b"]
    parts = [Part(name, ["/bin/sh", "-c", script, name], alone=name == "again") for name in names]
    runner.run(parts, dict(os.environ), runner.Count())
    assert file.read_text().split("\n")[:-1] == [
        word for name in names for word in (f"begin {name}", f"end {name}")
    ]


def test_the_longest_parts_exist_and_come_first(logs: Path) -> None:
    parts = [*runner.unit_parts(), *runner.molecule_parts(runner.scenario_names(), logs)]
    ordered = [part.name for part in runner.ordered(parts)]
    assert tuple(ordered[: len(runner.LONGEST)]) == runner.LONGEST
    assert sorted(ordered) == sorted(part.name for part in parts)


def test_the_seconds_of_cpu_of_all_its_processes_are_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    busy = "import time\nwhile time.process_time() < 1.2: pass"
    outcome(shell("busy", f"{sys.executable} -c '{busy}'; true"), shell("idle", "sleep 1.6"))
    used = dict(re.findall(r"ok  (\w+)  \(.*CPU (\d+) s\)", capsys.readouterr().out))
    assert used["idle"] == "0"
    assert int(used["busy"]) >= 1


def test_a_scenarios_hosts_are_counted(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "CGROUPS", (logs / "none", logs))
    part = shell("molecule two_x", "true", scenario="two_x")
    assert runner._hosts_seconds(part) == 0
    (logs / "podnet-lab-mol-two-x").mkdir()
    (logs / "podnet-lab-mol-two-x/cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
    assert runner._hosts_seconds(part) == 2.5


def test_the_callers_environment_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_FORKS", "1")
    monkeypatch.setenv("LC_CTYPE", "POSIX")
    monkeypatch.setenv("PATH", "/nowhere")
    shown = runner.environment(Path("/home/x"))
    assert "ANSIBLE_FORKS" not in shown
    assert "LC_CTYPE" not in shown
    assert shown["LC_ALL"] == "C.UTF-8"
    assert shown["PATH"].split(":")[0] == str(Path(sys.executable).parent)
    assert "/usr/sbin" in shown["PATH"]


def test_what_is_chosen_for_a_scenario_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else `make test-kernels` would try one kernel, and the short list, three times."""
    makefile = (runner.ROOT / "Makefile").read_text()
    files = (runner.ROOT / "molecule").glob("*/*.*")
    scenario = "".join(path.read_text() for path in files if path.suffix in (".py", ".yml"))
    for name in runner.CHOICES:
        assert f"{name}=" in makefile
        assert name in scenario
        monkeypatch.setenv(name, "chosen")
    found = runner.environment(Path("/nowhere"))
    assert {found.get(name) for name in runner.CHOICES} == {"chosen"}


def test_a_scenario_that_fails_beside_others_is_run_once_more_alone(
    logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def scenario(name: str, script: str) -> Part:
        said = logs / f"molecule-{name}.xml"
        environment = {"PODNET_JUNIT": str(said)}
        script = f"{script}; echo '{junit(1)}' >{said}"
        return shell(f"molecule {name}", script, scenario=name, environment=environment)

    once = f"test -e {logs}/tried || {{ touch {logs}/tried; exit 1; }}"
    assert outcome(scenario("flaky", once), scenario("bad", "exit 1"), shell("one", "true")) == (
        2,
        1,
    )
    shown = capsys.readouterr().out
    assert shown.count("FAILED  molecule flaky") == 1
    assert shown.count("again  molecule flaky, alone") == 1
    assert shown.count("FAILED  molecule bad") == 2
    assert shown.count("again  molecule bad") == 1


def test_what_failed_is_named(logs: Path) -> None:
    said = (
        '<testsuites><testsuite tests="2" failures="1" errors="0" skipped="0">'
        '<testcase name="test_good"/><testcase name="test_bad">'
        '<failure message="AssertionError: two lost&#10;more">long</failure></testcase>'
        "</testsuite></testsuites>"
    )
    file = logs / "molecule-x.xml"
    environment = {"PODNET_JUNIT": str(file)}
    once = f"echo '{said}' >{file}; test -e {logs}/tried || {{ touch {logs}/tried; exit 1; }}"
    count = runner.Count()
    parts = (
        shell("molecule x", once, scenario="x", environment=environment),
        shell("bad", "exit 3"),
    )
    runner.run(parts, dict(os.environ), count)
    assert sorted(count.named) == [
        "bad: status 3",
        "molecule x beside others: test_bad: AssertionError: two lost more",
    ]

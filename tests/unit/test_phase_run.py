"""The role's phases on real Ansible: a host that is not known to be done stops the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

PROJECT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).with_name("phase_run")
HOSTS = ("n1", "n2")
PHASES = ("prepare", "shift", "commit")


class Case(NamedTuple):
    """`fate`: host -> step -> what happens there; `last`: the last phase that may begin.

    `named` are the hosts that the run must name and `reason` what it says; "" for a run that ends
    well.
    """

    fate: dict[str, dict[str, str]]
    last: str
    named: tuple[str, ...] = ()
    reason: str = ""
    mode: str = "switch"


LOST = "lost during the change"
CASES = {
    "all is well": Case({}, "commit"),
    "lost in prepare": Case({"n2": {"prepare": "lost"}}, "prepare", ("n2",), LOST),
    "the first is lost in prepare": Case({"n1": {"prepare": "lost"}}, "prepare", ("n1",), LOST),
    "lost in shift": Case({"n2": {"shift": "lost"}}, "shift", ("n2",), LOST),
    "lost in commit": Case({"n2": {"commit": "lost"}}, "commit", ("n2",), LOST),
    "all are lost": Case({host: {"shift": "lost"} for host in HOSTS}, "shift", HOSTS, LOST),
    "lost for a moment": Case({"n2": {"prepare": "back", "shift": "back"}}, "commit"),
    "failed": Case({"n2": {"shift": "failed"}}, "shift", ("n2",), "broken in shift"),
    "crashed": Case({"n2": {"shift": "crash"}}, "shift", ("n2",), ""),
    "armed and confirmed": Case({host: {"shift": "armed"} for host in HOSTS}, "commit"),
    "armed, and its confirmation fails": Case(
        {"n1": {"shift": "armed", "confirm shift": "failed"}}, "shift", ("n1",), "broken in confirm"
    ),
    "armed, and lost when it confirms": Case(
        {"n2": {"shift": "armed", "confirm shift": "lost"}}, "shift", ("n2",), "lost"
    ),
    "two at once": Case(
        {"n1": {"prepare": "failed"}, "n2": {"prepare": "lost"}}, "prepare", ("n1", "n2"), LOST
    ),
    "confirmed in prepare, lost in shift": Case(
        {"n2": {"prepare": "back", "shift": "lost"}}, "shift", ("n2",), LOST
    ),
    "cannot be proven": Case(
        {"n2": {"prepare": "no pod"}}, "prepare", ("n2",), "cannot be proven: no plugins"
    ),
    "converge: lost": Case({"n2": {"all": "lost"}}, "all", ("n2",), LOST, "converge"),
    "converge: failed": Case({"n1": {"all": "failed"}}, "all", ("n1",), "broken", "converge"),
}


@pytest.mark.parametrize("name", CASES)
def test_no_phase_begins_before_all_hosts_are_done(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    (tmp_path / "fate").write_text(json.dumps(case.fate))
    variables = {
        "mode": case.mode,
        "ansible_connection": "cable",
        "ansible_python_interpreter": sys.executable,
        "test_directory": str(tmp_path),
        # The module stands in for podnet's, so its plan may say where the test is.
        "_podnet_plan": {"document": str(tmp_path), "run": ""},
        "_podnet_course": {
            **{"mode": case.mode, "over": [], "hosts": list(HOSTS)},
            **{"unreachable": [], "notes": []},
        },
        # Seconds that a lost host gets to come back.
        "_podnet_lost_wait": 1,
        "podnet_rollback_timeout": 60,
    }
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("ansible-playbook")), "-i", ",".join(HOSTS) + ","),
            *("-e", json.dumps(variables), str(HERE / "play.yml")),
        ],
        cwd=PROJECT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
            "ANSIBLE_LIBRARY": str(HERE / "library"),
            "ANSIBLE_CONNECTION_PLUGINS": str(HERE / "connection_plugins"),
            "ANSIBLE_NOCOLOR": "1",
            # As ansible.cfg has it for SSH. Without it ansible-core before 2.19 calls a host that
            # is lost in a call failed: it stumbles over the files there that it cannot remove.
            "ANSIBLE_PIPELINING": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    calls = (tmp_path / "calls").read_text().splitlines()
    begun = {call.split(" ")[-1] for call in calls}
    phases = PHASES if case.mode == "switch" else ("all",)
    assert begun == set(phases[: phases.index(case.last) + 1]), done.stdout
    assert (done.returncode == 0) == (not case.named), done.stdout
    message = " ".join(done.stdout.replace("\\n", " ").split())
    told = message.partition("The run stops here")[2]
    for host in HOSTS:
        assert (f"{host}: " in told.partition("PLAY RECAP")[0]) == (host in case.named), done.stdout
    # A run that stops between prepare and commit takes away what proves the new way.
    taken_away = (tmp_path / "taken_away").exists()
    somebody_is_there = name != "all are lost"
    assert taken_away == (case.last in ("prepare", "shift") and somebody_is_there), done.stdout
    if case.named:
        assert case.reason in told, done.stdout

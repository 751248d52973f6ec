"""site.yml in real Ansible, with modules that answer as a test says (stubs/): what ends a run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ANSIBLE = Path(sys.executable).parent
STUBS = Path(__file__).with_name("stubs")

#: SSH to where nobody listens: a host that stays away.
AWAY = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}

TITLES: dict[str, str] = yaml.safe_load((ROOT / "roles/podnet_network/vars/main.yml").read_text())[
    "_podnet_titles"
]


class Ended:
    """A playbook that ended: its status, the titles of its tasks, its output on one line."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.status = done.returncode
        self.tasks = re.findall(r"^TASK \[(?:\S+ : )?(.*?)\] \*+$", done.stdout, re.MULTILINE)
        self.output = done.stdout + done.stderr
        self.message = " ".join(self.output.replace("\\n", " ").split())

    def did(self, phase: str) -> bool:
        """Whether a phase began."""
        return TITLES[phase] in self.tasks


class Hosts:
    """An inventory of hosts that answer as `script` and `look` of each say; see stubs/."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "inventory").mkdir()

    def write(self, group: str = "podnet_nodes", **hosts: dict[str, Any]) -> None:
        """Make the inventory; hosts are at hand unless their variables say otherwise."""
        for number, (name, variables) in enumerate(hosts.items()):
            address = {"podnet_node_ip": f"192.0.2.{11 + number}"}
            hosts[name] = {"ansible_connection": "local"} | address | variables
        variables = {"ansible_become": False, "ansible_python_interpreter": sys.executable}
        content = {group: {"hosts": hosts, "vars": variables}}
        file = self.directory / "inventory" / "hosts.yml"
        file.write_text(yaml.safe_dump(content, sort_keys=False))

    def play(self, *arguments: str, playbook: str | Path = "site.yml", **environment: str) -> Ended:
        """Run a playbook of the project, or another file."""
        return Ended(
            subprocess.run(
                [
                    *(str(ANSIBLE / "ansible-playbook"), "-i", str(self.directory / "inventory")),
                    *(str(ROOT / "playbooks" / playbook), "-e", "_podnet_lost_wait=2", *arguments),
                ],
                cwd=ROOT,
                env=os.environ
                | {
                    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                    "ANSIBLE_ACTION_PLUGINS": f"{STUBS}:{ROOT / 'action_plugins'}",
                    "ANSIBLE_NOCOLOR": "1",
                    "ANSIBLE_LOCAL_TEMP": str(self.directory / "tmp"),
                }
                | environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
        )


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    return Hosts(tmp_path)


#: What comes of a phase on a host -> its variables, for a phase of that name.
DONE: dict[str, Any] = {
    "done": lambda _phase: {},
    "armed, confirmed": lambda phase: {"script": {phase: "armed"}},
    "lost, back, confirmed": lambda phase: {"script": {phase: "lost"}},
}
NOT_DONE: dict[str, Any] = {
    "fails": lambda phase: {"script": {phase: "fail"}},
    "lost and stays away": lambda phase: {"script": {phase: "lost"}} | AWAY,
    "lost, back, not confirmed": lambda phase: {
        "script": {phase: "lost", f"confirm {phase}": "fail"}
    },
    "lost, back, lost again": lambda phase: {"script": {phase: "lost", f"confirm {phase}": "lost"}},
    "armed, lost": lambda phase: {"script": {phase: "armed", f"confirm {phase}": "lost"}},
    "armed, fails": lambda phase: {"script": {phase: "armed", f"confirm {phase}": "fail"}},
    "armed for ever": lambda phase: {"script": {phase: "armed", f"confirm {phase}": "armed"}},
}


def test_a_run_succeeds_where_every_host_has_done_its_part(hosts: Hosts) -> None:
    switching = {"look": {"switching": True}}
    phases = ("prepare", "shift", "commit")
    scripts: dict[str, dict[str, Any]] = {
        f"n{number}": {
            "script": {one: made(one).get("script", {}).get(one, "done") for one in phases}
        }
        for number, made in enumerate(DONE.values())
    }
    hosts.write(**{name: switching | more for name, more in scripts.items()})
    run = hosts.play()
    assert run.status == 0, run.output
    assert all(run.did(phase) for phase in phases)


@pytest.mark.parametrize("phase", ["all", "prepare", "shift", "commit"])
def test_every_host_that_is_not_done_is_named_and_nothing_begins_after(
    hosts: Hosts, phase: str
) -> None:
    look = {"look": {"switching": phase != "all"}}
    made = {f"n{number}": made(phase) for number, made in enumerate(NOT_DONE.values())}
    hosts.write(good=look, **{name: look | more for name, more in made.items()})
    run = hosts.play()
    assert run.status != 0, run.output
    named = run.message.partition("The run stops here")[2].partition("PLAY RECAP")[0]
    for name in made:
        assert f" {name}: " in named, run.output
    assert " good: " not in named
    later = {"all": (), "prepare": ("shift", "commit"), "shift": ("commit",), "commit": ()}
    assert not any(run.did(one) for one in later[phase])


def test_a_host_that_is_lost_before_the_look_is_named_at_the_end(hosts: Hosts) -> None:
    hosts.write(n1={}, n2={"look": "lost"})
    run = hosts.play()
    assert run.status != 0
    assert run.did("all")
    assert "without this run's changes: n2" in run.message, run.output

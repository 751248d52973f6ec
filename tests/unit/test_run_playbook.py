"""site.yml in real Ansible, with modules that answer as a test says (stubs/): what ends a run."""

from __future__ import annotations

import json
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

#: The oldest ansible-core that the playbooks run on; `make oldest` installs it there.
OLDEST = ROOT / ".cache/controllers/2.16/bin/ansible-playbook"

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
        #: What runs playbooks.
        self.controller = ANSIBLE / "ansible-playbook"
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
                    *(str(self.controller), "-i", str(self.directory / "inventory")),
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


def test_a_host_that_is_lost_before_the_look_is_named_at_the_end(hosts: Hosts) -> None:
    hosts.write(n1={}, n2={"look": "lost"})
    run = hosts.play()
    assert run.status != 0
    assert run.did("all")
    assert "Changed 1 of 2 hosts" in run.message, run.output
    assert "Not reached, so without this run's changes: n2" in run.message, run.output


@pytest.mark.parametrize(("switching", "phase"), [(False, "all"), (True, "prepare")])
def test_the_oldest_ansible_begins_what_must_change(
    hosts: Hosts, switching: bool, phase: str
) -> None:
    hosts.write(n1={"look": {"switching": switching}}, n2={"look": {"switching": switching}})
    assert OLDEST.exists(), "run `make oldest`"
    hosts.controller = OLDEST
    run = hosts.play()
    assert run.did(phase), run.output
    assert (run.status == 0) == (phase == "all"), run.output


def own_play(hosts: Hosts, **keywords: Any) -> Path:
    """Write a user's own play that imports the roles, with these keywords, and return its path."""
    play: dict[str, Any] = {"hosts": "podnet_nodes", "gather_facts": False} | keywords
    roles = [
        {"ansible.builtin.include_role": {"name": "podnet_plan"}, "run_once": True},
        {"ansible.builtin.import_role": {"name": "podnet_network"}},
    ]
    file = hosts.directory / "own.yml"
    file.write_text(yaml.safe_dump([play | {"tasks": roles}], sort_keys=False))
    return file


#: How a user's own play is run -> a word of the message; "" where it is as good as our own.
OWN: dict[str, tuple[dict[str, Any], dict[str, str], list[str], str]] = {
    "as it is": ({}, {}, [], ""),
    "debug": ({"strategy": "ansible.builtin.linear"}, {"ANSIBLE_STRATEGY": "free"}, [], ""),
    "tags of its own": ({"tags": ["net"]}, {}, ["--tags", "net"], ""),
    "one batch": ({"serial": "100%"}, {}, [], ""),
    "free": ({"strategy": "free"}, {}, [], "strategy: 'free'"),
    "free by configuration": ({}, {"ANSIBLE_STRATEGY": "free"}, [], "strategy: 'free'"),
    "host_pinned": ({"strategy": "ansible.builtin.host_pinned"}, {}, [], "host_pinned"),
    "serial": ({"serial": 1}, {}, [], "serial: n2"),
    "serial, the rest": ({"serial": [1, "100%"]}, {}, [], "serial: n2"),
    "other tags": ({}, {}, ["--tags", "net"], "--tags and --skip-tags"),
    "its tags skipped": ({"tags": ["net"]}, {}, ["--skip-tags", "net"], ""),
    "begun later": ({}, {}, ["--start-at-task", "Decide how to go on"], "not with --start-at-task"),
}


@pytest.mark.parametrize("case", OWN)
def test_how_a_play_is_run(hosts: Hosts, case: str) -> None:
    keywords, environment, arguments, word = OWN[case]
    hosts.write(n1={}, n2={})
    run = hosts.play(*arguments, playbook=own_play(hosts, **keywords), **environment)
    if word:
        assert run.status != 0, run.output
        assert word in run.message, run.output
    assert run.did("all") == (not word and case != "its tags skipped"), run.output
    assert run.status == 0 or word


PLAYBOOKS = ("plan.yml", "allocate.yml", "site.yml", "verify.yml", "reset.yml", "remove_node.yml")

#: How any of the playbooks is run -> its group, arguments, and words of the message.
NOTHING: dict[str, tuple[str, list[str], str]] = {
    "another group": ("podnet_node", [], "podnet_nodes: the group is empty or missing"),
    "another group, limited": (
        "podnet_node",
        ["--limit", "n1"],
        "podnet_nodes: the group is empty or missing",
    ),
    "limited to none": ("podnet_nodes", ["--limit", "localhost"], "--limit"),
    "limited to another": ("podnet_nodes", ["--limit", "else"], "--limit leaves no host"),
    "limited to nobody": ("podnet_nodes", ["--limit", "nosuch"], "--limit"),
    "tags": ("podnet_nodes", ["--tags", "network"], "--tags and --skip-tags leave out a part"),
    "begun later": ("podnet_nodes", ["--start-at-task", "*"], "--start-at-task"),
    "begun nowhere": ("podnet_nodes", ["--start-at-task", "nosuch"], "--start-at-task"),
}


@pytest.mark.parametrize(
    ("playbook", "case"),
    # They begin with the same play; the two that had none before are tried with all.
    [("verify.yml", case) for case in NOTHING]
    + [("reset.yml", case) for case in NOTHING]
    + [("doctor.yml", case) for case in ("limited to another", "tags", "begun later")]
    + [(playbook, "limited to another") for playbook in PLAYBOOKS[:3]]
    + [("report.yml", case) for case in ("limited to another", "tags")]
    + [("remove_node.yml", case) for case in ("another group, limited", "begun later")],
)
def test_a_playbook_that_would_do_nothing_or_a_part_says_so(
    hosts: Hosts, playbook: str, case: str
) -> None:
    group, arguments, word = NOTHING[case]
    hosts.write(group, n1={}, n2={})
    (hosts.directory / "inventory" / "other.yml").write_text("all: {hosts: {else: {}}}\n")
    run = hosts.play(*arguments, "-e", "podnet_node=n2", playbook=playbook)
    assert run.status != 0, run.output
    assert word in run.message, run.output
    assert "changed=1" not in run.output
    assert not run.did("all")


#: podnet_node and more arguments -> a word of the message.
NODES: dict[str, tuple[str, str]] = {
    "podnet_nodes": ("", "neither a host of the group podnet_nodes nor in the allocations file"),
    "all": ("", "neither a host of the group"),
    "n*": ("", "neither a host of the group"),
    "n1:n2": ("", "neither a host of the group"),
    "localhost": ("", "neither a host of the group"),
    "else": ("", "neither a host of the group"),
    "": ("", "name the node to remove"),
    "n3": ("n3,localhost", "--limit leaves out n1, n2, which would keep n3 as a peer"),
    "n2": ("n2,n3", "--limit leaves out n1, which would keep n2 as a peer"),
}


@pytest.mark.parametrize("node", NODES)
def test_a_name_is_a_name(hosts: Hosts, node: str) -> None:
    limit, word = NODES[node]
    hosts.write(n1={}, n2={}, n3={})
    (hosts.directory / "inventory" / "other.yml").write_text("all: {hosts: {else: {}}}\n")
    arguments = ["--limit", limit] if limit else []
    run = hosts.play(
        *arguments, "-e", json.dumps({"podnet_node": node}), playbook="remove_node.yml"
    )
    assert run.status != 0, run.output
    assert word in run.message, run.output
    assert not run.did("all")
    assert "Remove the network" not in run.tasks


def test_more_than_one_name_is_none(hosts: Hosts) -> None:
    hosts.write(n1={}, n2={}, n3={})
    run = hosts.play("-e", '{"podnet_node": ["n2", "n3"]}', playbook="remove_node.yml")
    assert run.status != 0
    assert "name the node to remove" in run.message, run.output


@pytest.mark.parametrize("install", ["package", "archive"])
def test_a_check_of_fresh_hosts_says_what_would_be_installed(hosts: Hosts, install: str) -> None:
    hosts.write(n1={"look": {"cni": 2}})
    archive = {
        "podnet_cni_url": "http://192.0.2.1/x.tgz",
        "podnet_cni_checksum": f"sha256:{'a' * 64}",
    }
    variables = json.dumps({"podnet_cni_install": install, **archive})
    run = hosts.play("--check", "-e", variables)
    assert run.status == 0, run.output
    assert f"Would install bridge from the {install}" in run.message


#: A run on one host itself: arguments, what the hosts look like -> words of the message, "" where
#: the host is changed.
ALONE: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "as planned": ([], {}, ""),
    "a switch": (
        [],
        {"switching": True},
        "n1 must switch, and this run is on n1 itself without n2",
    ),
    "a switch that is forced": (["-e", "podnet_force_limited=true"], {"switching": True}, ""),
    "a node too many": (["-i", "NEW"], {}, "podnet_allocations.yml has no subnet for n3, and this"),
    "another edition": (["-e", "podnet_release=n9"], {}, "would be changed, and this run is on n1"),
    "no key": (
        ["-e", "podnet_backend=wireguard"],
        {},
        "has no public key of n1, and this run is on",
    ),
    "rotated": (["-e", "podnet_wireguard_rotate=true"], {"total": 0}, "must not write the alloc"),
}


@pytest.mark.parametrize("case", ALONE)
def test_a_host_that_runs_for_itself(hosts: Hosts, case: str) -> None:
    arguments, look, words = ALONE[case]
    hosts.write(n1={}, n2={}, n9={})
    assert hosts.play(playbook="allocate.yml").status == 0
    record = hosts.directory / "inventory" / "podnet_allocations.yml"
    before = record.read_text()
    # n9 has left: its subnet stays reserved, and that is no change of the file.
    hosts.write(n1={"look": look}, n2={})
    new = hosts.directory / "inventory" / "new.yml"
    if "NEW" in arguments:
        arguments = []
        new.write_text("podnet_nodes: {hosts: {n3: {podnet_node_ip: 192.0.2.19}}}\n")
    run = hosts.play("--limit", "n1,localhost", *arguments)
    assert (run.status == 0) == (not words), run.output
    assert words in run.message, run.output
    assert run.did("all" if "switch" not in case else "prepare") == (not words), run.output
    assert record.read_text() == before


#: How the same run is no host's own -> what makes it so.
NOT_ALONE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "all hosts": ({}, []),
    "over SSH": (AWAY, ["--limit", "n1"]),
}


@pytest.mark.parametrize("case", NOT_ALONE)
def test_another_run_writes_the_allocations(hosts: Hosts, case: str) -> None:
    variables, arguments = NOT_ALONE[case]
    hosts.write(n1=variables, n2={})
    run = hosts.play(*arguments)
    assert "this run is on" not in run.message, run.output
    assert (hosts.directory / "inventory" / "podnet_allocations.yml").exists(), run.output


def test_a_run_that_must_not_write_the_allocations(hosts: Hosts) -> None:
    """As in a container, which is gone after the run."""
    hosts.write(n1={}, n2={})
    never = ("-e", "podnet_allocations_write=false")
    record = hosts.directory / "inventory" / "podnet_allocations.yml"
    for playbook in ("site.yml", own_play(hosts)):
        run = hosts.play(*never, playbook=playbook)
        assert run.status != 0
        assert "has no subnet for n1, n2, and podnet_allocations_write is false" in run.message
        assert not run.did("all")
        assert not record.exists()
    assert hosts.play(*never, playbook="plan.yml").status == 0
    assert hosts.play(*never, playbook="allocate.yml").status == 0
    assert record.exists()
    assert hosts.play(*never).did("all")

"""The installed collection, in a directory outside the project: from the first run to reset."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.scenario.cluster import PROJECT, Cluster
from tools import collection

BIN = Path(sys.executable).parent
_CHANGED = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", re.MULTILINE)

#: A user's own play, as the collection's README says: the plan first, once for all hosts.
_OWN_PLAY = """\
---
- name: Build the pod network in a play of one's own
  hosts: podnet_nodes
  gather_facts: false
  become: true
  any_errors_fatal: true
  tasks:
    - name: Plan
      ansible.builtin.include_role:
        name: podnet.podnet.podnet_plan
      run_once: true

    - name: Build
      ansible.builtin.import_role:
        name: podnet.podnet.podnet_network
"""


@dataclass(frozen=True)
class Place:
    """A user's directory and home, with an ansible.cfg and the collection; outside the project."""

    directory: Path

    def run(self, program: str, *arguments: str) -> str:
        """Run a program of Ansible's there; it must succeed."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        done = subprocess.run(
            [str(BIN / program), *arguments],
            cwd=self.directory,
            env=kept | {"HOME": str(self.directory), "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def play(self, playbook: str, *arguments: str) -> Mapping[str, int]:
        """Run a playbook; return host -> number of changes."""
        said = self.run("ansible-playbook", playbook, *arguments)
        assert "WARNING" not in said, said
        return {host: int(count) for host, count in _CHANGED.findall(said)}


@pytest.fixture(scope="module")
def place(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Place:
    directory = tmp_path_factory.mktemp("user")
    found = Place(directory)
    file = collection.build(directory)
    # With the words of its README, and nothing of this project.
    readme = (PROJECT / "README.md").read_text()
    config = re.search(r"^    (\[defaults\]\n(?:    .*\n|\n)*)", readme, re.MULTILINE)
    assert config, "README.md shows no ansible.cfg"
    lines = config[1].replace("inventory/mine", str(cluster.inventory)).splitlines()
    (directory / "ansible.cfg").write_text("\n".join(line.strip() for line in lines) + "\n")
    (directory / "own.yml").write_text(_OWN_PLAY)
    found.run("ansible-galaxy", "collection", "install", str(file))
    return found


def test_the_documentation_is_there(place: Place) -> None:
    assert "rollback_timeout" in place.run("ansible-doc", "podnet.podnet.podnet_network")
    assert "podnet_force_limited" in place.run(
        "ansible-doc", "-t", "role", "podnet.podnet.podnet_network"
    )


def test_from_the_first_run_to_reset(cluster: Cluster, place: Place) -> None:
    before = cluster.snapshots()
    nothing = dict.fromkeys(cluster.hosts, 0)
    assert "10.244.1.0/24" in place.run("ansible-playbook", "podnet.podnet.plan")
    cluster.demand_equal(before, cluster.snapshots())

    assert all(place.play("podnet.podnet.site").values())
    assert place.play("podnet.podnet.site") == nothing
    # What was compiled there is kept, under names that are the same with and without a collection.
    assert "host.look-" in cluster.on("n1", "ls", "/run/podnet/.code")
    said = place.run("ansible-playbook", "podnet.podnet.verify")
    assert re.search(r"(\d+) of \1 probes were answered", said), said

    # A switch, in a play of one's own.
    assert all(place.play("own.yml", "-e", "podnet_backend=host-gw").values())
    assert all(route["dev"] == "host0" for route in cluster.routes("n1").values())

    assert all(place.play("podnet.podnet.reset").values())
    cluster.demand_equal(before, cluster.snapshots())


def test_the_hosts_take_a_network_by_a_play_of_ones_own(cluster: Cluster, place: Place) -> None:
    """For what every scenario ends with: the tree, too, finds nothing to do, and resets it."""
    assert all(place.play("own.yml").values())

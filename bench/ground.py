"""A lab to measure on, and playbooks run on it the way a user runs them."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lab import Lab

from .measure import ROOT, say, timed

_PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"


class Ground:
    """A lab's hosts with an inventory whose network variables can be set."""

    def __init__(self, lab: Lab) -> None:
        """Take a lab that is up."""
        self.lab = lab
        self._inventory = lab.inventory_dir
        self._env = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}

    def set(self, **variables: Any) -> None:
        """Give the network these variables and no others."""
        directory = self._inventory / "group_vars"
        directory.mkdir(exist_ok=True)
        # The lab's hosts have the distribution's plugins, in its own directory.
        text = yaml.safe_dump({"podnet_cni_bin_dir": "/usr/lib/cni", **variables})
        (directory / "podnet_nodes.yml").write_text(text)

    def play(self, *playbooks: str) -> float:
        """Run playbooks on all hosts; return the seconds that took."""
        argv = [str(_PLAYBOOK), "-i", str(self._inventory), *playbooks]
        return timed(argv, env=self._env)

    def ping(self) -> float:
        """Run the yardstick; it also leaves SSH connections open for what is measured next."""
        return self.play("bench/ping.yml")

    def reset(self) -> None:
        """Return all hosts and the inventory to the state before podnet."""
        self.play("playbooks/reset.yml")
        (self._inventory / "podnet_allocations.yml").unlink(missing_ok=True)


@contextlib.contextmanager
def ground(hosts: int) -> Iterator[Ground]:
    """Make a lab of its own with `hosts` hosts, and take it away."""
    with tempfile.TemporaryDirectory(prefix="podnet-bench-") as directory:
        lab = Lab("bench", Path(directory) / "inventory")
        say(f"making {hosts} hosts")
        lab.up(hosts)
        try:
            yield Ground(lab)
        finally:
            lab.down()

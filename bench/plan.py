"""What a plan takes: in process up to 65,536 nodes, and plan.yml up to 1,000 hosts.

There is no yardstick here, so what counts is processor time: a busy machine stretches it less than
the clock's. A plan is one process, so on an idle machine both are the same.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .measure import ROOT, Row, say, timed

sys.path.insert(0, str(ROOT / "module_utils"))

from podnet.plan.plan_run import run

IN_PROCESS = (100, 1_000, 10_000, 65_536)
PLAYBOOK = (100, 300, 1_000)

#: Seconds that the largest of each may take.
_MOST_IN_PROCESS = 3.0
_MOST_PLAYBOOK = 15.0

# Room for 65,536 nodes: pods in 10/8, nodes in 100.64/10 (RFC 6598).
VARIABLES = {"podnet_cluster_cidr": "10.0.0.0/8", "podnet_backend": "vxlan", "podnet_mtu": "auto"}


def address(number: int) -> str:
    """Return the address of host `number`, never one that ends in .0 or .255 of the /10."""
    high, low = divmod(number + 1, 256)
    return f"100.{64 + high // 256}.{high % 256}.{low}"


def hosts(number: int, directory: str) -> list[dict[str, Any]]:
    """Return what the filter hands to the module."""
    own = [
        {
            "name": f"node-{index:05d}",
            "inventory_dir": directory,
            "podnet_node_ip": f"{address(index)}/10",
            **VARIABLES,
        }
        for index in range(number)
    ]
    # As it comes from Ansible: no two hosts share a string.
    found: list[dict[str, Any]] = json.loads(json.dumps(own))
    return found


def measure() -> list[Row]:
    """Plan in process, then by plan.yml; each once anew and once with all subnets recorded."""
    rows = []
    for number in IN_PROCESS:
        say(f"plan of {number:,} nodes")
        rows += _in_process(number)
    for number in PLAYBOOK:
        say(f"plan.yml for {number:,} hosts")
        rows += _playbook(number)
    return rows


def _in_process(number: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as directory:
        raw = hosts(number, directory)
        seconds = []
        for _ in range(2):
            started = time.process_time()
            run(raw)
            seconds.append(time.process_time() - started)
    return _rows(
        "plan in process", number, seconds, _MOST_IN_PROCESS if number == IN_PROCESS[-1] else 0.0
    )


def _playbook(number: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as directory:
        inventory = Path(directory) / "hosts.yml"
        lines = ["podnet_nodes:", "  vars:"]
        lines += [f"    {name}: {json.dumps(value)}" for name, value in VARIABLES.items()]
        lines.append("  hosts:")
        lines += [
            f"    node-{index:05d}: {{ansible_host: {address(index)}}}" for index in range(number)
        ]
        inventory.write_text("\n".join(lines) + "\n")
        program = Path(sys.executable).parent / "ansible-playbook"
        argv = [str(program), "-i", str(inventory), "playbooks/plan.yml"]
        env = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
        first = _processor_time(argv, env)
        # plan.yml writes no record, so that a second one finds it: write it here.
        run(hosts(number, directory))
        again = _processor_time(argv, env)
    return _rows(
        "plan.yml", number, [first, again], _MOST_PLAYBOOK if number == PLAYBOOK[-1] else 0.0
    )


def _processor_time(argv: Sequence[str], env: Mapping[str, str]) -> float:
    before = os.times()
    timed(argv, env=env)
    after = os.times()
    return (
        after.children_user - before.children_user + after.children_system - before.children_system
    )


def _rows(what: str, number: int, seconds: Sequence[float], most: float) -> list[Row]:
    return [
        Row(f"{what}: {number:,} nodes", seconds[0], "s CPU", target=most),
        Row(f"{what}: {number:,} nodes, all recorded", seconds[1], "s CPU", target=most),
    ]

"""How long a plan takes: in process up to 65,536 nodes, and plan.yml up to 1,000 hosts.

    python bench/plan.py [--process] [--playbook]

Prints JSON, one object a line: {"what", "nodes", "seconds", "again_seconds"}; "again" is the run
that finds everything in the allocations file. Without an option it does both.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "module_utils"))

from podnet.plan_run import run  # noqa: E402

IN_PROCESS = (100, 1_000, 10_000, 65_536)
PLAYBOOK = (100, 300, 1_000)

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


def in_process(number: int) -> dict[str, Any]:
    """Plan `number` nodes twice, once into an empty directory."""
    with tempfile.TemporaryDirectory() as directory:
        raw = hosts(number, directory)
        return _twice("plan in process", number, lambda: run(raw))


def playbook(number: int) -> dict[str, Any]:
    """Run plan.yml for `number` hosts twice; the second one finds an allocations file."""
    with tempfile.TemporaryDirectory() as directory:
        inventory = Path(directory) / "hosts.yml"
        lines = ["podnet_nodes:", "  vars:"]
        lines += [f"    {name}: {json.dumps(value)}" for name, value in VARIABLES.items()]
        lines.append("  hosts:")
        lines += [
            f"    node-{index:05d}: {{ansible_host: {address(index)}}}" for index in range(number)
        ]
        inventory.write_text("\n".join(lines) + "\n")
        plan = Path(sys.executable).parent / "ansible-playbook"

        def show() -> None:
            subprocess.run(
                [str(plan), "-i", str(inventory), "playbooks/plan.yml"],
                cwd=ROOT,
                env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
                stdout=subprocess.DEVNULL,
                check=True,
            )

        started = time.monotonic()
        show()
        first = time.monotonic() - started
        run(hosts(number, directory))
        started = time.monotonic()
        show()
        again = time.monotonic() - started
    return _row("plan.yml", number, first, again)


def _twice(what: str, number: int, work: Any) -> dict[str, Any]:
    started = time.monotonic()
    work()
    first = time.monotonic() - started
    started = time.monotonic()
    work()
    return _row(what, number, first, time.monotonic() - started)


def _row(what: str, number: int, first: float, again: float) -> dict[str, Any]:
    return {
        "what": what,
        "nodes": number,
        "seconds": round(first, 3),
        "again_seconds": round(again, 3),
    }


def main() -> None:
    """Measure and print."""
    chosen = sys.argv[1:] or ["--process", "--playbook"]
    if "--process" in chosen:
        for number in IN_PROCESS:
            print(json.dumps(in_process(number)), flush=True)
    if "--playbook" in chosen:
        for number in PLAYBOOK:
            print(json.dumps(playbook(number)), flush=True)


if __name__ == "__main__":
    main()

"""What the controller does for a run, up to 1,000 hosts, which answer at once and are not there.

Processor time, and the memory of the largest process: ansible-playbook, whose workers share what
they do not change. SSH, which costs a process a host, is left out, and so are the hosts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from .measure import ROOT, BenchError, Row, say
from .plan import VARIABLES, address

HOSTS = (100, 300, 1_000)

#: MiB that the largest may take.
_MOST_MEMORY = 2048

_HERE = Path(__file__).parent


def measure() -> list[Row]:
    """Run site.yml where nothing is to be done, and the ping playbook beside it."""
    rows = []
    for number in HOSTS:
        say(f"a run for {number:,} hosts that are not there")
        with tempfile.TemporaryDirectory() as directory:
            inventory = _inventory(Path(directory), number)
            ping, _memory = _run(inventory, "bench/ping.yml")
            # The first one writes the allocations.
            _run(inventory, "playbooks/site.yml")
            seconds, memory = _run(inventory, "playbooks/site.yml")
        what = f"{number:,} hosts, nothing to do: "
        yardstick = "the ping playbook"
        rows += [
            Row(f"{what}controller", seconds, "s CPU", seconds / ping, yardstick),
            Row(f"{what}a host's share", seconds / number, "s CPU"),
            Row(
                f"{what}memory", memory, "MiB", target=_MOST_MEMORY if number == HOSTS[-1] else 0.0
            ),
        ]
    return rows


def _inventory(directory: Path, number: int) -> Path:
    """Write an inventory of so many hosts."""
    lines = ["podnet_nodes:", "  vars:"]
    variables = {
        **VARIABLES,
        "ansible_connection": "podnet_silent",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_become": "false",
    }
    lines += [f"    {name}: {value}" for name, value in variables.items()]
    lines.append("  hosts:")
    lines += [
        f"    node-{index:05d}: {{ansible_host: {address(index)}}}" for index in range(number)
    ]
    file = directory / "hosts.yml"
    file.write_text("\n".join(lines) + "\n")
    return file


def _run(inventory: Path, playbook: str) -> tuple[float, float]:
    """Return the seconds of processor time that a playbook took, and its most MiB of memory."""
    program = Path(sys.executable).parent / "ansible-playbook"
    environment = os.environ | {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_CONNECTION_PLUGINS": str(_HERE / "connection_plugins"),
        "ANSIBLE_PIPELINING": "true",
    }
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [str(program), "-i", str(inventory), playbook],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _pid, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            said = output.read().decode(errors="replace")[-2000:]
            raise BenchError(f"{playbook} ended with status {process.returncode}:\n{said}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024

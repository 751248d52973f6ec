"""One host with thousands of peers, as multiples of what iproute2 takes for the same objects."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import groupby
from typing import Any

from tests.kernel.netns_hosts import ROOT, Host, hosts

from .measure import BenchError, Row, compared, say, timed

PEERS = 4_000
ROUNDS = 5

_READ = f"""
exec > /dev/null
ip -j -N route show table main
ip -j -N neigh show dev flannel.1
bridge -j fdb show dev flannel.1
{sys.executable} -c pass
"""

# Both run on the host; the plan is on standard input, as Ansible hands it to a module.
_APPLY = """
import json, sys, time
from podnet.host import converge, target
from podnet.backends.document import plan_from_text
text = sys.stdin.read()
begin = time.perf_counter()
done = converge.converge(plan_from_text(text), "n1", "all", False)
seconds = time.perf_counter() - begin
lines = [(one.tool, line) for one in done.changes for line in one.lines]
print(json.dumps({"seconds": seconds, "lines": lines}))
"""
_NOTHING = """
import sys
from podnet.host import converge, target
from podnet.backends.document import plan_from_text
done = converge.converge(plan_from_text(sys.stdin.read()), "n1", "all", True)
assert not done.changed, target.commands(done.changes, 5)
"""


def measure() -> list[Row]:
    """A fresh apply against raw batches; a look that finds nothing against the bare reading."""
    plan = json.dumps(document(PEERS))
    applied, looked = [], []
    for number in range(ROUNDS):
        say(f"round {number + 1} of {ROUNDS}: {PEERS} peers, by podnet and by iproute2 alone")
        with hosts(1, bare=True) as (host,):
            seconds, lines = _apply(host, plan)
            looked.append(
                (
                    timed(_python(host, _NOTHING), stdin=plan),
                    timed([*host.enter, "sh", "-ec", _READ]),
                )
            )
        with hosts(1, bare=True) as (host,):
            applied.append((seconds, _batches(host, lines)))
    count = f"{PEERS:,} peers: "
    return [
        compared(count + "fresh apply", applied, "ip -batch and bridge -batch", 1.5),
        compared(
            count + "nothing to do", looked, "reading the three tables, and Python's start", 3
        ),
    ]


def document(peers: int) -> dict[str, Any]:
    """Return the plan of a vxlan network of one host (n1, as `hosts` makes it) and `peers`."""
    nodes = [
        {
            "name": f"n{number + 1}",
            "ip": f"198.18.{number // 250}.{number % 250 + 1}" if number else "192.0.2.11",
            "subnet": f"10.{number // 256}.{number % 256}.0/24",
            "mac": f"02:00:0a:{number // 256:02x}:{number % 256:02x}:00",
        }
        for number in range(peers + 1)
    ]
    return {
        "version": 1,
        "name": "podnet",
        "cluster_cidr": "10.0.0.0/8",
        "cluster_cidr6": "",
        "backend": "vxlan",
        "vni": 1,
        "port": 8472,
        "device": "flannel.1",
        "direct_routing": False,
        "bridge": "cni0",
        "mtu": "auto",
        "masquerade": True,
        "underlay": 4,
        "cni": {
            "conf_dir": "/etc/cni/net.d",
            "conf_name": "10-podnet.conflist",
            "bin_dir": "/opt/cni/bin",
            "extra_plugins": [],
        },
        "nodes": nodes,
    }


def _python(host: Host, code: str) -> list[str]:
    path = f"PYTHONPATH={ROOT / 'module_utils'}"
    return [*host.enter, "env", path, sys.executable, "-c", code]


def _apply(host: Host, plan: str) -> tuple[float, list[tuple[str, str]]]:
    """Return the seconds that podnet took, and the (tool, line) that it applied."""
    done = subprocess.run(
        _python(host, _APPLY), input=plan, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchError(f"podnet failed on {PEERS} peers: {done.stderr[-2000:]}")
    result = json.loads(done.stdout)
    return result["seconds"], [(tool, line) for tool, line in result["lines"]]


def _batches(host: Host, lines: list[tuple[str, str]]) -> float:
    """Feed the same objects to iproute2, in the same order; return the seconds."""
    return sum(
        timed([*host.enter, tool, "-batch", "-"], stdin="".join(f"{line}\n" for _, line in group))
        for tool, group in groupby(lines, key=lambda pair: pair[0])
        if tool in ("ip", "bridge")
    )

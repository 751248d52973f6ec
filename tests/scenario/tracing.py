"""What trace.yml says, without Ansible: its module's code run on hosts, its report made here.

PYTHONPATH=module_utils python -m tests.scenario.tracing LAB BEGIN END FILE [VARIABLE=VALUE ...]
records what hosts told, for tests/unit/test_trace.py.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml
from podnet.plan.plan_run import run as make_plan
from podnet.run import trace, trace_way

from lab import Lab
from tests.scenario.cluster import PROJECT, Cluster
from tests.traffic.watch import code_archive

_LOOK = """
import base64, json, sys, tempfile
with tempfile.NamedTemporaryFile(suffix=".zip") as archive:
    archive.write(base64.b64decode({archive!r}))
    archive.flush()
    sys.path.insert(0, archive.name)
    from podnet.backends.document import plan_from_text
    from podnet.core.errors import message
    from podnet.host import trace
    plan = plan_from_text({document!r})
    try:
        found = trace.{call}
    except Exception as error:
        found = {{"failed": True, "msg": message(error)}}
    print(json.dumps(found))
"""


class Tracer:
    """Traces on a cluster, each in a tenth of a playbook's time."""

    def __init__(self, cluster: Cluster, **variables: Any) -> None:
        """Make the plan once; `variables` go before those of the inventory."""
        self.cluster = cluster
        self._archive = base64.b64encode(code_archive()).decode()
        self.text = document(cluster, variables)
        self.plan = json.loads(self.text)

    def trace(self, begin: str, end: str) -> dict[str, Any]:
        """Return the report of a trace."""
        way = trace_way.way(self.plan, begin, end)
        pods = {
            key: {
                "pod": self._call(
                    one["host"], f"find(plan, {one['host']!r}, {way['family']}, {one['which']!r})"
                )
            }
            for key, one in way["finds"].items()
        }
        asked = trace_way.questions(way, pods)
        with ThreadPoolExecutor(2) as pool:
            answers = dict(zip(asked, pool.map(self._look, asked, asked.values()), strict=True))
        return trace.report(self.plan, way, asked, answers)

    def _look(self, host: str, questions: Any) -> list[Any]:
        return [
            self._call(
                host, f"look(plan, {host!r}, {one['local']!r}, {one['remote']!r}, {one['role']!r})"
            )
            for one in questions
        ]

    def _call(self, host: str, call: str) -> Any:
        script = _LOOK.format(archive=self._archive, document=self.text, call=call)
        return json.loads(self.cluster.on(host, "python3", "-", stdin=script))

    def facts(self, begin: str, end: str) -> dict[str, Any]:
        """Return what the hosts on a way between two addresses told: host -> facts for each."""
        asked = trace_way.questions(trace_way.way(self.plan, begin, end), {})
        return {
            host: [one["facts"] for one in self._look(host, those)] for host, those in asked.items()
        }


def document(cluster: Cluster, variables: Mapping[str, Any]) -> str:
    """Return the plan of a cluster's inventory as text."""
    said = subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-inventory"),
            "-i",
            str(cluster.inventory),
            "--list",
        ],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    inventory = json.loads(said.stdout)
    hosts = [
        {
            "name": name,
            **{
                key: value
                for key, value in inventory["_meta"]["hostvars"][name].items()
                if key.startswith("podnet_") or key == "ansible_host"
            },
            **variables,
        }
        for name in inventory["podnet_nodes"]["hosts"]
    ]
    file = str(cluster.inventory / "podnet_allocations.yml")
    found: str = make_plan(hosts, file, write=False)["document"]
    return found


def main(lab: str, begin: str, end: str, file: str, *variables: str) -> None:
    """Record what hosts of `lab` tell of a way."""
    given = dict(one.split("=", 1) for one in variables)
    values = {key: yaml.safe_load(value) for key, value in given.items()}
    tracer = Tracer(Cluster(Lab(lab)), **values)
    told = {
        "begin": begin,
        "end": end,
        "plan": tracer.plan,
        "facts": tracer.facts(begin, end),
    }
    Path(file).write_text(json.dumps(told, sort_keys=True, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

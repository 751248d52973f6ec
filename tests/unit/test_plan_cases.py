"""Walks cases/plan/*: a new case is a new folder and no code.

inventory.yml       vars (of the group), hosts (name -> vars), release; both optional but hosts
allocations.yml     the record before the plan, absent where there is none
expected.yml        nodes (what must be in the document), plan, states, notes (words), allocations
error.txt           or: every line must be in the message; "=" before it: the whole message
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from podnet.core.errors import PodnetError
from podnet.core.model import Plan
from podnet.plan.allocations_file import parse
from podnet.plan.plan_run import run

CASES = Path(__file__).parent / "cases" / "plan"


def hosts_of(inventory: dict[str, Any], directory: Path) -> list[dict[str, Any]]:
    """Return what the filter would: group variables under each host's own."""
    return [
        {"name": name, "inventory_dir": str(directory)} | inventory.get("vars", {}) | (own or {})
        for name, own in (inventory.get("hosts") or {}).items()
    ]


@pytest.mark.parametrize("case", sorted(path.name for path in CASES.iterdir()))
def test_case(case: str, tmp_path: Path) -> None:
    folder = CASES / case
    inventory = yaml.safe_load((folder / "inventory.yml").read_text())
    record = tmp_path / "podnet_allocations.yml"
    before = None
    if (folder / "allocations.yml").exists():
        before = (folder / "allocations.yml").read_text()
        record.write_text(before)
    hosts = hosts_of(inventory, tmp_path)
    release = inventory.get("release", [])
    if (folder / "error.txt").exists():
        _fails(hosts, release, (folder / "error.txt").read_text(), tmp_path)
        left = sorted(path.name for path in tmp_path.iterdir())
        assert left == ([record.name] if before is not None else [])
        assert before is None or record.read_text() == before
        return
    result = run(hosts, release=release)
    expected = yaml.safe_load((folder / "expected.yml").read_text())
    _check(result, expected, record)
    # What is written is read the same, and a second run has nothing to do.
    again = run(hosts)
    assert not again["changed"]
    assert again["document"] == result["document"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [record.name]


def _fails(hosts: list[dict[str, Any]], release: list[str], text: str, tmp_path: Path) -> None:
    with pytest.raises(PodnetError) as caught:
        run(hosts, release=release)
    message = str(caught.value).replace(str(tmp_path), "DIR")
    for line in text.splitlines():
        if line.startswith("="):
            assert message == line[1:]
        else:
            assert line in message
    assert ("\n" in message) == ("problems" in text)


def _check(result: dict[str, Any], expected: dict[str, Any], record: Path) -> None:
    document = json.loads(result["document"])
    Plan.from_document(document)
    nodes = {node["name"]: node for node in document["nodes"]}
    for name, fields in expected.get("nodes", {}).items():
        assert {key: nodes[name].get(key) for key in fields} == fields, name
    for key, value in expected.get("plan", {}).items():
        assert document[key] == value, key
    states = {row["name"]: row["state"] for row in result["nodes"]}
    assert expected.get("states", states) == states
    notes = " ".join(result["notes"])
    for words in expected.get("notes", []):
        assert words in notes
    if not expected.get("notes"):
        assert notes == ""
    if "direct" in expected:
        assert result["direct"] == expected["direct"]
    if "free" in expected:
        assert result["free"] == expected["free"]
    written = parse(record.read_text(), str(record))
    for name, subnets in expected.get("allocations", {}).items():
        assert list(written.nodes[name]) == subnets
    if "allocations" in expected:
        assert set(written.nodes) == set(expected["allocations"])


@pytest.mark.parametrize(
    "changes",
    [{"podnet_vxlan_port": 9000}, {"podnet_vxlan_vni": 7}, {"podnet_direct_routing": True}],
)
def test_what_a_backend_does_not_use_is_not_in_its_plan(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    """So a change of it is no switch, and no change at all."""
    one = {"name": "n1", "podnet_node_ip": "192.0.2.11/24", "inventory_dir": str(tmp_path)}
    plans = [
        run([{**one, "podnet_backend": backend, **own}], write=False)["document"]
        for backend in ("host-gw", "vxlan")
        for own in ({}, changes)
    ]
    assert plans[0] == plans[1]
    assert plans[2] != plans[3]

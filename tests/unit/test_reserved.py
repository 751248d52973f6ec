"""What podnet_reserved gives to each node; cases/plan has the errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from podnet.core.errors import PodnetError
from podnet.plan.allocations_file import Allocations, render
from podnet.plan.plan_run import run

RECORD = Allocations(
    "podnet",
    cluster_cidr="10.244.0.0/16",
    node_prefix=24,
    nodes={f"n{number}": (f"10.244.{number}.0/24", "") for number in (0, 1, 9)},
)


def hosts(count: int, directory: str, reserved: list[str]) -> list[dict[str, Any]]:
    return [
        {"name": f"n{number}", "inventory_dir": directory, "podnet_node_ip": f"192.0.2.{number}"}
        | {"podnet_reserved": reserved}
        for number in range(1, count + 1)
    ]


def given_to(result: dict[str, Any]) -> dict[str, list[str]]:
    nodes = json.loads(result["document"])["nodes"]
    return {node["name"]: node.get("reserved", []) for node in nodes}


def test_a_groups_list_outlives_a_node_until_its_subnet_is_released(tmp_path: Path) -> None:
    """remove_node.yml plans without the node, and may release it in the same run."""
    (tmp_path / "podnet_allocations.yml").write_text(render(RECORD))
    group = ["10.244.1.7", "10.244.9.7"]
    expected = {"n1": ["10.244.1.7"]}
    assert given_to(run(hosts(1, str(tmp_path), group))) == expected
    assert given_to(run(hosts(1, str(tmp_path), group), release=["n9"])) == expected
    with pytest.raises(PodnetError, match=r"^n1: podnet_reserved: 10\.244\.9\.7 is in no node's"):
        run(hosts(1, str(tmp_path), group))


def test_a_wider_range_of_the_owner_counts() -> None:
    those = hosts(2, "/nowhere", ["10.244.0.7", "10.244.1.7"])
    those[1]["podnet_reserved"] = ["10.244.1.0/28"]
    assert given_to(run(those, write=False)) == {
        "n1": ["10.244.0.7"],
        "n2": ["10.244.1.0-10.244.1.15"],
    }


entries = st.tuples(st.integers(0, 4), st.integers(0, 255), st.integers(0, 255))


@given(st.lists(entries, max_size=10))
def test_each_node_has_its_part_of_a_groups_list(drawn: list[tuple[int, int, int]]) -> None:
    group = [f"10.244.{node}.{min(ends)}-10.244.{node}.{max(ends)}" for node, *ends in drawn]
    full = {node for node in range(5) if _covered(node, drawn) >= set(range(2, 255))}
    try:
        found = given_to(run(hosts(5, "/nowhere", group), write=False))
    except PodnetError as error:
        assert full
        assert str(error).count("leaves no address") == len(full)
        return
    assert not full
    for node in range(5):
        mine = {one for text in found[f"n{node + 1}"] for one in _places(text, node)}
        assert mine == _covered(node, drawn)


def _covered(node: int, drawn: list[tuple[int, int, int]]) -> set[int]:
    own = [sorted(ends) for number, *ends in drawn if number == node]
    return {one for low, high in own for one in range(low, high + 1)}


def _places(text: str, node: int) -> range:
    ends = text.split("-")
    assert all(one.startswith(f"10.244.{node}.") for one in ends)
    return range(int(ends[0].split(".")[3]), int(ends[-1].split(".")[3]) + 1)

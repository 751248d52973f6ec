"""What must hold for every inventory, checked with made-up ones."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from podnet.core.errors import PodnetError
from podnet.core.model import Plan
from podnet.plan.allocation import Pool, carve
from podnet.plan.allocations_file import Allocations, parse, render
from podnet.plan.inventory import read_inventory
from podnet.plan.plan_run import run
from podnet.plan.planning import make_plan
from podnet.plan.variables import BY_NAME, VARIABLES

printable = st.text(min_size=1, max_size=30).filter(str.isprintable)
names = st.lists(printable, unique=True, max_size=20)

# What an inventory may hold by accident or by malice: every JSON type, and text that hurts.
hostile_text = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            "; rm -rf /",
            "$(id)",
            "`id`",
            "a\nroute flush table all",
            "{{ lookup('pipe','id') }}",
            "\x00",
            "\ud800",
            "' \" \\",
            "١٢٣",
            "1" * 5000,
            "../../etc/passwd",
            "10.244.0.0/16\n",
            "::ffff:10.0.0.1",
            "fe80::1%eth0",
            "0x7f.1",
            "010.0.0.1",
        ]
    ),
)
hostile = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=True), hostile_text),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(hostile_text, inner, max_size=3)
    ),
    max_leaves=6,
)


@given(names, st.data())
def test_record_is_yaml_and_reads_back(hosts: list[str], data: st.DataObject) -> None:
    numbers = data.draw(
        st.lists(st.integers(0, 255), unique=True, min_size=len(hosts), max_size=len(hosts))
    )
    nodes = {
        host: (
            f"10.244.{number}.0/24",
            data.draw(st.sampled_from(["", f"fd00:0:0:{number + 1:x}::/64"])),
        )
        for host, number in zip(hosts, numbers, strict=True)
    }
    record = Allocations("podnet", "10.244.0.0/16", 24, "fd00::/48", 64, nodes)
    text = render(record)
    assert parse(text, "x") == record
    # A YAML parser reads the same: the strict format is no dialect of its own.
    read = yaml.safe_load(text)["podnet_allocations"]["vars"]
    assert (read["network"], read["cluster_cidr"], read["node_prefix"]) == (
        "podnet",
        "10.244.0.0/16",
        24,
    )
    assert {
        host: (both.get("subnet", ""), both.get("subnet6", ""))
        for host, both in (read["nodes"] or {}).items()
    } == nodes


@given(st.text(max_size=300), st.integers(0, 20))
def test_reader_refuses_or_reads(noise: str, at: int) -> None:
    lines = render(
        Allocations("podnet", "10.0.0.0/8", 24, nodes={"n1": ("10.0.0.0/24", "")})
    ).split("\n")
    lines.insert(at, noise)
    try:
        parse("\n".join(lines), "FILE")
    except PodnetError as error:
        assert "FILE" in str(error)


@given(
    st.lists(st.integers(0, 40), unique=True, max_size=25),
    st.dictionaries(st.integers(0, 40), st.integers(0, 63), max_size=10),
)
def test_carving(order: list[int], wanted: dict[int, int]) -> None:
    pool = Pool.of("10.0.0.0/18", 24)
    numbers: dict[str, int] = {}
    for host, number in wanted.items():
        if pool.first + number not in numbers.values():
            numbers[str(host)] = pool.first + number
    hosts = [str(host) for host in order]
    fixed = {host: number for host, number in numbers.items() if host in hosts}
    reserved = [number for host, number in numbers.items() if host not in hosts]
    given_ = carve(pool, hosts, fixed, reserved)
    assert given_ is not None
    assert list(given_) == hosts
    assert len({*given_.values(), *reserved}) == len(hosts) + len(reserved)
    assert all(given_[host] == number for host, number in fixed.items())
    fresh = [given_[host] for host in hosts if host not in fixed]
    assert fresh == sorted(fresh)
    # First free: everything below the last fresh one is taken.
    if fresh:
        taken = {*given_.values(), *reserved}
        assert set(range(pool.first, fresh[-1])) <= taken


@given(st.lists(st.lists(st.integers(1, 30), unique=True, min_size=1), min_size=1, max_size=6))
def test_a_subnet_is_kept_whatever_happens(lives: list[list[int]]) -> None:
    """Hosts come, go and change places; whoever had a subnet has it still."""
    record = None
    seen: dict[str, str] = {}
    for hosts in lives:
        raw = [
            {"name": f"n{host}", "ansible_host": f"192.0.2.{host}", "inventory_dir": "/x"}
            for host in hosts
        ]
        outcome = make_plan(read_inventory(raw), record)
        record = parse(render(outcome.allocations), "x")
        assert record == outcome.allocations
        for name, node in outcome.plan.nodes.items():
            assert seen.setdefault(name, node.subnet) == node.subnet
        assert {name: both[0] for name, both in record.nodes.items()} == seen
        assert len(set(seen.values())) == len(seen)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400)
@given(st.sampled_from([one.name for one in VARIABLES]), hostile)
def test_hostile_values(tmp_path: Path, variable: str, value: Any) -> None:
    """Every value is a plan that the hosts accept, or one clear error and no file."""
    hosts = [
        {"name": name, "ansible_host": address, "inventory_dir": str(tmp_path), variable: value}
        for name, address in (("n1", "192.0.2.1"), ("n2", "192.0.2.2"))
    ]
    record = tmp_path / "podnet_allocations.yml"
    record.unlink(missing_ok=True)
    try:
        result = run(hosts)
    except PodnetError as error:
        message = str(error)
        assert message
        assert "podnet_" in message
        assert "\n" not in message or "problems" in message
        assert list(tmp_path.iterdir()) == []
        return
    if variable != "podnet_allocations_file":
        Plan.from_document(json.loads(result["document"]))


@given(st.dictionaries(hostile_text.map(lambda text: "podnet_" + text), hostile, max_size=3))
def test_unknown_names(variables: dict[str, Any]) -> None:
    unknown = [name for name in variables if name not in BY_NAME]
    raw = [{"name": "n1", "ansible_host": "192.0.2.1", "inventory_dir": "/x"} | variables]
    if unknown:
        with pytest.raises(PodnetError) as caught:
            read_inventory(raw)
        assert "is not a variable of podnet" in str(caught.value)


@given(hostile_text)
def test_hostile_host_names(name: str) -> None:
    raw = [
        {"name": name, "ansible_host": "h", "podnet_node_ip": "192.0.2.1", "inventory_dir": "/x"}
    ]
    try:
        plan = make_plan(read_inventory(raw), None).plan
    except PodnetError:
        assert not name or not name.isprintable() or len(name) > 253
        return
    assert all(one in string.printable or one.isprintable() for one in name)
    Plan.from_document(json.loads(json.dumps(plan.to_document())))

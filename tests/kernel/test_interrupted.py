"""podnet is killed at each of its steps: the next run ends where an undisturbed one does."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernel.netns_hosts import ROOT, Host, hosts, plan_document

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]

HEAD = f"""
import json, sys
sys.path.insert(0, {str(ROOT)!r})
from podnet.cni import configuration
from podnet.endpoint import endpoint_run
from podnet.host import converge
from podnet.backends.document import plan_from_text
from tests.kernel import steps

def network(text, *phases):
    plan = plan_from_text(text)
    def run():
        for phase in phases or ["all"]:
            converge.converge(plan, "n1", phase, False)
    return run

def settled(text):
    plan = plan_from_text(text)
    return lambda: not converge.converge(plan, "n1", "all", True).changed

def removed():
    converge.remove("podnet", False)
"""


def document(**changes: Any) -> str:
    made = plan_document(3, **{"backend": "vxlan", **changes})
    for number, node in enumerate(made["nodes"]):
        node["mac"] = f"02:00:0a:f4:{number:02x}:00"
        node["ip6"] = f"fd00:2::{11 + number}"
    return json.dumps(made)


VXLAN = document()
HOST_GW = document(backend="host-gw")
OTHER_PORT = document(port=4789)


@pytest.fixture
def host() -> Iterator[Host]:
    with hosts(1, bare=True) as made:
        made[0].run("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv4.conf.all.rp_filter=1")
        yield made[0]


def walked(host: Host, code: str) -> None:
    found = host.python(f"{HEAD}\n{code}", timeout=300)
    assert found["wrong"] == {}, json.dumps(found["wrong"], indent=1)
    print("steps:", found["steps"])
    assert found["steps"][0] > 3


def test_a_first_run_and_a_removal(host: Host) -> None:
    code = f"""
is_gone = lambda: not converge.remove("podnet", True).changed
print(json.dumps(steps.there_and_back(network({VXLAN!r}), removed, settled({VXLAN!r}), is_gone)))
"""
    walked(host, code)


def test_another_mind_in_the_middle_of_a_switch(host: Host) -> None:
    """Back to the old parameters after any phase: the devices that were put aside come back."""
    code = f"""
old = network({VXLAN!r})
old()
good = steps.state()
found = []
for phases in (["prepare"], ["prepare", "shift"]):
    for ways in (["prepare", "shift", "commit"], ["all"]):
        network({OTHER_PORT!r}, *phases)()
        network({VXLAN!r}, *ways)()
        found += steps.difference(good, steps.state())
print(json.dumps(found))
"""
    assert host.python(f"{HEAD}\n{code}", timeout=200) == []


PHASES = ["prepare", "shift", "commit"]


@pytest.mark.parametrize(
    ("plan", "phase"),
    [(HOST_GW, "shift"), (HOST_GW, "commit"), (OTHER_PORT, "prepare"), (OTHER_PORT, "commit")],
    ids=["backend-shift", "backend-commit", "port-prepare", "port-commit"],
)
def test_a_switch(host: Host, plan: str, phase: str) -> None:
    earlier = PHASES[: PHASES.index(phase)]
    code = f"""
old = network({VXLAN!r})
old()
earlier = network({plan!r}, *{earlier!r})
def back():
    old()  # Without phases: in half the time, and to the same state, which `walk` demands.
    if {earlier!r}: earlier()
if {earlier!r}: earlier()
recover = network({plan!r}, {phase!r})
print(json.dumps(steps.walk(recover, recover, back,
    lambda: {phase!r} != "commit" or settled({plan!r})())))
"""
    walked(host, code)


def test_cni(host: Host) -> None:
    code = f"""
network({VXLAN!r})()
plan = plan_from_text({VXLAN!r})
def run():
    configuration.apply(configuration.inspect(plan, "n1", 1450, install="package"), "podnet")
def back():
    configuration.apply(configuration.inspect_absent("podnet"), "podnet")
run()
back()  # Directories stay remembered until the network itself goes.
is_there = lambda: not configuration.inspect(plan, "n1", 1450, install="package").changed
is_gone = lambda: not configuration.inspect_absent("podnet").changed
print(json.dumps(steps.there_and_back(run, back, is_there, is_gone)))
"""
    walked(host, code)


def test_endpoints(host: Host) -> None:
    nodes = json.loads(VXLAN)["nodes"]
    nodes[0]["endpoints"] = [{"name": "web", "address": "10.244.0.80"}, {"name": "api"}]
    text = document(nodes=nodes)
    code = f"""
network({VXLAN!r})()
plan = plan_from_text({text!r})
def run():
    endpoint_run.converge(plan, "n1", None)
def back():
    endpoint_run.remove("podnet", None, False)
is_there = lambda: not endpoint_run.inspect(plan, "n1").changed
is_gone = lambda: not endpoint_run.remove("podnet", None, True).changed
print(json.dumps(steps.there_and_back(run, back, is_there, is_gone)))
"""
    walked(host, code)


def test_readers_of_files_are_told_by_whoever_ends_the_work(host: Host) -> None:
    """systemd, NetworkManager and firewalld; and no check is clean before they are told."""
    document = json.loads(VXLAN)
    for node in document["nodes"]:
        node["repair_interval"] = "5min"
    code = f"""
import os
from pathlib import Path
from podnet.host import look
from podnet.state import managers
from podnet.kernel import services
LOG = Path("/run/told.json")

def content(path):
    return os.readlink(path) if os.path.islink(path) else (
        Path(path).read_text() if os.path.exists(path) else None)

def settle(paths):
    told = json.loads(LOG.read_text()) if LOG.exists() else {{}}
    told.update({{path: content(path) for path in paths}})
    LOG.write_text(json.dumps(told))
    return []

services.settle = settle
plain = network({VXLAN!r})
def managed(operation):
    def run():
        look._managers = lambda node: frozenset(managers.SIGNS)
        return operation()
    return run
run = managed(network({json.dumps(document)!r}))
check = managed(settled({json.dumps(document)!r}))
trees = ["/etc/systemd/system", "/etc/NetworkManager", "/etc/firewalld", "/etc/systemd/network"]

def is_told():
    told = json.loads(LOG.read_text())
    here = {{str(one) for tree in trees for one in Path(tree).rglob("*podnet*") if not one.is_dir()}}
    return all(content(path) == told.get(path) for path in here | set(told))

def recover():
    assert is_told() or not check(), "clean although nobody was told"
    run()

for one in (plain, run, plain):
    steps.complete(one)
found = steps.walk(run, recover, plain, lambda: check() and is_told(), (steps.killed_before,))
print(json.dumps(found))
"""
    walked(host, code)

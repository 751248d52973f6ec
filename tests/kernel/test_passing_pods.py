"""Pods that leave while a run looks at them or changes them: no fault of the host's."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.kernel.netns_hosts import Host, hosts
from tests.kernel.test_distress import do, tried
from tests.kernel.test_interrupted import HEAD, HOST_GW, VXLAN

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]

#: What removes a pod at a moment, as code that a call of podnet's is given.
_LEAVES = """
import subprocess
from podnet.kernel import apply, pods
def leave():
    subprocess.run(["ip", "netns", "del", "leaves"], capture_output=True)
def after_leaving(right):
    def called(*arguments, **named):
        leave()
        return right(*arguments, **named)
    return called
"""
MOMENTS = {
    "before its namespace is entered": "pods._inside = after_leaving(pods._inside)",
    "before the first change": "converge.edge.apply = after_leaving(apply.apply)",
    "before its namespace is changed": """
right = apply.batch
def batch(argv, lines):
    if argv[0] == "nsenter":
        leave()
    return right(argv, lines)
apply.batch = batch
""",
}


@pytest.fixture(scope="module")
def shared() -> Iterator[Host]:
    with hosts(1, bare=True) as made:
        yield made[0]


@pytest.fixture
def host(shared: Host) -> Iterator[Host]:
    yield shared
    for name in ("leaves", "stays"):
        shared.run("sh", "-c", f"ip netns del {name} 2>/dev/null || true")
    shared.python(f"{HEAD}\nremoved(); print(1)")


def pod(host: Host, name: str, mtu: int, number: int) -> None:
    host.ip(f"netns add {name}")
    host.ip(f"link add veth{name} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {name}")
    host.ip(f"link set veth{name} master cni0 up")
    host.ip(f"-n {name} addr add 10.244.0.{number}/24 dev eth0")
    host.ip(f"-n {name} link set eth0 up")


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("first, then, mtu", [(VXLAN, HOST_GW, 1450), (HOST_GW, VXLAN, 1500)])
def test_a_pod_that_leaves_stops_no_run(
    host: Host, moment: str, first: str, then: str, mtu: int
) -> None:
    assert tried(host, first) == ""
    pod(host, "leaves", mtu, 7)
    pod(host, "stays", mtu, 8)
    assert tried(host, then, _LEAVES + MOMENTS[moment]) == ""
    assert "vethleaves" not in host.run("ip", "-br", "link")
    wanted = f"mtu {1450 + 1500 - mtu} "
    assert wanted in host.run("ip", "link", "show", "vethstays")
    assert wanted in host.run("ip", "-n", "stays", "link", "show", "eth0")
    assert do(host, f"print(json.dumps(settled({then!r})()))")


def test_what_a_living_pod_refuses_is_an_error(host: Host) -> None:
    assert tried(host, VXLAN) == ""
    pod(host, "stays", 1450, 8)
    refuse = """
from podnet.kernel import apply
right = apply.apply
def spoilt(line):
    return line.replace("mtu 1500", "mtu 99999999") if "vethstays" in line else line
def applied(todo, after):
    right([one._replace(lines=tuple(map(spoilt, one.lines))) for one in todo], after)
apply.apply = applied
"""
    error = tried(host, HOST_GW, refuse)
    assert "link set dev" in error
    assert "99999999" in error
    assert "mtu 1450 " in host.run("ip", "link", "show", "vethstays")

"""podnet_endpoint's core on a real kernel: attach, drift, processes, reboot, remove."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernel.netns_hosts import VXLAN_SETTINGS, Host, hosts, plan_document

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]

LIST = [{"name": "web", "address": "10.244.0.80"}, {"name": "api"}]

CODE = """
import json
from podnet.cni import conflist
from podnet.core import endpoints
from podnet.endpoint import endpoint_run
from podnet.host import info, look
from podnet.host.converge import converge as network_converge
from podnet.backends.document import plan_from_text
from podnet.core.errors import PodnetError
def show(done):
    return {"changed": done.changed, "lines": done.commands(), "diff": done.diff(),
            "warnings": done.warnings,
            "endpoints": {name: endpoints.plain(one) for name, one in done.entries.items()}}
def converge(only=None, check=False, address=None):
    asked = endpoints.asked(only, address, None) if only else None
    if check:
        return show(endpoint_run.inspect(plan, "n1", asked, look.bridge_mtu(plan, "n1")))
    return show(endpoint_run.converge(plan, "n1", asked))
def remove(only=None, check=False):
    return show(endpoint_run.remove("podnet", only, check))
"""


class Node:
    """Host n1 with its network built, and a plan that can change."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.document = plan_document(1)
        self.declare(LIST)
        self.document["nodes"][0].update(mac="02:00:0a:f4:00:00", ip6="fd00:2::11")
        self.do("print(json.dumps(network_converge(plan, 'n1', 'all', False).changed))")

    def declare(self, endpoints: list[dict[str, str]]) -> None:
        self.document["nodes"][0]["endpoints"] = endpoints

    def do(self, code: str) -> Any:
        plan = json.dumps(self.document)
        return self.host.python(f"{CODE}\nplan = plan_from_text({plan!r})\n{code}")

    def result(self, call: str) -> Any:
        return self.do(
            f"try: print(json.dumps({call}))\nexcept PodnetError as e: print(json.dumps(str(e)))"
        )

    def inside(self, name: str, line: str) -> str:
        return self.host.run("ip", "-n", name, *line.split())

    def state(self) -> str:
        """Return all that is there, less interface numbers and kernel-made link-local addresses."""
        names = self.host.run("sh", "-c", "ls /run/netns 2>/dev/null; true").split()
        commands = [("-br", "addr"), ("route",), ("-6", "route", "show", "default")]
        text = self.host.run("ip", "-d", "link", "show", "type", "veth")
        for name in names:
            text += name + "".join(self.host.run("ip", "-n", name, *one) for one in commands)
        return text + self.host.run("sh", "-c", "cat /etc/podnet/podnet/endpoints* 2>&1; true")


@pytest.fixture
def node() -> Iterator[Node]:
    with hosts(1, bare=True) as made:
        yield Node(made[0])


@pytest.fixture(scope="module")
def built() -> Iterator[Node]:
    """A node whose endpoints are there; tests leave it so."""
    with hosts(1, bare=True) as made:
        one = Node(made[0])
        # A bridge whose MTU was never changed follows the smallest of its ports.
        one.host.ip("link set cni0 mtu 1400")
        one.host.ip("link set cni0 mtu 1500")
        one.result("converge()")
        yield one


def reach(node: Node, name: str, address: str) -> None:
    output = node.host.run("ip", "netns", "exec", name, "ping", "-c1", "-W2", address, check=False)
    assert " 0% packet loss" in output, output


def test_a_check_predicts_the_run_and_a_second_run_changes_nothing(node: Node) -> None:
    before = node.state()
    pending = node.result("info.pending(plan, 'n1', 'package')[0]")
    check = node.result("converge(check=True)")
    assert node.state() == before
    run = node.result("converge()")
    assert run == check
    assert pending["endpoints"] > 0
    assert run["endpoints"]["web"]["address"] == "10.244.0.80"
    assert run["endpoints"]["web"]["mac"] == "0a:58:0a:f4:00:50"
    assert run["endpoints"]["api"]["address"] == "10.244.0.254"
    assert run["endpoints"]["api"]["address6"] == "fd00:244::ffff:ffff:ffff:fffe"
    reach(node, "web", "10.244.0.254")
    reach(node, "web", "10.244.0.1")
    reach(node, "web", "192.0.2.11")
    reach(node, "api", "fd00:244::1")
    reach(node, "web", "127.0.0.1")
    assert not node.result("converge()")["changed"]
    assert not node.result("converge(check=True)")["changed"]
    assert node.result("info.pending(plan, 'n1', 'package')[0]")["endpoints"] == 0


DRIFT = [
    "ip link set ep-web down",
    "ip link set ep-web mtu 1300",
    "ip link set ep-web nomaster",
    "ip link set ep-web alias something",
    "ip link del ep-web",
    "ip netns del web",
    "ip -n web link set lo down",
    "ip -n web link set eth0 down",
    "ip -n web link set eth0 mtu 1300",
    "ip -n web link set eth0 address 02:00:00:00:00:07",
    "ip -n web addr flush dev eth0 scope global",
    "ip -n web addr del 10.244.0.80/24 dev eth0",
    "ip -n web addr add 10.244.0.81/24 dev eth0",
    "ip -n web -6 addr add fd00:244::81/64 dev eth0",
    "ip -n web route del default",
    "ip -n web -6 route del default",
    "ip -n web route replace default via 10.244.0.7",
    "ip -n web -6 route replace default via fd00:244::7 dev eth0",
    "ip -n web route add default via 10.244.0.7 metric 9",
    "ip -n web -6 route add default via fd00:244::7 dev eth0 metric 9",
    "ip -n web -6 route add default dev eth0 metric 9",
    "ip -n web route add unreachable default metric 99",
    "umount /run/netns/web",
    "rm /etc/podnet/podnet/endpoints.json",
    "rm /etc/podnet/podnet/endpoints.batch",
    "sed -i d /etc/podnet/podnet/endpoints-inside.batch",
]


@pytest.mark.parametrize("drift", DRIFT)
def test_drift_is_reported_and_repaired(built: Node, drift: str) -> None:
    node = built
    good = node.result("converge()")
    node.host.run(*drift.split())
    assert node.result("info.pending(plan, 'n1', 'package')[0]")["endpoints"] > 0
    check = node.result("converge(check=True)")
    run = node.result("converge()")
    assert run == check
    assert run["changed"]
    if "endpoints.json" not in drift:
        assert run["endpoints"] == good["endpoints"]
    assert not node.result("converge()")["changed"]
    reach(node, "web", "10.244.0.254")
    reach(node, "web", "fd00:244::1")


def test_processes_live_through_a_repair_and_foreign_things_stay(built: Node) -> None:
    node = built
    node.result("converge()")
    node.inside("web", "addr add 192.0.2.200/32 dev eth0")
    node.inside("web", "route add 198.51.100.0/24 via 10.244.0.1")
    inode = node.host.run("stat", "-c", "%i", "/run/netns/web")
    with subprocess.Popen(
        [*node.host.enter, "ip", "netns", "exec", "web", "sleep", "60"]
    ) as process:
        try:
            node.host.run("ip", "link", "set", "ep-web", "nomaster")
            node.inside("web", "link set eth0 mtu 1300")
            assert node.result("converge()")["changed"]
            assert "192.0.2.200" in node.inside("web", "addr")
            assert "198.51.100.0/24" in node.inside("web", "route")
            node.host.ip("link del ep-web")
            assert node.result("converge()")["changed"]
            assert process.poll() is None
            assert node.host.run("stat", "-c", "%i", "/run/netns/web") == inode
            removed = node.result("remove('web')")
            assert "run in its namespace" in removed["warnings"][0]
            assert process.poll() is None
        finally:
            process.kill()
    assert node.result("converge()")["endpoints"]["web"]["address"] == "10.244.0.80"


def test_the_boot_files_rebuild_everything_and_may_be_replayed(built: Node) -> None:
    node = built
    node.result("converge()")
    good = node.state()
    for name in ("web", "api"):
        node.host.ip(f"netns del {name}")
        # Without this the kernel takes the pair away a little later.
        node.host.run("ip", "link", "del", f"ep-{name}", check=False)
    for _ in range(2):
        node.host.run(
            *("ip", "-force", "-batch", "/etc/podnet/podnet/endpoints.batch"), check=False
        )
        node.host.run("ip", "-batch", "/etc/podnet/podnet/endpoints-inside.batch")
        reach(node, "web", "10.244.0.254")
        assert not node.result("converge()")["changed"]
    assert "web" in good


def test_a_namespace_that_cannot_be_entered_does_not_multiply_the_boot(built: Node) -> None:
    node = built
    node.result("converge()")
    node.host.run("umount", "/run/netns/web")
    node.host.run("umount", "/run/netns/api")
    script = "ip -batch /etc/podnet/podnet/endpoints-inside.batch 2>&1 | grep -c 'setting the'"
    assert node.host.run("sh", "-c", script) == "1\n"
    node.result("converge()")


def test_what_is_no_longer_declared_goes_and_what_was_made_by_hand_stays(node: Node) -> None:
    node.result("converge()")
    by_hand = node.result("converge('hand', address='10.244.0.90')")
    assert set(by_hand["endpoints"]) == {"web", "api", "hand"}
    assert not by_hand["endpoints"]["hand"]["declared"]
    assert not node.result("converge()")["changed"]
    assert not node.result("converge('hand')")["changed"]
    node.declare(LIST[:1])
    check = node.result("converge(check=True)")
    run = node.result("converge()")
    assert run == check
    assert set(run["endpoints"]) == {"web", "hand"}
    assert node.host.run("sh", "-c", "ls /run/netns").split() == ["hand", "web"]
    assert "ep-api" not in node.host.run("ip", "link")
    assert "api" not in node.host.run("cat", "/etc/podnet/podnet/endpoints.batch")


def test_a_changed_address_moves_in_place(node: Node) -> None:
    node.result("converge()")
    inode = node.host.run("stat", "-c", "%i", "/run/netns/web")
    # They change places: no order of the two would do with a check of each against the other's.
    node.declare(
        [{"name": "web", "address": "10.244.0.254"}, {"name": "api", "address": "10.244.0.80"}]
    )
    run = node.result("converge()")
    assert run["changed"], run
    assert node.host.run("stat", "-c", "%i", "/run/netns/web") == inode
    assert "10.244.0.80" not in node.inside("web", "addr")
    reach(node, "web", "10.244.0.80")
    assert not node.result("converge()")["changed"]


def test_the_cni_configuration_leaves_the_addresses_out(node: Node) -> None:
    code = """
def ranges():
    taken = endpoint_run.addresses(plan, "n1")
    text = conflist.conflist(plan, plan.nodes["n1"], 1450, taken, "1.0.0")
    sets = json.loads(text)["plugins"][0]["ipam"]["ranges"][0]
    return [[one["rangeStart"], one["rangeEnd"]] for one in sets]
before = ranges()
converge()
print(json.dumps([before, ranges()]))
"""
    before, after = node.do(code)
    expected = [["10.244.0.2", "10.244.0.79"], ["10.244.0.81", "10.244.0.253"]]
    assert before == after == expected


def test_leased_and_taken_addresses_are_refused_before_anything_changes(node: Node) -> None:
    node.host.run("mkdir", "-p", "/var/lib/cni/networks/podnet")
    node.host.run("touch", "/var/lib/cni/networks/podnet/10.244.0.254")
    before = node.state()
    error = node.result("converge('hand', address='10.244.0.254')")
    assert "10.244.0.254 is in use by a pod" in error
    assert "10.244.0.80 is that of endpoint web" in node.result(
        "converge('hand', address='10.244.0.80')"
    )
    assert "not in the node's subnet" in node.result("converge('hand', address='10.9.0.80')")
    assert node.state() == before
    assert node.result("converge()")["endpoints"]["api"]["address"] == "10.244.0.253"


def test_names_of_others_are_refused(node: Node) -> None:
    node.host.ip("netns add web")
    before = node.state()
    assert "a namespace web that podnet did not make" in node.result("converge()")
    assert "a namespace web that podnet did not make" in node.result("converge(check=True)")
    assert node.state() == before
    assert not node.result("remove()")["changed"]
    assert not node.result("remove('web')")["changed"]
    node.host.ip("netns del web")
    node.host.ip("link add ep-web type bridge")
    assert "a device ep-web that podnet did not make" in node.result("converge()")
    node.host.ip("link del ep-web")
    node.host.ip("netns add api")
    node.host.run("mkdir", "-p", "/etc/podnet/blue")
    node.result("converge('other')")
    node.host.run("mv", "/etc/podnet/podnet/endpoints.json", "/etc/podnet/blue/endpoints.json")
    node.declare([{"name": "other"}])
    assert "network blue has an endpoint of that name" in node.result("converge()")


def test_without_the_network_the_error_names_the_way_out() -> None:
    with hosts(1, bare=True) as made:
        node = Node.__new__(Node)
        node.host, node.document = made[0], plan_document(1)
        node.document["nodes"][0].update(mac="02:00:0a:f4:00:00", ip6="fd00:2::11")
        node.declare(LIST)
        assert "run podnet_network first" in node.result("converge()")
        check = node.result("converge(check=True)")
        assert check["endpoints"]["web"]["mtu"] == 1500
        node.do("print(json.dumps(network_converge(plan, 'n1', 'all', False).changed))")
        assert node.result("converge()") == check


def test_the_mtu_follows_a_switch_and_a_check_before_it_says_so(node: Node) -> None:
    node.result("converge()")
    node.document.update(VXLAN_SETTINGS, backend="vxlan")
    pending = node.result("info.pending(plan, 'n1', 'package')[0]")
    assert pending["endpoints"] == 3
    check = node.result("converge(check=True)")
    node.do("print(json.dumps(network_converge(plan, 'n1', 'all', False).changed))")
    assert "mtu 1450" in node.inside("web", "link show dev eth0")
    run = node.result("converge()")
    assert run == check
    assert run["lines"] == []
    assert not node.result("converge()")["changed"]


@pytest.mark.parametrize("recorded", [True, False])
def test_removal_leaves_nothing(node: Node, recorded: bool) -> None:
    before = node.state()
    files = node.host.run("find", "/etc/podnet")
    node.result("converge()")
    if not recorded:
        node.host.run("rm", "/etc/podnet/podnet/endpoints.json")
    check = node.result("remove(check=True)")
    assert node.state() != before
    run = node.result("remove()")
    assert run == check
    assert run["changed"]
    assert node.state() == before
    assert node.host.run("find", "/etc/podnet") == files
    assert not node.result("remove()")["changed"]

"""Adoption without a host: units, old iptables tables, routes, MACs."""

import json
from dataclasses import replace
from typing import Any

import pytest
from podnet.backends.document import plan_from_text
from podnet.core.errors import PodnetError
from podnet.core.state import Leftover, Link, State
from podnet.kernel import adopt as kernel
from podnet.kernel import services
from podnet.kernel.run import Result
from podnet.state import adopt
from podnet.state.diff import changes
from podnet.state.phases import COMMIT, PREPARE, SHIFT, target
from podnet.state.record import Record

from tests.kernel.netns_hosts import plan_document

OLD, NEW = "3e:6b:9c:01:22:a0", "02:00:0a:f4:00:00"


def plan() -> Any:
    document = plan_document(2, six=False, backend="vxlan")
    for number, node in enumerate(document["nodes"]):
        node.update(mac=f"02:00:0a:f4:{number:02x}:00", adopt=True)
    return plan_from_text(json.dumps(document))


def vtep(mac: str, alias: str = "") -> Link:
    return Link("vxlan", 1450, mac, alias, options="id 1 dstport 8472 local 192.0.2.11 nolearning")


def test_a_unit_is_stopped_first_and_has_a_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = (
        "Id=flanneld.service\nActiveState=active\nUnitFileState=enabled\n\n"
        "Id=flannel.service\nActiveState=inactive\nUnitFileState=\n"
    )
    monkeypatch.setattr(services, "runs_systemd", lambda: True)
    monkeypatch.setattr(kernel, "run", lambda argv: Result(0, shown, ""))
    found = kernel._units(set())
    assert found == {
        "unit flanneld.service": Leftover(
            "systemctl",
            ("disable --now flanneld.service",),
            ("enable flanneld.service", "start flanneld.service"),
            first=True,
        )
    }
    tree = {"/run/flannel": Leftover("tree", ("/run/flannel",))}
    before = State(leftovers={**tree, **found}, sysctls={"net.ipv4.ip_forward": "0"})
    after = State(sysctls={"net.ipv4.ip_forward": "1"})
    assert [one.tool for one in changes(before, after)] == ["systemctl", "sysctl", "tree"]
    # In every phase: it would put back what is removed.
    assert target(before, State(), PREPARE, strict=False).leftovers == tree
    assert target(before, State(), COMMIT, strict=False).leftovers == {}
    assert [one.lines for one in changes(after, before) if one.tool == "systemctl"] == [
        ("enable flanneld.service", "start flanneld.service")
    ]


@pytest.mark.parametrize(
    ("cgroups", "unit"),
    [
        ("0::/system.slice/flanneld.service\n", "flanneld.service"),
        ("1:name=systemd:/system.slice/flannel.service\n0::/\n", "flannel.service"),
        ("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-1.scope\n", ""),
        ("0::/system.slice/flanneld.service/x; reboot\n", ""),
        ("", ""),
    ],
)
def test_a_process_belongs_to_a_unit_of_flannels_or_to_none(cgroups: str, unit: str) -> None:
    assert kernel._unit(cgroups) == unit


def test_old_tables_lose_flannels_chains_and_what_jumps_there() -> None:
    saved = (
        "*nat\n:POSTROUTING ACCEPT [0:0]\n:FLANNEL-POSTRTG - [0:0]\n:KUBE-X - [0:0]\n"
        ":FLANNEL-x;y - [0:0]\n"
        '-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG\n'
        '-A POSTROUTING -m comment --comment "not -j FLANNEL-POSTRTG" -j KUBE-X\n'
        "-A FLANNEL-POSTRTG -j RETURN\nCOMMIT\n"
    )
    assert kernel._legacy_lines(saved, "nat") == [
        "*nat",
        '-D POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG',
        "-F FLANNEL-POSTRTG",
        "-X FLANNEL-POSTRTG",
        "COMMIT",
    ]
    assert kernel._legacy_lines("*nat\nCOMMIT\n", "nat") == []


@pytest.mark.parametrize(
    ("destination", "body", "flannels"),
    [
        ("10.244.9.0/24", "via 10.244.9.0 dev flannel.1 proto boot onlink", True),
        ("10.244.9.0/24", "via 192.0.2.19 dev eth0 proto boot", True),
        ("10.244.9.0/24", "via 192.0.2.19 dev eth0 proto static", False),
        ("10.244.9.0/24 metric 5", "via 192.0.2.19 dev eth0 proto boot", False),
        ("10.244.8.0/22", "via 192.0.2.19 dev eth0 proto boot", False),
        ("10.244.9.0/24", "type blackhole proto boot", False),
        ("10.0.0.0/8", "via 192.0.2.19 dev eth0 proto boot", False),
    ],
)
def test_only_routes_as_flannel_makes_them_are_taken(
    destination: str, body: str, flannels: bool
) -> None:
    before = State()
    others, told = adopt.take_routes(plan(), plan().nodes["n1"], {destination: body}, before)
    assert (destination in before.routes) == flannels == (others == {}) == bool(told)


@pytest.mark.parametrize("device", ["flannel.1", "cni0", "ov-42", "br-pods"])
def test_the_kernels_own_routes_over_our_devices_are_no_others(device: str) -> None:
    ours = replace(plan(), settings={**plan().settings, "device": "ov-42"}, bridge="br-pods")
    route = {"fd00:244::/128 metric 256": f"dev {device} proto kernel"}
    others, _ = adopt.take_routes(ours, ours.nodes["n1"], route, State())
    assert others == ({} if device != "cni0" else route)


def test_a_mac_that_peers_know_is_held_until_they_have_changed_over() -> None:
    mark = "podnet:podnet"
    before = State(links={"flannel.1": vtep(OLD, mark)})
    before.neighbours["flannel.1", "10.244.1.0"] = OLD
    final = State(links={"flannel.1": vtep(NEW, mark)})
    final.neighbours["flannel.1", "10.244.1.0"] = NEW
    record = Record(node="n1", parameters={}, mac=OLD)
    assert adopt.held_mac(plan(), record, before, final) == OLD
    assert adopt.held_mac(plan(), None, before, final) == OLD
    # What drifted is nothing that peers know.
    assert adopt.held_mac(plan(), Record(node="n1", parameters={}, mac=NEW), before, final) == ""
    for phase, mac, neighbour, both in (
        (PREPARE, OLD, OLD, True),
        (SHIFT, OLD, NEW, True),
        (COMMIT, NEW, NEW, False),
    ):
        state = target(before, final, phase, strict=False, held=OLD)
        assert state.links["flannel.1"].mac == mac
        assert state.neighbours["flannel.1", "10.244.1.0"] == neighbour
        assert ("netdev podnet" in state.tables) == both


def test_other_backends_are_named() -> None:
    node = plan().nodes["n1"]
    with pytest.raises(
        PodnetError, match=r"flannel-wg .* cannot be taken over, vxlan and host-gw can"
    ):
        adopt.meet(plan(), node, [{"ifname": "flannel-wg"}], None, adopt.Found())


def test_flannel_of_another_network_is_left_alone() -> None:
    node = plan().nodes["n1"]
    found = adopt.Found(daemons=(7,), environment={"FLANNEL_NETWORK": "10.1.0.0/16"})
    assert adopt.meet(plan(), node, [], None, found) == adopt.Adoption()

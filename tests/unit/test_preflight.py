"""What a host must be asked before a change, and what its answers mean: rows."""

from __future__ import annotations

from typing import Any

import pytest
from podnet.backends.vxlan.device import Vtep, vteps
from podnet.core.host_view import HostView, Way
from podnet.core.model import Node
from podnet.core.state import Link, State
from podnet.state import neighbours, preflight
from podnet.state.preflight import Facts, Questions, Rename

NODE = Node("n2", subnet="10.244.1.0/24")
CNI0 = Link("bridge", 1450, "", "podnet:podnet", ifindex=7)


def vxlan(port: int = 8472, vni: int = 1, **changes: Any) -> Link:
    options = f"id {vni} dstport {port} local {changes.pop('local', '192.0.2.12')} nolearning"
    link = Link("vxlan", 1450, "02:00:0a:f4:01:00", "podnet:podnet", options=options)
    return link._replace(**changes)


def state(
    *addresses: tuple[str, str], routes: dict[str, str] | None = None, **links: Link
) -> State:
    named = {name.replace("_", "."): link for name, link in links.items()}
    return State(links=named, addresses=dict.fromkeys(addresses, ""), routes=routes or {})


OLD = vxlan(ifindex=9)
# name: (before, final, in phases, what is asked)
ASKED: dict[str, tuple[State, State, bool, Questions]] = {
    "host-gw": (state(), state(cni0=CNI0), False, Questions()),
    "a first run": (state(), state(flannel_1=vxlan()), False, Questions(vxlan())),
    "a first run over IPv6": (
        state(),
        state(flannel_1=vxlan(vni=5, local="fd00::1")),
        False,
        Questions(vxlan(vni=5, local="fd00::1")),
    ),
    "nothing to do": (state(flannel_1=OLD), state(flannel_1=vxlan()), False, Questions()),
    "the device is down": (
        state(flannel_1=OLD._replace(up=False)),
        state(flannel_1=vxlan()),
        False,
        Questions(vxlan()),
    ),
    "another port": (
        state(flannel_1=OLD),
        state(flannel_1=vxlan(9000)),
        True,
        Questions(vxlan(9000), (Rename("vxlan", "flannel.1", "podnet-old", can=True),)),
    ),
    "another port without phases": (
        state(flannel_1=OLD),
        state(flannel_1=vxlan(9000)),
        False,
        Questions(vxlan(9000)),
    ),
    "another port and name": (
        state(flannel_1=OLD),
        state(ov=vxlan(9000)),
        True,
        Questions(vxlan(9000)),
    ),
    "another name": (
        state(flannel_1=OLD),
        state(ov=vxlan(ifindex=9)),
        True,
        Questions(None, (Rename("vxlan", "flannel.1", "ov", can=True),)),
    ),
    "another name of a device that is down": (
        state(flannel_1=OLD._replace(up=False)),
        state(ov=vxlan(ifindex=9)),
        True,
        Questions(vxlan(ifindex=9)),
    ),
    "IPv6 on devices that are yet to be made": (
        state(),
        state(("cni0", "fd00::1/64"), ("flannel.1", "fd00::/128"), cni0=CNI0, flannel_1=vxlan()),
        False,
        Questions(vxlan(), (), ("net.ipv6.conf.default.disable_ipv6",)),
    ),
    "IPv6 on a bridge that is there, and routes over the underlay": (
        state(cni0=CNI0),
        state(
            ("cni0", "fd00::1/64"),
            cni0=CNI0,
            routes={"fd00:1::/64": "via fd00:2::12 dev eth0.7", "10.244.0.0/24": "dev eth1"},
        ),
        False,
        Questions(
            None,
            (),
            ("net.ipv6.conf.cni0.disable_ipv6", "net.ipv6.conf.eth0/7.disable_ipv6"),
        ),
    ),
}


@pytest.mark.parametrize(
    ("have", "own"),
    [(vxlan(), True), (vxlan(9000), False), (vxlan()._replace(up=False), False), (CNI0, False)],
)
def test_a_port_that_the_device_in_the_way_holds_is_free(have: Link, own: bool) -> None:
    wanted = vxlan()._replace(options=vxlan().options.replace("nolearning", "learning"))
    asked = preflight.questions(state(flannel_1=have), state(flannel_1=wanted), False)
    assert asked.own_port == own
    found = preflight.problems(NODE, asked, Facts(holder="process 7 (x)"), [], set())
    assert bool(found) != own


@pytest.mark.parametrize("row", ASKED)
def test_what_is_asked(row: str) -> None:
    before, final, in_phases, expected = ASKED[row]
    assert preflight.questions(before, final, in_phases) == expected


PORT = Questions(vxlan())
ASIDE = Questions(vxlan(9000), (Rename("vxlan", "flannel.1", "podnet-old", can=True),))
NAMED = Questions(None, (Rename("vxlan", "flannel.1", "ov", can=True),))
SIX = Questions(disabled6=("net.ipv6.conf.default.disable_ipv6", "net.ipv6.conf.cni0.disable_ipv6"))


def other(
    name: str = "vx0", vni: int = 1, mode: str = "", port: int = 8472, up: bool = True
) -> dict[str, Any]:
    """Return a VXLAN device of the host as ip prints it."""
    data = {"id": vni, "port": port, **({mode: True} if mode else {})}
    linkinfo = {"info_kind": "vxlan", "info_data": data}
    return {"ifname": name, "flags": ["UP"] if up else [], "linkinfo": linkinfo}


# name: (questions, answers, VXLAN devices of the host, words of each problem)
JUDGED: dict[str, tuple[Questions, Facts, list[dict[str, Any]], list[list[str]]]] = {
    "all is well": (PORT, Facts(), [], []),
    "no VXLAN": (
        PORT,
        Facts(makes=False, release="5.10.0-cloud"),
        [],
        [["n2", "5.10.0-cloud", "no VXLAN", "linux-modules-extra", "host-gw"]],
    ),
    "an external device of another CNI": (
        PORT,
        Facts(holder="the kernel"),
        [other("cilium_vxlan", 0, "external")],
        [["cilium_vxlan", "8472", "external", "podnet_vxlan_port", "ip link del cilium_vxlan"]],
    ),
    "the same on another port": (PORT, Facts(), [other(mode="external", port=4789)], []),
    "the same, down": (PORT, Facts(), [other(mode="external", up=False)], []),
    "group policy": (PORT, Facts(holder="x"), [other(mode="gbp")], [["vx0", "gbp"]]),
    "a device with the VNI and the port": (
        PORT,
        Facts(holder="x"),
        [other()],
        [["vx0", "VNI 1 and port 8472", "podnet_vxlan_vni"]],
    ),
    "such a device, down": (PORT, Facts(), [other(up=False)], [["vx0", "VNI 1"]]),
    "a device that shares the port": (PORT, Facts(holder="x"), [other(vni=2)], []),
    "our own device shares the port with its successor": (
        PORT,
        Facts(holder="x"),
        [other("flannel.2", 2)],
        [],
    ),
    "a socket on the port": (
        PORT,
        Facts(holder="process 4711 (dnsmasq)"),
        [],
        [["8472", "process 4711 (dnsmasq)", "podnet_vxlan_port"]],
    ),
    "a socket beside a device that is down": (
        PORT,
        Facts(holder="process 1 (x)"),
        [other(vni=2, up=False)],
        [["process 1 (x)"]],
    ),
    "a kernel that renames": (ASIDE, Facts(), [], []),
    "a kernel that does not put a device aside": (
        ASIDE,
        Facts(can_rename=False, release="5.15.0-91"),
        [],
        [["flannel.1", "5.15.0-91", "another name", "podnet_vxlan_device"]],
    ),
    "a kernel that does not rename": (
        NAMED,
        Facts(can_rename=False, release="5.15.0-91"),
        [],
        [["flannel.1", "ov", "5.15.0-91", "podnet_vxlan_device: flannel.1", "podnet_vxlan_vni"]],
    ),
    "IPv6 on": (SIX, Facts(values=dict.fromkeys(SIX.disabled6, "0")), [], []),
    "IPv6 off on new devices": (
        SIX,
        Facts(values={SIX.disabled6[0]: "1", SIX.disabled6[1]: "0"}),
        [],
        [["net.ipv6.conf.default.disable_ipv6=1", "/etc/sysctl.d", "podnet_cluster_cidr6"]],
    ),
    "IPv6 off everywhere": (
        SIX,
        Facts(values=dict.fromkeys(SIX.disabled6, "1")),
        [],
        [["default.disable_ipv6=1", "cni0.disable_ipv6=1"]],
    ),
    "a kernel without IPv6": (SIX, Facts(values=None), [], [["ipv6.disable=1", "Boot"]]),
    "a kernel without IPv6, and no need of it": (PORT, Facts(values=None), [], []),
    "several at once": (
        Questions(vxlan(), (Rename("vxlan", "a", "b", can=True),), SIX.disabled6),
        Facts(False, "process 7 (y)", False, "4.19", None),
        [other(mode="external")],
        [["no VXLAN"], ["external"], ["ipv6.disable=1"], ["a would have to become b"]],
    ),
}


@pytest.mark.parametrize("row", JUDGED)
def test_what_answers_mean(row: str) -> None:
    asked, facts, devices, wanted = JUDGED[row]
    found = preflight.problems(NODE, asked, facts, devices, {"flannel.2"})
    found += preflight.rename_problems(NODE, asked, facts)
    assert len(found) == len(wanted), found
    for line, words in zip(found, wanted, strict=True):
        assert line.startswith("n2: ")
        assert [word for word in words if word not in line] == [], line


def test_all_problems_are_one_message() -> None:
    assert preflight.refusal("n2", ["n2: one"]) == "n2: one"
    assert preflight.refusal("n2", ["n2: one", "two"]) == (
        "n2: 2 things are in the way:\n  one\n  two"
    )


def test_devices_as_the_kernel_shows_them() -> None:
    links: list[dict[str, Any]] = [
        {"ifname": "eth0", "flags": ["UP"]},
        {
            "ifname": "vx0",
            "flags": ["UP"],
            "linkinfo": {
                "info_kind": "vxlan",
                "info_data": {"external": True, "id": 0, "port": 8472},
            },
        },
        {
            "ifname": "flannel.1",
            "linkinfo": {"info_kind": "vxlan", "info_data": {"id": 1, "port": 8472}},
        },
    ]
    assert vteps(links) == [
        Vtep("vx0", 0, 8472, "external", up=True),
        Vtep("flannel.1", 1, 8472, "", up=False),
    ]


FOUR = [f"net.ipv4.neigh.default.gc_thresh{number}" for number in (1, 2, 3)]
PEERS = [f"192.0.{2 + number // 250}.{number % 250 + 1}" for number in range(5000)]
HOST = HostView(ways={address: Way("eth0", 1500) for address in PEERS})


def near(count: int, backend: str) -> State:
    """Return what leads to `count` peers on this segment."""
    peers = PEERS[:count]
    if backend == "host-gw":
        routes = {f"10.{number}.0.0/24": f"via {ip} dev eth0" for number, ip in enumerate(peers)}
        return State(routes=routes)
    fdb = {("flannel.1", f"mac {number}"): ip for number, ip in enumerate(peers)}
    fdb["flannel.1", "mac of a node behind a router"] = "198.51.100.1"
    routes = {"10.9.0.0/24": "via 10.9.0.0 dev flannel.1 onlink"}
    return State(links={"flannel.1": vxlan()}, entries=fdb, routes=routes)


# name: (subnet, what leads to peers, gc_thresh3, entries needed, gc_thresh3 that is wanted)
TABLES: dict[str, tuple[str, State, str, int, str]] = {
    "three nodes": ("10.244.1.0/24", near(2, "host-gw"), "1024", 510, ""),
    "as many as fit": ("10.244.1.0/24", near(516, "host-gw"), "1024", 1024, ""),
    "one more": ("10.244.1.0/24", near(517, "host-gw"), "1024", 1025, "4096"),
    "VXLAN on one segment": ("10.244.1.0/24", near(517, "vxlan"), "1024", 1025, "4096"),
    "a small subnet": ("10.244.1.0/28", near(900, "vxlan"), "1024", 932, ""),
    "a large subnet has not more pods": ("10.244.0.0/18", near(0, "vxlan"), "1024", 508, ""),
    "a host that was given less": ("10.244.1.0/24", near(2, "vxlan"), "128", 510, "1024"),
    "raised already": ("10.244.1.0/24", near(517, "vxlan"), "8192", 1025, ""),
    "a kernel that does not say": ("10.244.1.0/24", near(5000, "vxlan"), "", 5508, ""),
}


@pytest.mark.parametrize("row", TABLES)
def test_room_for_neighbours(row: str) -> None:
    subnet, final, limit, needed, wanted = TABLES[row]
    node = Node("n2", subnet=subnet)
    found = neighbours.needed(node, HOST, final)
    assert found == {4: needed}
    assert neighbours.limits(found) == FOUR
    values = dict.fromkeys(FOUR, limit) if limit else {}
    assert neighbours.raised(found, values).get(FOUR[2], "") == wanted
    lines = neighbours.crowded(node, found, values)
    assert len(lines) == bool(wanted)
    for line in lines:
        for word in ("n2", limit, str(needed), wanted, "podnet_manage_neighbours"):
            assert word in line


def test_families_are_counted_apart() -> None:
    node = Node("n2", subnet="10.244.1.0/24", subnet6="fd00:244:0:1::/64")
    routes = {
        "10.244.0.0/24": "via inet6 fd00:2::11 dev eth0",
        "fd00:244::/64": "via fd00:2::11 dev eth0",
        "10.244.2.0/24": "via 192.0.2.13 dev eth0",
    }
    assert neighbours.needed(node, HOST, State(routes=routes)) == {4: 509, 6: 509}


def test_peers_of_a_vxlan_on_a_named_interface_count_too() -> None:
    final = near(3, "vxlan")
    final.entries = {key: f"{remote} via eth0" for key, remote in final.entries.items()}
    node = Node("n2", subnet="10.244.1.0/24", interface="eth0")
    assert neighbours.needed(node, HOST, final) == {4: 511}

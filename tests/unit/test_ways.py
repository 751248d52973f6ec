"""From what `ip -j route get` said on real hosts to device, on-link and MTU: decisions by table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from podnet.backends.registry import BACKENDS
from podnet.core import host_view as underlay
from podnet.core.errors import PodnetError
from podnet.core.host_view import HostView, Underlay, Way
from podnet.core.model import Plan
from podnet.kernel import run as edge
from podnet.kernel import underlay as ways
from podnet.state.desire import desired, pod_mtu
from podnet.state.foreign_routes import judge

from tests.kernel.netns_hosts import VXLAN_SETTINGS, plan_document

MTUS = {"lo": 65536, "eth0": 1500, "data0": 9000, "host0": 1500, "eth1": 1400}


def plan(backend: str = "vxlan", **changes: Any) -> Plan:
    """Return a plan of three nodes at 192.0.2.11 to 13 without prefix lengths."""
    document = plan_document(3, six=False, backend=backend, **changes)
    for number, node in enumerate(document["nodes"]):
        node.update(mac=f"02:00:0a:f4:{number:02x}:00")
        del node["ip_prefix"]
    return Plan.from_document(document)


class Said(NamedTuple):
    """What the kernel said for a peer, and the way that follows.

    `told` is the answer for the node's address as source, `free` without a source, `route` the
    entry of the FIB where it was asked for.
    """

    told: str
    way: Way | None
    free: str = ""
    route: str = ""


# fmt: off
SAID = {
    "on-link": Said(
        '{"dst":"192.0.2.12","from":"192.0.2.11","dev":"eth0","flags":[],"uid":0,"cache":[]}',
        Way("eth0", 1500)),
    "on-link, the other NIC of the subnet": Said(
        '{"dst":"192.0.2.12","from":"192.0.2.11","dev":"data0","flags":[],"uid":0,"cache":[]}',
        Way("data0", 9000)),
    "behind a gateway": Said(
        '{"dst":"198.51.100.1","from":"192.0.2.11","gateway":"192.0.2.12","dev":"eth0",'
        '"flags":[],"uid":0,"cache":[]}',
        Way("eth0", 1500, "192.0.2.12")),
    "IPv4 behind an IPv6 gateway": Said(
        '{"dst":"198.51.100.1","via":{"family":"inet6","host":"fe80::1"},"dev":"eth0"}',
        Way("eth0", 1500, "fe80::1")),
    "a route with an MTU": Said(
        '{"dst":"198.51.100.1","gateway":"192.0.2.12","dev":"eth0","metrics":[{"mtu":1300}]}',
        Way("eth0", 1300, "192.0.2.12")),
    "a route with an MTU that the device has not": Said(
        '{"dst":"192.0.2.12","dev":"eth0","metrics":[{"mtu":9000}]}', Way("eth0", 1500)),
    "other metrics": Said(
        '{"dst":"192.0.2.12","dev":"eth0","metrics":[{"advmss":1200}]}', Way("eth0", 1500)),
    "an MTU that a router told": Said(
        '{"dst":"198.51.100.2","from":"192.0.2.11","gateway":"192.0.2.1","dev":"eth0","flags":[],'
        '"uid":0,"cache":[],"expires":599,"metrics":[{"mtu":1400}]}',
        Way("eth0", 1500, "192.0.2.1", learned=1400),
        route='{"dst":"default","gateway":"192.0.2.1","dev":"eth0","flags":[]}'),
    "an MTU that a router told, on a route with one": Said(
        '{"dst":"198.51.100.2","gateway":"192.0.2.1","dev":"eth0","expires":600,'
        '"metrics":[{"mtu":1280}]}',
        Way("eth0", 1350, "192.0.2.1", learned=1280),
        route='{"dst":"default","gateway":"192.0.2.1","dev":"eth0","metrics":[{"mtu":1350}]}'),
    "IPv6": Said(
        '{"type":"unicast","dst":"fd00:2::12","from":"fd00:2::11","dev":"eth0","table":"main",'
        '"protocol":"kernel","scope":"global","prefsrc":"fd00:2::11","metric":256,"flags":[],'
        '"pref":"medium"}',
        Way("eth0", 1500, source="fd00:2::11"),
        free='{"dst":"fd00:2::12","dev":"eth0","prefsrc":"fd00:2::11"}'),
    "a VIP before the node's address": Said(
        '{"dst":"192.0.2.12","from":"192.0.2.11","dev":"eth0","flags":[],"uid":0,"cache":[]}',
        Way("eth0", 1500, source="192.0.2.100"),
        free='{"dst":"192.0.2.12","dev":"eth0","prefsrc":"192.0.2.100","flags":[],"cache":[]}'),
    "without a source it leaves elsewhere (a policy rule)": Said(
        '{"dst":"192.0.2.12","from":"192.0.2.11","dev":"data0"}', Way("data0", 9000),
        free='{"dst":"192.0.2.12","dev":"eth0","prefsrc":"192.0.2.5"}'),
    "blackhole, by its type": Said('{"type":"blackhole","dst":"198.51.100.1"}', None),
    "broadcast": Said('{"type":"broadcast","dst":"192.0.2.255","dev":"eth0"}', None),
    "a device that came since the look": Said('{"dst":"192.0.2.12","dev":"wg7"}', None),
}
# fmt: on


@pytest.mark.parametrize("case", SAID)
def test_an_answer_becomes_a_way(case: str) -> None:
    said = SAID[case]
    free, route = (json.loads(text) if text else None for text in (said.free, said.route))
    assert ways.parse(json.loads(said.told), free, route, MTUS) == said.way


def kernel(monkeypatch: pytest.MonkeyPatch, *rounds: tuple[Sequence[str], str]) -> list[str]:
    """Let `ip` answer with (lines of stdout, stderr), a round each; return what it was asked."""
    asked: list[str] = []
    left = list(rounds)

    def run(argv: Sequence[str], stdin: str | None = None) -> edge.Result:
        asked.extend((stdin or "").splitlines())
        lines, error = left.pop(0)
        return edge.Result(1 if error else 0, "".join(f"{line}\n" for line in lines), error)

    monkeypatch.setattr(ways, "run", run)
    return asked


UNREACHABLE = "RTNETLINK answers: Network is unreachable\nCommand failed -:{}"


def test_answers_are_matched_with_questions_across_failures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = '[{"dst":"192.0.2.12","dev":"eth0"}]'
    two = '[{"dst":"192.0.2.14","gateway":"192.0.2.1","dev":"eth0"}]'
    questions = [ways.RouteQuery(f"192.0.2.{end}", "192.0.2.11") for end in (12, 13, 14, 15)]
    error = "\n".join(UNREACHABLE.format(number) for number in (2, 4))
    asked = kernel(monkeypatch, ([one, two], error), ([one, two], error))
    assert ways.find(questions, MTUS, "n1") == {
        "192.0.2.12": Way("eth0", 1500, back="eth0"),
        "192.0.2.14": Way("eth0", 1500, "192.0.2.1", back="eth0"),
    }
    assert asked == [f"route get 192.0.2.{end} from 192.0.2.11" for end in (12, 13, 14, 15)]


def test_a_named_interface_without_a_route_is_no_way(monkeypatch: pytest.MonkeyPatch) -> None:
    # IPv4 answers for any device that it is told to use, as if the address were on-link there.
    answer = '[{"dst":"192.0.2.12","from":"192.0.2.11","dev":"data0"}]'
    asked = kernel(
        monkeypatch, ([answer], ""), ([], UNREACHABLE.format(1)), ([], UNREACHABLE.format(1))
    )
    question = ways.RouteQuery("192.0.2.12", "192.0.2.11", "data0")
    assert ways.find([question], MTUS, "n1") == {}
    assert asked == [
        "route get 192.0.2.12 from 192.0.2.11 oif data0",
        "route get fibmatch 192.0.2.12 from 192.0.2.11 oif data0",
        "route get 192.0.2.12 from 192.0.2.11",
    ]


@pytest.mark.parametrize(
    ("output", "error"),
    [
        (["[]"], ""),
        ([], ""),
        (['[{"dst":"192.0.2.12","dev":"eth0"}]'] * 3, ""),
        (["{"], ""),
        (["null"], ""),
        (['[{"dst":"192.0.2.12","dev":"eth0"}]'], "Command failed -:9"),
    ],
)
def test_an_answer_too_few_or_too_many_is_an_error(
    monkeypatch: pytest.MonkeyPatch, output: list[str], error: str
) -> None:
    kernel(monkeypatch, (output, error))
    with pytest.raises(PodnetError):
        ways.find([ways.RouteQuery("192.0.2.12", "192.0.2.11")], MTUS, "n1")


def test_a_peer_with_an_address_of_this_host_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    local = '[{"type":"local","dst":"192.0.2.12","dev":"lo"}]'
    kernel(monkeypatch, ([local], ""))
    with pytest.raises(PodnetError, match=r"192\.0\.2\.12 of another node"):
        ways.find([ways.RouteQuery("192.0.2.12", "192.0.2.11")], MTUS, "n1")


def host(two: Way | None, three: Way | None, device: str = "eth0", mtu: int = 1500) -> HostView:
    """Return n1 with its ways to n2 and n3."""
    known = {"192.0.2.12": two, "192.0.2.13": three}
    return HostView(
        {4: Underlay("192.0.2.11", device, mtu)}, {key: way for key, way in known.items() if way}
    )


NEAR = Way("eth0", 1500)
FAR = Way("eth0", 1500, "192.0.2.1")

#: (ways to n2 and n3, backend, podnet_mtu) -> pods' MTU.
MTU = {
    "one device": (host(NEAR, NEAR), "vxlan", "auto", 1450),
    "the NIC with the address is not the way": (
        host(Way("host0", 1500), Way("host0", 1500), "data0", 9000), "vxlan", "auto", 1450,
    ),
    "address on lo": (
        host(Way("eth0", 1500, "192.0.2.1"), Way("eth1", 1400, "192.0.2.5"), "lo", 1500),
        "vxlan", "auto", 1350,
    ),
    "jumbo to one, not to the other": (
        host(Way("data0", 9000), Way("data0", 1300, "192.0.2.1")), "vxlan", "auto", 1250,
    ),
    "host-gw takes all of it": (host(Way("data0", 9000), Way("data0", 9000)), "host-gw", "auto",
                                9000),
    "portable": (host(Way("data0", 9000), Way("data0", 9000)), "host-gw", "portable", 8950),
    "what a router told changes nothing": (
        host(NEAR, Way("eth0", 1500, "192.0.2.1", learned=1300)), "vxlan", "auto", 1450,
    ),
    "no way to one": (host(Way("data0", 9000), None), "vxlan", "auto", 8950),
    "no way at all": (host(None, None), "vxlan", "auto", 1450),
    "a number": (host(Way("data0", 9000), NEAR), "vxlan", "1450", 1450),
}  # fmt: skip


@pytest.mark.parametrize("case", MTU)
def test_pods_get_what_the_narrowest_way_carries(case: str) -> None:
    seen, backend, mtu, expected = MTU[case]
    made = plan(backend, mtu=mtu)
    assert pod_mtu(made, made.nodes["n1"], seen) == expected


#: Prefix lengths of n1 and n2 in the inventory, n1's way to n2 -> the device of a direct route.
DIRECT: dict[str, tuple[int | None, int | None, Way | None, str]] = {
    "the kernel alone, on-link": (None, None, NEAR, "eth0"),
    "the kernel alone, behind a gateway": (None, None, FAR, ""),
    "the kernel alone, no route": (None, None, None, ""),
    "one segment and on-link": (24, 24, NEAR, "eth0"),
    "one segment, but the kernel uses a gateway": (24, 24, FAR, ""),
    "two segments, though the kernel says on-link": (32, 32, NEAR, ""),
    "lengths that differ never agree": (24, 16, NEAR, ""),
    "one length is no word": (24, None, NEAR, "eth0"),
}


@pytest.mark.parametrize("case", DIRECT)
def test_who_is_reached_directly(case: str) -> None:
    one, other, way, device = DIRECT[case]
    made = plan("host-gw")
    nodes = dict(made.nodes)
    nodes["n1"] = replace(nodes["n1"], ip_prefix=one)
    nodes["n2"] = replace(nodes["n2"], ip_prefix=other)
    made = replace(made, nodes=nodes)
    seen = host(way, NEAR)
    found = underlay.direct_device(made, nodes["n1"], nodes["n2"], seen, 4)
    assert found == device
    said = BACKENDS["host-gw"].problems(made, nodes["n1"], seen)
    assert (said == []) == bool(device)
    # Direct routing falls back to VXLAN for the very same peers.
    settings = {**VXLAN_SETTINGS, "direct_routing": True}
    state = desired(replace(made, backend="vxlan", settings=settings), nodes["n1"], seen)
    over = "dev eth0" if device else "dev flannel.1"
    assert over in state.routes["10.244.1.0/24"]


#: A route of somebody else in the pods' ranges -> whether it takes packets from 10.244.0..2.0/24.
FOREIGN = {
    "10.244.1.0/24": True,
    "10.244.1.0/24 metric 50": True,
    "10.244.1.128/25": True,
    "10.244.0.7/32": True,
    "10.244.0.0/16": False,
    "10.244.0.0/22": False,
    "10.244.0.0/23": False,
    "10.244.8.0/24": False,
    "10.244.255.1/32": False,
}


@pytest.mark.parametrize("destination", FOREIGN)
def test_only_a_route_that_takes_packets_from_ours_is_in_the_way(destination: str) -> None:
    made = plan()
    foreign = {destination: "via 192.0.2.1 dev eth0"}
    problems, notes = judge(made, made.nodes["n1"], foreign)
    assert (len(problems), len(notes)) == ((1, 0) if FOREIGN[destination] else (0, 1))
    assert destination in (problems + notes)[0]
    assert ("takes packets to n" in (problems + notes)[0]) == FOREIGN[destination]


def test_thousands_of_foreign_routes_are_judged_quickly_and_told_briefly() -> None:
    made = plan()
    foreign = {f"10.244.{one}.{two}/32": "dev x" for one in range(4, 24) for two in range(200)}
    _problems, (note,) = judge(made, made.nodes["n1"], foreign)
    assert "3997 more" in note

"""What trace.yml says of facts that real hosts told, as they are and with one of them changed.

`python -m tests.scenario.tracing` has recorded the facts in trace/ from a lab.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from podnet.backends.document import plan_from_text
from podnet.backends.registry import KINDS
from podnet.core.errors import PodnetError
from podnet.core.model import Plan
from podnet.core.state import GUARD, GUARD_HOOK, Chain, State, make_rule
from podnet.firewall import iptables
from podnet.firewall.forward import Forwarder
from podnet.firewall.passage import verdicts
from podnet.firewall.policy import Traffic, captures
from podnet.firewall.walk import Packet, addresses
from podnet.kernel.find_pod import FoundPod, find_pod
from podnet.kernel.observe import Table
from podnet.kernel.run import TOOLS
from podnet.kernel.trace import firewall, own_filters, parse_counters
from podnet.run import trace, trace_way
from podnet.trace.judge import legs

DIRECTORY = Path(__file__).parent / "trace"
RECORDED = {file.stem: json.loads(file.read_text()) for file in sorted(DIRECTORY.glob("*.json"))}
PLANS: dict[str, Plan] = {
    name: plan_from_text(json.dumps(told["plan"])) for name, told in RECORDED.items()
}

Facts = dict[str, Any]


def reported(name: str, change: Callable[[dict[str, Facts]], None] | None = None) -> dict[str, Any]:
    """Return the report on recorded facts; `change` changes those of each host (the first one)."""
    told = copy.deepcopy(RECORDED[name])
    if change:
        change({host: those[0] for host, those in told["facts"].items()})
    plan = PLANS[name]
    way = trace_way.way(told["plan"], told["begin"], told["end"])
    results = {
        host: [{"facts": one, **legs(plan, plan.nodes[host], one)} for one in those]
        for host, those in told["facts"].items()
    }
    found: dict[str, Any] = trace.report(told["plan"], way, trace_way.questions(way, {}), results)
    return found


@pytest.mark.parametrize("name", RECORDED)
def test_nothing_breaks_where_nothing_is_broken(name: str) -> None:
    found = reported(name)
    assert found["cause"] == {}, "\n".join(found["lines"])
    assert not found["broken"]
    assert found["verdict"].startswith("Nothing breaks: ")
    hops = [hop for leg in found["legs"] for hop in leg["hops"]]
    assert all(hop["question"] and hop["answer"] for hop in hops)
    assert [hop for hop in hops if "fault" in hop or "plan" in hop] == []


@pytest.mark.parametrize("name", RECORDED)
def test_the_result_is_json(name: str) -> None:
    found = reported(name)
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(found, default=str))


def at(facts: Any, path: str) -> tuple[Any, Any]:
    """Return (what holds the last step of `path`, that step); steps have blanks between them."""
    *steps, last = [int(one) if one.isdigit() else one for one in path.split(" ")]
    for step in steps:
        facts = facts[step]
    return facts, last


class Change(NamedTuple):
    """One fact that differs (host, path, value), and the hop that then is the cause."""

    recorded: str
    host: str
    path: str
    value: Any
    where: str
    key: str
    words: str


_GONE = {"answer": None, "error": "Network is unreachable", "entry": "", "table": "", "asked": "x"}
_DROP = [{"chain": "iptables-nft FORWARD", "drops": ["tcp", "udp", "icmp"], "by": "its policy",
          "doubts": []}]  # fmt: skip

CHANGES: dict[str, Change] = {
    "no route": Change("vxlan", "n1", "out", _GONE, "n1", "route", "Network is unreachable"),
    "no route back": Change("vxlan", "n2", "out", _GONE, "n2", "route", "has no route to 10.244.0"),
    "no neighbour": Change("vxlan", "n1", "neighbour", [], "n1", "neighbour", "not know the MAC"),
    "no FDB entry": Change("vxlan", "n1", "outer key", "", "n1", "entry", "no FDB entry for it"),
    "FDB entry of n3": Change(
        "vxlan", "n1", "outer entry", "192.0.2.13", "n1", "entry", "sends to 192.0.2.13 (n3)"
    ),
    "a small underlay": Change(
        "vxlan", "n1", "links host0 mtu", 1450, "n1", "outer", "1450 + 50 = 1500 bytes at most"
    ),
    "WireGuard: no key": Change(
        "wireguard",
        "n3",
        "own_options flannel-wg",
        "listen-port 51820",
        "n3",
        "device",
        "flannel-wg has listen-port 51820, and the plan wants listen-port 51820 public-key 5nbm",
    ),
    "device down": Change(
        "vxlan", "n2", "links flannel.1 flags", [], "n2", "device", "flannel.1 is down"
    ),
    "another VNI": Change(
        "vxlan",
        "n2",
        "links flannel.1 linkinfo info_data id",
        7,
        "n2",
        "device",
        "has id 7 dstport 8472",
    ),
    "another MAC of the VTEP": Change(
        "vxlan",
        "n2",
        "links flannel.1 address",
        "02:00:00:00:00:09",
        "n2",
        "device",
        "peers send to 02:00:0a:f4:01:00",
    ),
    "no forwarding": Change(
        "vxlan",
        "n2",
        "sysctls net.ipv4.conf.flannel/1.forwarding",
        "0",
        "n2",
        "forwarding",
        "does not forward what comes in by flannel.1",
    ),
    "no forwarding of IPv6": Change(
        "ipv6",
        "n2",
        "sysctls net.ipv6.conf.all.forwarding",
        "0",
        "n2",
        "forwarding",
        "net.ipv6.conf.all.forwarding=0",
    ),
    "IPv6 off on the bridge": Change(
        "ipv6",
        "n2",
        "sysctls net.ipv6.conf.cni0.disable_ipv6",
        "1",
        "n2",
        "bridge",
        "IPv6 is off on cni0",
    ),
    "a firewall on the way out": Change(
        "vxlan", "n1", "firewall out", _DROP, "n1", "firewall", "iptables-nft FORWARD drops it"
    ),
    "a firewall that lets TCP pass": Change(
        "vxlan",
        "n2",
        "firewall in",
        [{**_DROP[0], "drops": ["udp", "icmp"]}],
        "n2",
        "firewall",
        "drops udp and icmp: its policy",
    ),
    "a closed port": Change(
        "vxlan", "n2", "firewall input", _DROP, "n2", "input", "drops what comes in for flannel.1"
    ),
    "a guard that does not know the node": Change(
        "vxlan", "n2", "guard", ["192.0.2.12"], "n2", "guard", "from 192.0.2.11 (n1)"
    ),
    "a policy rule": Change(
        "vxlan",
        "n1",
        "rules out",
        [[100, "100: from all lookup 100", "default dev tun0", True]],
        "n1",
        "rules",
        'the policy rule "100: from all lookup 100" takes it',
    ),
    "the pod is down": Change(
        "vxlan", "n2", "pod link flags", [], "n2", "pod", "in the pod, eth0 is down"
    ),
    "the pod's other end is down": Change(
        "vxlan", "n2", "links ep-web flags", [], "n2", "veth", "ep-web is down"
    ),
    "a port that does not forward": Change(
        "vxlan", "n2", "ports 0 state", "blocking", "n2", "veth", "ep-web is blocking"
    ),
    "another bridge": Change(
        "vxlan", "n2", "links ep-web master", "br0", "n2", "veth", "ep-web is a port of br0"
    ),
    "no pod": Change("vxlan", "n2", "pod namespace", "", "n2", "pod", "no pod of n2 has 10.244.1"),
    "the node is off": Change(
        "vxlan",
        "n1",
        "outer neighbour",
        [{"dst": "192.0.2.12", "state": ["FAILED"]}],
        "n1",
        "underlay",
        "nobody answers for 192.0.2.12 (n2)",
    ),
    "the bridge knows the pod elsewhere": Change(
        "vxlan",
        "n2",
        "fdb",
        [{"mac": "x", "ifname": "veth1"}],
        "n2",
        "fdb",
        "to veth1, and it is at ep-web",
    ),
    "no masquerade": Change(
        "outside", "n1", "masquerade", [], "n1", "masquerade", "no answer finds the way back"
    ),
    "no route to the outside": Change(
        "outside", "n1", "out", _GONE, "n1", "route", "the host has no route to 192.0.2.1"
    ),
    "host-gw: the gateway is off": Change(
        "host_gw",
        "n1",
        "outer neighbour",
        [{"dst": "192.0.2.12", "state": ["INCOMPLETE"]}],
        "n1",
        "underlay",
        "nobody answers for 192.0.2.12 (n2)",
    ),
    "host-gw: the underlay does not forward": Change(
        "host_gw",
        "n2",
        "sysctls net.ipv4.conf.host0.forwarding",
        "0",
        "n2",
        "forwarding",
        "does not forward what comes in by host0",
    ),
    "WireGuard: no session": Change(
        "wireguard",
        "n1",
        "outer session",
        ["no handshake yet", False],
        "n1",
        "entry",
        "n3 does not answer: no handshake yet",
    ),
    "WireGuard: no peer has the address": Change(
        "wireguard", "n1", "outer key", "", "n1", "entry", "has no WireGuard peer for it"
    ),
    "WireGuard: the answering host takes it from nobody": Change(
        "wireguard", "n3", "outer key", "", "n3", "entry", "takes 10.244.0.254 from nobody only"
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_fact_is_the_cause(name: str) -> None:
    change = CHANGES[name]

    def apply(facts: dict[str, Facts]) -> None:
        holder, last = at(facts[change.host], change.path)
        assert last in holder if isinstance(holder, dict) else last < len(holder)
        assert holder[last] != change.value
        holder[last] = change.value

    found = reported(change.recorded, apply)
    cause = found["cause"]
    assert (cause.get("host"), cause.get("key")) == (change.where, change.key), found["lines"]
    assert change.words in cause["fault"]
    assert found["broken"]
    assert cause["fault"] in found["verdict"]
    assert cause["mend"] in found["verdict"]


@pytest.mark.parametrize(("value", "passes"), [("1", True), ("0", False), (None, False)])
def test_pods_of_one_host_pass_chains_where_bridged_packets_do(
    value: str | None, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["-P FORWARD DROP", "-A FORWARD -i cni0 -o cni0 -p tcp -j ACCEPT"]
    chain = Forwarder("iptables-nft", "FORWARD", (4,), iptables.rules(lines, "FORWARD", "x"))
    monkeypatch.setattr("podnet.kernel.forward.passed", lambda _name, _hook: [chain])
    facts = copy.deepcopy(RECORDED["vxlan"]["facts"]["n1"][0])
    facts["remote"] = "10.244.0.9"
    facts["out"]["answer"] = {"dst": "10.244.0.9", "dev": "cni0"}
    facts["carrier"] = "cni0"
    facts["sysctls"]["net.bridge.bridge-nf-call-iptables"] = value
    plan = PLANS["vxlan"]
    facts["firewall"] = firewall(plan, facts, State())
    hops = {hop["key"]: hop for hop in legs(plan, plan.nodes["n1"], facts)["out"]}
    assert ("firewall" in hops) == passes
    if passes:
        assert hops["firewall"]["answer"] == "iptables-nft FORWARD drops udp and icmp: its policy"


@pytest.mark.parametrize(("any_pod", "key"), [(True, None), (False, "pod")])
def test_an_address_that_nobody_named_stands_for_a_pod(any_pod: bool, key: str | None) -> None:
    """On a fresh network no host has a pod, and nothing is wrong with that."""

    def apply(facts: dict[str, Facts]) -> None:
        facts["n2"]["pod"]["namespace"] = ""
        facts["n2"]["any_pod"] = any_pod

    assert reported("vxlan", apply)["cause"].get("key") == key


def test_a_feature_that_the_plan_leaves_as_it_is_is_no_fault() -> None:
    """Where a host has ethtool, its device's options have the feature, too."""

    def apply(facts: dict[str, Facts]) -> None:
        for one in facts.values():
            one["own_options"] = {"flannel.1": "tx-checksum-ip-generic on"}

    assert reported("vxlan", apply)["cause"] == {}


@pytest.mark.parametrize(
    ("name", "senders", "hops"),
    [
        ("vxlan", ["192.0.2.11", "192.0.2.12"], 2),
        ("ipv6", ["192.0.2.11", "192.0.2.12", "192.0.2.13"], 2),
        # What is not wrapped passes no guard.
        ("host_gw", [], 0),
        ("outside", [], 0),
    ],
)
def test_a_guard_that_knows_the_nodes_is_passed(name: str, senders: list[str], hops: int) -> None:
    def apply(facts: dict[str, Facts]) -> None:
        for one in facts.values():
            one["guard"] = senders

    found = reported(name, apply)
    asked = [hop for leg in found["legs"] for hop in leg["hops"] if hop["key"] == "guard"]
    assert (len(asked), found["cause"]) == (hops, {})


def test_whom_a_guard_takes_packets_from_is_read_from_podnets_table() -> None:
    masquerade = Chain("postrouting", "x", (make_rule("ip saddr 10.0.0.0/8 masquerade", "x"),))
    guard = Chain(GUARD, GUARD_HOOK, (make_rule("udp dport 8472 counter drop", "x"),))
    members = {"192.0.2.12": "nodes4", "192.0.2.11": "nodes4"}
    found = own_filters(Table((masquerade, guard), members))
    assert found["guard"] == ["192.0.2.11", "192.0.2.12"]
    assert found["masquerade"] == ["ip saddr 10.0.0.0/8 masquerade"]
    assert own_filters(Table((masquerade,), {}))["guard"] is None
    assert own_filters(None) == {"guard": None, "masquerade": []}


def test_a_reason_goes_before_what_follows_from_it() -> None:
    """A device that is down takes its routes along."""

    def apply(facts: dict[str, Facts]) -> None:
        facts["n1"]["links"]["flannel.1"]["flags"] = []
        facts["n1"]["out"].update(_GONE)

    assert reported("vxlan", apply)["cause"]["key"] == "device"


def test_a_node_that_has_lost_its_address_is_the_reason_for_its_silence() -> None:
    def apply(facts: dict[str, Facts]) -> None:
        facts["n1"]["outer"]["neighbour"] = [{"dst": "192.0.2.12", "state": ["FAILED"]}]
        facts["n2"].update(view=None, view_error="n2: podnet_node_ip is on no interface")

    cause = reported("vxlan", apply)["cause"]
    assert (cause["host"], cause["key"]) == ("n2", "address")


def test_what_breaks_all_packets_goes_before_what_breaks_large_ones() -> None:
    def apply(facts: dict[str, Facts]) -> None:
        facts["n1"]["links"]["host0"]["mtu"] = 1400
        facts["n2"]["firewall"]["input"] = _DROP

    assert reported("vxlan", apply)["cause"]["key"] == "input"


def test_a_mac_of_somebody_else_is_the_cause_if_the_node_is_silent() -> None:
    def other_mac(facts: dict[str, Facts]) -> None:
        facts["n1"]["outer"]["neighbour"][0]["lladdr"] = "02:00:00:00:00:09"

    def silent(facts: dict[str, Facts]) -> None:
        other_mac(facts)
        for one in facts["n1"]["probes"]:
            one.update(ok=False, error="no reply")

    assert reported("vxlan", other_mac)["cause"] == {}
    cause = reported("vxlan", silent)["cause"]
    assert (cause["host"], cause["key"]) == ("n1", "underlay")
    assert "192.0.2.12 is at 02:00:00:00:00:09 on host0, and n2 has " in cause["fault"]


def test_silence_without_a_reason_is_told_as_that() -> None:
    def apply(facts: dict[str, Facts]) -> None:
        for one in facts["n1"]["probes"]:
            one.update(ok=False, error="no reply")

    found = reported("vxlan", apply)
    assert found["broken"]
    assert found["verdict"].startswith("No hop on the hosts breaks it, but 10.244.1.254 does not")
    # Many hosts outside do not answer ping.
    assert not reported("outside", apply)["broken"]


# Ends

DOCUMENT = RECORDED["vxlan"]["plan"] if "vxlan" in RECORDED else {}


@pytest.mark.parametrize(
    ("begin", "end", "hosts", "kind"),
    [
        ("n1", "10.244.1.254", ["n1", "n2"], "pod"),
        ("n1/web", "n3", ["n1", "n3"], "pod"),
        ("10.244.0.254", "10.244.0.9", ["n1"], "pod"),
        ("n1", "192.0.2.12", ["n1", "n2"], "node"),
        ("n1", "192.0.2.11", ["n1"], "node"),
        ("n1", "9.9.9.9", ["n1"], "outside"),
        ("n1", "fd00:10:244:1::9", ["n1", "n2"], "pod"),
        ("n1", "FD00:10:244:1:0::9", ["n1", "n2"], "pod"),
    ],
)
def test_hosts_on_the_way(begin: str, end: str, hosts: list[str], kind: str) -> None:
    found = trace_way.way(DOCUMENT, begin, end)
    assert found["hosts"] == hosts
    assert found["target"]["kind"] == kind


@pytest.mark.parametrize(
    ("begin", "end", "message"),
    [
        ("", "n1", "podnet_from: missing"),
        ("n1", None, "podnet_to: missing"),
        ("n9", "n1", "podnet_from: 'n9' is no host of the plan, which has n1, n2, n3"),
        ("n1", "n2/a/b", "podnet_to: 'n2/a/b' is no host of the plan"),
        ("n1", "10.244.200.9", "10.244.200.9 is free: it is in 10.244.0.0/16, and no node has it"),
        ("192.0.2.11", "n2", "podnet_from: 192.0.2.11 is no pod's address"),
        ("9.9.9.9", "n2", "podnet_from: 9.9.9.9 is no pod's address"),
        ("10.244.0.9", "fd00:10:244:1::9", "are of two families"),
        ("10.244.0.9", "10.244.0.9", "is both"),
        ("n1/web", "n1/web", "both are the same pod of n1"),
    ],
)
def test_ends_that_name_nothing(begin: Any, end: Any, message: str) -> None:
    with pytest.raises(PodnetError, match="podnet_") as raised:
        trace_way.way(DOCUMENT, begin, end)
    assert message in str(raised.value)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_is_a_way_or_told(begin: str, end: str) -> None:
    try:
        assert trace_way.way(DOCUMENT, begin, end)["hosts"]
    except PodnetError as error:
        assert str(error).startswith("podnet_")


def test_pods_are_asked_for_where_no_address_names_them() -> None:
    way = trace_way.way(DOCUMENT, "n1", "n2/web")
    assert way["finds"] == {
        "source": {"host": "n1", "which": ""},
        "target": {"host": "n2", "which": "web"},
    }
    pods = {
        "source": {"pod": {"address": "10.244.0.7"}},
        "target": {"pod": {"address": "10.244.1.7"}},
    }
    assert trace_way.questions(way, pods) == {
        "n1": [{"local": "10.244.0.7", "remote": "10.244.1.7", "role": "from", "any_pod": True}],
        "n2": [{"local": "10.244.1.7", "remote": "10.244.0.7", "role": "to"}],
    }


@pytest.mark.parametrize(
    ("changes", "remote"),
    [
        ({}, "192.0.2.11"),
        ({"masquerade": False}, "10.244.0.254"),
        ({"masquerade_exclude": ["192.0.2.0/24"]}, "10.244.0.254"),
    ],
)
def test_another_node_is_asked_about_the_address_that_it_sees(
    changes: dict[str, Any], remote: str
) -> None:
    asked = trace_way.questions(
        trace_way.way({**DOCUMENT, **changes}, "10.244.0.254", "192.0.2.12"), {}
    )
    assert asked["n2"] == [{"local": "192.0.2.12", "remote": remote, "role": "to"}]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "n2 is on the way and not in this run; run without --limit"),
        ({"unreachable": True, "msg": "no\nroute"}, "does not answer Ansible: no route"),
        ({"failed": True, "msg": "n2: no network namespace 'web'"}, "no network namespace 'web'"),
    ],
)
def test_a_host_that_cannot_be_asked(result: Mapping[str, Any] | None, message: str) -> None:
    way = trace_way.way(DOCUMENT, "10.244.0.254", "n2/web")
    with pytest.raises(PodnetError) as raised:
        trace_way.questions(way, {"target": result})
    assert message in str(raised.value)
    # The rest of the way is shown all the same.
    told = RECORDED["vxlan"]
    plan = PLANS["vxlan"]
    way = trace_way.way(DOCUMENT, told["begin"], told["end"])
    facts = told["facts"]["n1"][0]
    results: dict[str, list[Any]] = {
        "n1": [{"facts": facts, **legs(plan, plan.nodes["n1"], facts)}],
        "n2": [result],
    }
    found = trace.report(DOCUMENT, way, trace_way.questions(way, {}), results)
    assert found["broken"]
    assert message in found["verdict"]
    assert any("  ??  " in line for line in found["lines"])


# What a host reads


def test_the_example_packet_may_have_a_port_of_its_own() -> None:
    lines = ["-P INPUT DROP", "-A INPUT -p udp --dport 8472 -j ACCEPT"]
    chain = Forwarder("iptables-nft", "INPUT", (4,), iptables.rules(lines, "INPUT", "x"))
    ends = addresses("192.0.2.11"), addresses("192.0.2.12")
    packet = Packet("eth0", "", *ends, "udp", "new", addresses("10.244.0.0/16"), dport=8472)
    assert verdicts([chain], [packet])[0]["drops"] == []
    assert verdicts([chain], [packet._replace(dport=4789)])[0]["drops"] == ["udp"]
    assert verdicts([chain._replace(families=(6,))], [packet]) == []


def test_longest_allowed_range_carries_a_packet() -> None:
    kind = KINDS["wireguard"]
    entries = {
        ("wg", "A"): "10.244.0.0/16 endpoint - keepalive 0 psk -",
        ("wg", "B"): "10.244.1.0/24,fd00::/64 endpoint - keepalive 0 psk -",
        ("other", "C"): "10.244.1.7/32 endpoint - keepalive 0 psk -",
    }
    assert kind.carrier(entries, "wg", "", "10.244.1.7") == ("wg", "B")
    assert kind.carrier(entries, "wg", "", "10.244.2.7") == ("wg", "A")
    assert kind.carrier(entries, "wg", "", "fd00::7") == ("wg", "B")
    assert kind.carrier(entries, "wg", "", "192.0.2.7") is None


def test_a_namespace_may_have_a_dot_in_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "web.1").touch()
    device = {"ifname": "eth0", "addr_info": [{"local": "10.244.0.7"}]}
    inside = [(str(tmp_path / one), device) for one in ("web", "web.1")]
    monkeypatch.setattr("podnet.kernel.find_pod._NAMED", str(tmp_path))
    monkeypatch.setattr("podnet.kernel.observe.read_links", list)
    monkeypatch.setattr("podnet.kernel.pods.everywhere", lambda: iter(inside))
    plan = PLANS["vxlan"]
    node = plan.nodes["n1"]
    assert find_pod(plan, node, 4, "web.1").namespace == str(tmp_path / "web.1")
    assert find_pod(plan, node, 4, "10.244.0.7").namespace == str(tmp_path / "web")
    assert find_pod(plan, node, 4, "10.244.0.8") == FoundPod("10.244.0.8")
    with pytest.raises(PodnetError, match=r"no network namespace 'web\.2' on the host"):
        find_pod(plan, node, 4, "web.2")


def test_counters_are_read_as_nstat_names_them() -> None:
    text = (
        "Ip: Forwarding DefaultTTL OutNoRoutes\nIp: 1 64 3\n"
        "TcpExt: SyncookiesSent IPReversePathFilter\nTcpExt: 0 7\n"
        "Ip6OutNoRoutes \t5\n"
    )
    found = parse_counters(text)
    assert (found["IpOutNoRoutes"], found["TcpExtIPReversePathFilter"]) == (3, 7)
    assert found["Ip6OutNoRoutes"] == 5
    assert parse_counters("Ip: A B\nIp: 1\n\nIp6X\n") == {"IpA": 1}


@pytest.mark.parametrize(
    ("said", "text", "alive"),
    [
        ("K\t0\n", "no handshake yet", False),
        ("other\t99\n", "no handshake yet", False),
        ("K\t{recent}\n", "latest handshake 12 s ago", True),
        ("K\t{old}\n", "latest handshake 400 s ago", False),
    ],
)
def test_a_session_ends_some_minutes_after_the_last_handshake(
    said: str, text: str, alive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podnet.backends.wireguard.device.time.time", lambda: 1_000_000.5)
    output = said.format(recent=999_988, old=999_600)
    tools = TOOLS._replace(output=lambda _argv, _stdin: output)
    assert KINDS["wireguard"].session(("wg", "K"), tools) == (text, alive)
    assert KINDS["vxlan"].session(("flannel.1", "K"), tools) == ("", True)


def test_a_rule_captures_one_packet() -> None:
    rules = [{"priority": 100, "src": "10.244.0.0", "srclen": 16, "table": "100"}]
    ends = addresses("10.244.0.7"), addresses("10.244.1.7")
    found = captures(rules, Traffic(*ends, "cni0"), lambda _table: [{"dst": "default", "dev": "t"}])
    assert [(one.rule, one.certain) for one in found] == [
        ("100: from 10.244.0.0/16 lookup 100", True)
    ]

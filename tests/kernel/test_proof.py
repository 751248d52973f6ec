"""The proof on real paths that carry some packets and drop others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernel.netns_hosts import Host, hosts, plan_document

pytestmark = pytest.mark.kernel

_PRELUDE = """
import json, os, time
from podnet.cni import configuration
from podnet.probe import udp_tcp, questions, probe_pod, responder
from podnet.core.model import Plan
plan = Plan.from_document(json.loads({document!r}))
"""

#: As on a host that lets nobody in but SSH and VXLAN: what pods send passes it in `forward`.
_CLOSED = (
    "table inet closed { chain input { type filter hook input priority 0; policy drop; "
    "iif lo accept; tcp dport 22 accept; udp dport 8472 accept; "
    "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; }; }"
)


@pytest.fixture(scope="module")
def pair() -> Iterator[list[Host]]:
    """Two hosts with plain routes, each with a pod of the proof on its bridge."""
    with hosts(2) as made:
        for host in made:
            code = """
os.makedirs("/opt/cni/bin", exist_ok=True)
configuration.apply(configuration.inspect(plan, {name!r}, mtu=1500), plan.name)
print(json.dumps(vars(probe_pod.make(plan, {name!r}))))
"""
            pods[host.name] = python(host, code.format(name=host.name))
        yield made
        for host in made:
            assert python(host, "print(json.dumps(probe_pod.remove('podnet')))") == []
            assert host.run("ip", "netns") == ""


pods: dict[str, dict[str, Any]] = {}


def python(host: Host, code: str) -> Any:
    return host.python(_PRELUDE.format(document=json.dumps(plan_document(2))) + code)


def asked(host: Host, patient: bool = False) -> dict[str, Any]:
    """Return what this host finds when it asks the other; not `patient`: when it is found soon."""
    code = f"""
if not {patient}:
    udp_tcp.TRIES, udp_tcp.DEADLINE, udp_tcp.TCP_DEADLINE = (0.0, 0.3), 1.0, 1.0
    udp_tcp.BULK_STUCK = 2.0
pod = probe_pod.read("podnet")
print(json.dumps(questions.probe({host.name!r}, pod, {pods!r}, [], [])))
"""
    found: dict[str, Any] = python(host, code)
    return found


def faults(found: dict[str, Any]) -> dict[str, str]:
    return {f"{one['kind']}{one['family']}": one["word"] for one in found["failures"]}


def both(word: str) -> dict[str, str]:
    return {f"{kind}{family}": word for family in (4, 6) for kind in ("pod", "host")}


def rules(hook: str, *lines: str) -> str:
    body = " ".join(f"{line} drop;" for line in lines)
    return f"table inet bad {{ chain c {{ type filter hook {hook} priority -300; {body} }}; }}"


@pytest.fixture
def ruled(pair: list[Host]) -> Iterator[Any]:
    """Give n2 a ruleset for the time of the test."""

    def give(ruleset: str) -> None:
        pair[1].run("nft", ruleset)

    yield give
    for table in ("bad", "closed"):
        pair[1].run("nft", "delete", "table", "inet", table, check=False)


def test_all_is_answered(pair: list[Host]) -> None:
    for host in pair:
        found = asked(host, patient=True)
        assert found == {
            "asked": 30,
            "answered": 30,
            "failures": [],
            "outside": [],
            "notes": [],
        }


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        pytest.param("meta l4proto { tcp, udp, icmp, ipv6-icmp }", both("no"), id="nothing passes"),
        pytest.param("meta l4proto { tcp, udp }", both("ping"), id="ICMP alone passes"),
        pytest.param("meta l4proto tcp", both("no-tcp"), id="no TCP"),
        pytest.param("meta l4proto udp", both("no-udp"), id="no UDP"),
        pytest.param("tcp flags & (syn | psh) == psh", both("no-tcp"), id="TCP connects alone"),
        pytest.param("meta length > 1300", both("small"), id="only small packets pass"),
        pytest.param(
            "meta nfproto ipv6 meta l4proto { tcp, udp }",
            {"pod6": "ping", "host6": "ping"},
            id="IPv4 alone passes",
        ),
        pytest.param("ip saddr 10.244.0.0/24", {"pod4": "no"}, id="source check of the underlay"),
        pytest.param("icmp type echo-request", {}, id="no ping over IPv4"),
        pytest.param("icmpv6 type { echo-request, echo-reply }", {}, id="no ping over IPv6"),
    ],
)
def test_faults_are_told_apart(pair: list[Host], ruled: Any, rule: str, words: Any) -> None:
    # n2 forwards to its pod what comes from n1.
    ruled(rules("prerouting", f'iifname "eth0" {rule}'))
    found = asked(pair[0])
    assert faults(found) == words
    assert (found["answered"] < 30) and (found["asked"] == found["answered"]) == (not words)


@pytest.mark.parametrize(
    ("then", "word"),
    [
        pytest.param("drop", "bulk", id="stops when much was sent"),
        pytest.param("numgen inc mod 4 == 0 drop", "slow", id="a part is lost"),
        pytest.param("quota until 650000 bytes numgen inc mod 4 == 0 drop", "", id="for a moment"),
    ],
)
def test_what_passes_until_much_is_sent(pair: list[Host], ruled: Any, then: str, word: str) -> None:
    # The short exchanges of one family are 20 kB; each family has its own quota.
    body = " ".join(
        f'iifname "eth0" meta nfproto {family} meta l4proto tcp quota over 60000 bytes {then};'
        for family in ("ipv4", "ipv6")
    )
    ruled(f"table inet bad {{ chain c {{ type filter hook prerouting priority -300; {body} }}; }}")
    found = asked(pair[0])
    assert faults(found) == ({"pod4": word, "pod6": word} if word else {})


def test_wrong_checksums_are_counted(pair: list[Host]) -> None:
    """What a NIC spoils arrives at the pod, and its kernel throws it away."""
    code = f"""
import socket, struct
target = {pods!r}["n2"]
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
    for _count in range(3):
        raw.sendto(struct.pack("!4H", 4000, target["udp"], 12, 0xBAD1) + b"1234", (target["address"], 0))
print(json.dumps(None))
"""
    python(pair[0], code)
    assert "the pod received 3 packets with a wrong checksum" in asked(pair[1])["notes"]


def test_one_direction_alone(pair: list[Host], ruled: Any) -> None:
    # A stateful rule of somebody's: n2's pods may begin, and nobody may begin with them.
    ruled(
        "table inet bad { chain c { type filter hook forward priority 0; "
        'oifname "cni0" ct state new ip saddr 10.244.0.0/24 drop; }; }'
    )
    assert faults(asked(pair[0])) == {"pod4": "no"}
    assert faults(asked(pair[1])) == {}


def test_a_large_packet_is_lost_in_one_direction(pair: list[Host], ruled: Any) -> None:
    ruled(rules("prerouting", 'iifname "eth0" meta length > 1300 udp dport > 0'))
    assert faults(asked(pair[0])) == both("small")
    # What n2 sends comes back in an answer that is small.
    assert faults(asked(pair[1])) == {}


def test_hosts_that_drop_what_is_for_themselves(pair: list[Host], ruled: Any) -> None:
    """Pods pass no input chain of the host's, so this is no fault of the network."""
    ruled(_CLOSED)
    for host, noted in ((pair[0], False), (pair[1], True)):
        found = asked(host)
        assert faults(found) == {}
        assert found["asked"] == found["answered"]
        assert any(note.startswith("host -> n1: ") for note in found["notes"]) is noted
    assert any(note.startswith("gateway 10.244.1.1: its MAC is known") for note in found["notes"])


def test_hosts_that_do_not_answer_ping(pair: list[Host]) -> None:
    for host in pair:
        host.run("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
        host.run("sysctl", "-qw", "net.ipv6.icmp.echo_ignore_all=1")
    try:
        found = asked(pair[0])
    finally:
        for host in pair:
            host.run("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=0")
            host.run("sysctl", "-qw", "net.ipv6.icmp.echo_ignore_all=0")
    assert found == {
        "asked": 26,
        "answered": 26,
        "failures": [],
        "outside": [],
        "notes": [
            "gateway 10.244.0.1: its MAC is known and it does not answer ping",
            "gateway fd00:244::1: its MAC is known and it does not answer ping",
        ],
    }


def test_a_responder_ends_by_itself_and_takes_the_pod_away(pair: list[Host]) -> None:
    code = """
pod = vars(probe_pod.make(plan, "n1"))
probe_pod.remove("podnet")
responder.LIFE = 0.0
real = responder.start
responder.start = lambda netns, ended: real(netns, ended, 0.0)
probe_pod.make(plan, "n1")
process, born = json.load(open("/run/podnet/podnet/probe.json"))["responder"]
while responder._birth(process) == born:
    time.sleep(0.01)
left = [os.path.exists("/run/podnet"), probe_pod.exists("podnet")]
responder.start = real
pods = vars(probe_pod.make(plan, "n1"))
print(json.dumps([left, pods]))
"""
    left, pods["n1"] = python(pair[0], code)
    assert left == [False, False]
    assert pair[0].run("ip", "netns").count("podnet-probe-") == 1
    assert asked(pair[1])["failures"] == []


def test_a_responder_ends_with_its_namespace(pair: list[Host]) -> None:
    """A run that was killed before it noted the process leaves none all the same."""
    code = """
pod = probe_pod.read("podnet")
os.system("ip netns add podnet-probe-alone")
one = responder.start("/run/netns/podnet-probe-alone", lambda: None)
os.system("ip netns delete podnet-probe-alone")
while responder._birth(one.process) == one.born:
    time.sleep(0.01)
print(json.dumps(True))
"""
    assert python(pair[0], code) is True


def test_three_hundred_peers_at_once(pair: list[Host]) -> None:
    """More connections than a process may have files open."""
    code = f"""
import resource
from podnet.probe.icmp import Probe
resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
target = {pods!r}["n2"]
pod = probe_pod.read("podnet")
probes = questions.between("pod", target["address"], 1500, target, bulk=True) * 300
found = questions.ask(probes, {{"pod": pod.netns}})
print(json.dumps([len(found), sum(one.ok for one in found)]))
"""
    assert python(pair[0], code) == [2100, 2100]


def test_a_table_with_routes_of_somebody_else_is_not_taken(pair: list[Host]) -> None:
    host = pair[0]
    host.run("ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.1", "table", "11200")
    code = (
        "from podnet.kernel import source_route\nprint(json.dumps(source_route.free_table([4, 6])))"
    )
    try:
        assert python(host, code) == 11201
    finally:
        host.run("ip", "route", "flush", "table", "11200")

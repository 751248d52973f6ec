"""What doctor.yml makes of what hosts and probes have told: each cause once, the worst first."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from podnet.run import doctor, doctor_exports, doctor_ways
from podnet.state import sysctl_files

HOSTS = ("n1", "n2", "n3")
ROUTE = {"tool": "ip", "before": "", "after": "route 10.244.1.0/24 via 10.244.1.0 dev flannel.1"}
LINK = {"tool": "ip", "before": "", "after": "link flannel.1 type vxlan mtu 1450 up"}
ADDRESS = {"tool": "ip", "before": "", "after": "addr 10.244.1.1/24 dev cni0"}
CONNECTED = {
    "tool": "ip",
    "before": "",
    "after": "route 10.244.1.0/24 dev cni0 proto kernel scope link src 10.244.1.1",
}
IPV6_OFF = "net.ipv6.conf.flannel/1.disable_ipv6=1"
FILE = {"tool": "boot", "before": "file routes (1 line)", "after": "file routes (2 lines)"}
ENABLING = {
    "tool": "file",
    "before": "",
    "after": "file /etc/systemd/system/multi-user.target.wants/podnet@podnet.service -> x",
}
ACCEPT = {"tool": "iptables", "before": "", "after": "iptables-nft FORWARD -i cni0 -j ACCEPT"}
ACCEPTS = {"tool": "boot", "before": "file accepts (0 lines)", "after": "file accepts (2 lines)"}
SMALLER = {"tool": "ip", "before": "link cni0 mtu 1450", "after": "link cni0 mtu 1350"}
RULE = 'policy rule "100: from all lookup 7" takes it. The rule is not podnet\'s: remove it'


def health(number: int, **more: Any) -> dict[str, Any]:
    """Return what a healthy host tells, less what `more` says."""
    nic = {
        "device": "eth0",
        "mac": f"02:00:00:00:00:{number:02x}",
        "mtu": more.pop("nic_mtu", 1500),
        "address": f"192.0.2.{10 + number}/24",
    }
    nic["mac"] = more.pop("mac", nic["mac"])
    found = {
        "refused": "",
        "drift": [],
        "attached": [],
        "armed": False,
        "unit": {"load": "loaded", "active": "active"},
        "addresses": [],
        "machine_id": f"id{number}",
        "nics": [nic],
        "led_away": [],
        "sysctls": [],
        "warnings": ["a plugin lies elsewhere"],
        **more,
    }
    return {"health": found}


def hosts(**more: Any) -> dict[str, Any]:
    """Return all hosts' results; `more` maps one to what is wrong there, or to its result."""
    return {
        host: more[host] if "msg" in more.get(host, {}) else health(number, **more.get(host, {}))
        for number, host in enumerate(HOSTS, 1)
    }


def trace(host: str, key: str, fault: str, *ends: str) -> dict[str, Any]:
    """Return a report of a trace that breaks at a hop; without a fault none breaks it."""
    cause = {"host": host, "key": key, "fault": fault, "mend": f"on {host}: mend it"}
    return {
        "cause": cause if fault else {},
        "verdict": "No hop breaks it",
        "hosts": list(ends),
        "way": "10.244.0.2 -> 10.244.1.2",
    }


def fails(source: str, to: str, word: str = "no", kind: str = "pod") -> dict[str, Any]:
    """Return a result of verify.yml that failed."""
    return {
        "from": source,
        "to": to,
        "kind": kind,
        "family": 4,
        "word": word,
        "what": "no reply",
    }


def proof(*results: dict[str, Any], **more: Any) -> doctor.Probed:
    """Return what verify.yml found."""
    return doctor.Probed(list(results), **more)


BOTH_WAYS = (fails("n1", "n2"), fails("n2", "n1"))

#: (hosts, proof, traces) -> the causes as (kind, status, hosts, a part of what is wrong).
CASES: dict[str, tuple[Any, doctor.Probed, list[Any], list[tuple[str, str, str, str]]]] = {
    "healthy": (hosts(), proof(), [], []),
    "drift, a broken way and pairs are one": (
        hosts(n1={"drift": [ROUTE]}),
        proof(*BOTH_WAYS),
        [trace("n1", "route", "the route is missing", "n1", "n2")] * 2,
        [("route", "broken", "n1", "n1: the route is missing")],
    ),
    "drift of another sort is another cause": (
        hosts(n1={"drift": [ROUTE]}),
        proof(*BOTH_WAYS),
        [trace("n1", "firewall", "a chain drops it", "n1", "n2")],
        [
            ("trace", "broken", "n1", "n1: a chain drops it"),
            ("route", "degraded", "n1", "routes are not as the plan wants them"),
        ],
    ),
    "a device takes along what is on it": (
        hosts(n2={"drift": [LINK, ROUTE]}),
        proof(),
        [],
        [("device", "degraded", "n2", "+link flannel.1")],
    ),
    "one sort on two hosts": (
        hosts(n1={"drift": [ROUTE]}, n3={"drift": [ROUTE]}),
        proof(),
        [],
        [("route", "degraded", "n1 n3", "n1, n3: routes")],
    ),
    "a firewall, the rules through it and their boot file": (
        hosts(n1={"drift": [ACCEPT, ACCEPTS]}),
        proof(*BOTH_WAYS),
        [trace("n1", "firewall", "FORWARD drops it", "n1", "n2")],
        [("accept", "broken", "n1", "FORWARD drops it")],
    ),
    "the same fault on two hosts": (
        hosts(),
        proof(fails("n1", "n2"), fails("n3", "n2")),
        [
            trace("n1", "firewall", "FORWARD drops it", "n1", "n2"),
            trace("n3", "firewall", "FORWARD drops it", "n3", "n2"),
        ],
        [("trace", "broken", "n1 n3", "FORWARD drops it")],
    ),
    "what explains more comes first": (
        hosts(),
        proof(fails("n1", "n3"), *BOTH_WAYS),
        [
            trace("n3", "input", "a chain drops it", "n1", "n3"),
            trace("n2", "pod route", "no route", "n1", "n2"),
        ],
        [
            ("trace", "broken", "n2", "no route"),
            ("trace", "broken", "n3", "a chain drops it"),
        ],
    ),
    "a policy rule that breaks it": (
        hosts(n1={"led_away": [RULE], "warnings": [RULE]}),
        proof(*BOTH_WAYS),
        [trace("n1", "rules", "the policy rule takes it", "n1", "n2")],
        [("rules", "broken", "n1", 'policy rule "100')],
    ),
    "a policy rule of what works now": (
        hosts(n1={"led_away": [RULE], "warnings": [RULE]}),
        proof(),
        [],
        [("rules", "degraded", "n1", 'policy rule "100')],
    ),
    "a NIC's MTU, and what follows from it": (
        hosts(n1={"nic_mtu": 1400, "drift": [SMALLER, FILE], "attached": ["file: /etc/cni"]}),
        proof(fails("n1", "n2", "small")),
        [trace("n1", "outer", "it does not fit", "n1", "n2")],
        [("nic mtu", "broken", "n1", "eth0 of n1 has MTU 1400, and other hosts")],
    ),
    "boot files are older": (
        hosts(n2={"drift": [FILE]}),
        proof(),
        [],
        [("files", "degraded", "n2", "a reboot or a reload brings something else")],
    ),
    "the unit is disabled": (
        hosts(n2={"drift": [ENABLING]}),
        proof(),
        [],
        [("enabling", "degraded", "n2", "units that rebuild the network at boot")],
    ),
    "the unit is masked": (
        hosts(n2={"unit": {"load": "masked", "active": "active"}}),
        proof(),
        [],
        [("unit", "degraded", "n2", "is masked")],
    ),
    "the unit has failed": (
        hosts(n2={"unit": {"load": "loaded", "active": "failed"}}),
        proof(),
        [],
        [("unit", "degraded", "n2", "has failed")],
    ),
    "a rollback is armed": (
        hosts(n3={"armed": True}),
        proof(),
        [],
        [("armed", "degraded", "n3", "waits to be confirmed")],
    ),
    "a sysctl file": (
        hosts(n3={"sysctls": [{"file": "/etc/sysctl.d/z", "key": "a", "value": 0, "wanted": 1}]}),
        proof(),
        [],
        [("sysctl file", "degraded", "n3", "/etc/sysctl.d/z sets a = 0 (needed: 1)")],
    ),
    "leases": (
        hosts(n1={"addresses": [{"family": 4, "size": 10, "used": 9, "percent": 90}]}),
        proof(),
        [],
        [("leases", "degraded", "n1", "pods use 9 of 10 IPv4 addresses (90 %)")],
    ),
    "clones": (
        hosts(n3={"machine_id": "id1", "mac": "02:00:00:00:00:01"}),
        proof(),
        [],
        [
            ("same mac", "degraded", "n1 n3", "n1, n3 have one mac, 02:00:00:00:00:01"),
            ("same machine-id", "degraded", "n1 n3", "n1, n3 have one machine-id, id1"),
        ],
    ),
    "a host is off, and is told once": (
        hosts(n3={"msg": "timed out", "unreachable": True}),
        proof(why_not={"n3": "unreachable"}),
        [],
        [("unreachable", "broken", "n3", "n3 does not answer Ansible")],
    ),
    "a host without a pod": (
        hosts(),
        proof(why_not={"n3": "no plugin"}),
        [],
        [("not probed", "broken", "n3", "no plugin")],
    ),
    "a host that refuses a run and has no pod": (
        hosts(n3={"refused": "n3: something\nis in the way"}),
        proof(why_not={"n3": "no bridge"}),
        [],
        [("refused", "broken", "n3", "something is in the way")],
    ),
    "an address, and the route that the kernel makes of it": (
        hosts(n2={"drift": [ADDRESS, CONNECTED]}),
        proof(),
        [],
        [("address", "degraded", "n2", "10.244.1.1/24 dev cni0")],
    ),
    "a run is refused for what breaks packets": (
        hosts(n1={"refused": f"n1: IPv6 is off ({IPV6_OFF})"}),
        proof(),
        [trace("n1", "device", f"IPv6 is off on flannel.1 ({IPV6_OFF})", "n1", "n2")],
        [("refused", "broken", "n1", "IPv6 is off")],
    ),
    "a host on which podnet has never run": (
        hosts(n3={"built": False, "drift": [LINK, ROUTE, ACCEPT, ENABLING]}, n1={"drift": [ROUTE]}),
        proof(why_not={"n3": "no bridge"}),
        [trace("n3", "device", "flannel.1 does not exist", "n1", "n3")],
        [
            ("new", "broken", "n3", "podnet has built nothing on n3 yet"),
            ("route", "degraded", "n1", "10.244.1.0/24"),
        ],
    ),
    "no hop breaks it": (
        hosts(),
        proof(*BOTH_WAYS, cures=("mend checksums",)),
        [trace("", "", "", "n1", "n2")],
        [("between", "broken", "n1 n2", "nothing on the hosts breaks it")],
    ),
    "it is slow": (
        hosts(),
        proof(fails("n1", "n2", "slow")),
        [trace("", "", "", "n1", "n2")],
        [("slow", "degraded", "n1 n2", "packets are lost on the way: n1 -> n2")],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_cause_is_named_once(name: str) -> None:
    seen, proven, traces, wanted = CASES[name]
    found = doctor.judge(seen, proven, traces)
    told = [(one.kind, one.status, " ".join(one.hosts)) for one in found.causes]
    assert told == [one[:3] for one in wanted]
    for cause, one in zip(found.causes, wanted, strict=True):
        assert one[3] in cause.what
        assert cause.cure
    worst = {one[1] for one in wanted}
    expected = "broken" if "broken" in worst else "degraded" if worst else "healthy"
    assert found.status == expected
    lines = doctor.lines(found, "Network podnet")
    assert lines[-1].startswith(f"The network is {expected}")
    assert sum(". broken" in one or ". degraded" in one for one in lines) == len(wanted)


def test_warnings_that_are_no_cause_are_notes() -> None:
    found = doctor.judge(hosts(n1={"led_away": [RULE], "warnings": [RULE]}), proof(), [])
    assert found.notes == ["a plugin lies elsewhere [n2, n3]"]


def test_objections_to_the_allocations_are_a_cause() -> None:
    found = doctor.judge(hosts(), proof(), [], ["n1: has seen generation 4"])
    assert [(one.kind, one.what) for one in found.causes] == [
        ("allocations", "n1: has seen generation 4")
    ]


def test_a_check_run_says_that_it_proves_nothing() -> None:
    found = doctor.judge(hosts(), doctor.Probed(why_not={"n1": "x"}, asked=False), [])
    assert found.status == "healthy"
    assert found.notes[0].startswith("No packet was sent")


def test_results_for_machines() -> None:
    seen, proven, traces, _wanted = CASES["drift, a broken way and pairs are one"]
    found = doctor.judge(seen, proven, traces)
    plan = {"name": "podnet", "backend": "vxlan"}
    files = doctor_exports.files(doctor_exports.results(plan, HOSTS, found, 7))
    by_name = {one["name"]: one["content"] for one in files}
    told = json.loads(by_name["podnet-doctor.json"])
    assert (told["status"], told["time"]) == ("broken", 7)
    assert [(one["kind"], one["hosts"], one["failed_probes"]) for one in told["causes"]] == [
        ("route", ["n1"], 2)
    ]
    cases = ET.fromstring(by_name["podnet-doctor.xml"]).findall("./testsuite/testcase")
    failed = [case.get("name") for case in cases if case.find("failure") is not None]
    assert (len(cases), failed) == (4, ["n1 is healthy"])
    metrics = by_name["podnet-doctor.prom"].splitlines()
    assert 'podnet_doctor_status{network="podnet",status="broken"} 1' in metrics
    assert 'podnet_doctor_status{network="podnet",status="healthy"} 0' in metrics
    label = 'network="podnet",status="broken",kind="route"'
    assert f'podnet_doctor_cause{{{label},host="n1"}} 1' in metrics


def plan(count: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (a plan document of so many nodes, their pods)."""
    nodes = [
        {"name": f"n{one}", "ip": f"192.0.2.{one}", "subnet": f"10.244.{one}.0/24"}
        for one in range(1, count + 1)
    ]
    document = {
        "nodes": nodes,
        "cluster_cidr": "10.244.0.0/16",
        "cluster_cidr6": "",
        "masquerade": True,
    }
    pods = {
        f"n{one}": {"address": f"10.244.{one}.2", "address6": ""} for one in range(1, count + 1)
    }
    return document, pods


@pytest.mark.parametrize(
    ("failed", "ways"),
    [
        ([], []),
        (list(BOTH_WAYS), [("10.244.1.2", "10.244.2.2")]),
        # The host's own are left out where its pod's fail.
        ([fails("n1", "n2", kind="host"), fails("n1", "n2")], [("10.244.1.2", "10.244.2.2")]),
        ([fails("n1", "n2", kind="host")], [("10.244.2.2", "192.0.2.1")]),
        ([fails("n2", "n2", kind="gateway")], [("10.244.2.2", "10.244.2.1")]),
        ([fails("n2", "198.51.100.1", kind="outside")], [("10.244.2.2", "198.51.100.1")]),
    ],
)
def test_the_ways_that_are_followed(failed: list[Any], ways: list[tuple[str, str]]) -> None:
    document, pods = plan(3)
    found = doctor_ways.choose(document, failed, pods)
    ends = [(one["source"]["address"], one["target"]["address"]) for one in found["ways"]]
    assert ends == ways
    assert {it["way"] for those in found["asked"].values() for it in those} == set(range(len(ways)))


def test_few_ways_stand_for_many() -> None:
    document, pods = plan(40)
    every = [fails(one, other) for one in pods for other in pods if one != other]
    found = doctor_ways.choose(document, every, pods)
    assert len(found["ways"]) == doctor_ways.MOST
    hosts_asked = {host for one in found["ways"] for host in one["hosts"]}
    assert len(hosts_asked) > doctor_ways.MOST


FORWARD = {"net.ipv4.ip_forward": "1", "net.ipv4.conf.flannel/1.forwarding": "1"}
OURS = ("/etc/sysctl.d/95-podnet-podnet.conf", "net.ipv4.ip_forward = 1\n")


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ([OURS], []),
        ([("/etc/sysctl.d/50-other.conf", "net.ipv4.ip_forward=0"), OURS], []),
        ([("/etc/sysctl.d/99-z.conf", "net.ipv4.ip_forward=0"), OURS], ["net.ipv4.ip_forward"]),
        ([("/etc/sysctl.d/99-z.conf", "-net/ipv4/ip_forward = 0")], ["net.ipv4.ip_forward"]),
        ([("/etc/sysctl.d/99-z.conf", "# net.ipv4.ip_forward=0")], []),
        ([("/etc/sysctl.conf", "net.ipv4.conf.all.forwarding=0"), OURS], ["net.ipv4.ip_forward"]),
        (
            [("/etc/sysctl.d/99-z.conf", "net/ipv4/conf/flannel.1/forwarding=0")],
            ["net.ipv4.conf.flannel/1.forwarding"],
        ),
        (
            [("/etc/sysctl.d/99-z.conf", "net.ipv4.conf.*.forwarding=0")],
            ["net.ipv4.conf.flannel/1.forwarding"],
        ),
    ],
)
def test_sysctl_files_that_undo_us(files: list[tuple[str, str]], wanted: list[str]) -> None:
    assert [one.key for one in sysctl_files.undoing(files, FORWARD)] == wanted


def test_larger_neighbour_tables_undo_nothing() -> None:
    need = {"net.ipv4.neigh.default.gc_thresh3": "4096"}
    for value, count in (("8192", 0), ("1024", 1)):
        files = [("/etc/sysctl.d/99-z.conf", f"net.ipv4.neigh.default.gc_thresh3={value}")]
        assert len(sysctl_files.undoing(files, need)) == count

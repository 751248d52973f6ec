"""doctor.yml names each cause once, with its host, whatever else is wrong at the same time; and
none where nothing is wrong.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.scenario import faults as catalogue
from tests.scenario.cluster import Cluster, Run


class Fault(NamedTuple):
    """A command that breaks something on `host`, what takes it back, and the cause to be named.

    `kind` and `words` are the cause's, and it names `hosts` (`host` alone where that is empty).
    """

    host: str
    command: str
    mend: str
    kind: str
    words: str
    hosts: tuple[str, ...] = ()


REPLAY = "sh /etc/podnet/replay podnet"
_UNIT = "/etc/systemd/system/multi-user.target.wants/podnet@podnet.service"
_LEASES = "/var/lib/cni/networks/podnet"

#: What is wrong at the same time -> the status.
MANY: dict[str, tuple[str, list[Fault]]] = {
    "what works now": (
        "degraded",
        [
            Fault(
                "n1",
                "cd /etc/podnet/podnet/boot; cp -p routes.batch /root/; sed -i 1d routes.batch",
                "cp -p /root/routes.batch /etc/podnet/podnet/boot/; rm /root/routes.batch",
                "files",
                "routes.batch",
            ),
            Fault(
                "n2",
                f"rm {_UNIT}",
                f"ln -s /etc/systemd/system/podnet@.service {_UNIT}",
                "enabling",
                "podnet@",
            ),
            Fault(
                "n3",
                "echo net.ipv4.ip_forward=0 > /etc/sysctl.d/99-z.conf",
                "rm /etc/sysctl.d/99-z.conf",
                "sysctl file",
                "/etc/sysctl.d/99-z.conf sets net.ipv4.ip_forward = 0",
            ),
            Fault(
                "n1",
                f"for one in $(seq 2 231); do echo a > {_LEASES}/10.244.0.$one; done",
                f"for one in $(seq 2 231); do rm -f {_LEASES}/10.244.0.$one; done",
                "leases",
                "IPv4 addresses (9",
            ),
        ],
    ),
    "a route, and an input chain": (
        "broken",
        [
            Fault("n1", "ip route del 10.244.1.0/24", REPLAY, "route", "10.244.1.0/24 is missing"),
            Fault(
                "n3",
                "iptables -I INPUT -p udp --dport 8472 -j DROP",
                "iptables -D INPUT -p udp --dport 8472 -j DROP",
                "trace",
                "--dport 8472 -j DROP",
            ),
        ],
    ),
    "an FDB entry, and a NIC's MTU": (
        "broken",
        [
            Fault(
                "n2",
                "bridge fdb replace 02:00:0a:f4:00:00 dev flannel.1 dst 192.0.2.77 self permanent",
                REPLAY,
                "entry",
                "sends to 192.0.2.77, and the plan wants 192.0.2.11 (n1)",
            ),
            Fault(
                "n1",
                "ip link set host0 mtu 1400",
                # What the kernel has learned of the path meanwhile lasts for minutes.
                "ip link set host0 mtu 1500; ip route flush cache; ip -6 route flush cache",
                "nic mtu",
                "host0 of n1 has MTU 1400, and other hosts of 192.0.2.0/24 have 1500",
            ),
        ],
    ),
    "a policy rule, and a firewall": (
        "broken",
        [
            Fault(
                "n1",
                "ip rule add pref 100 from 10.244.0.0/16 lookup 100; "
                "ip route add default via 192.0.2.1 table 100",
                "ip rule del pref 100; ip route flush table 100",
                "rules",
                '"100: from 10.244.0.0/16 lookup 100"',
            ),
            Fault(
                "n3",
                "iptables -P FORWARD DROP",
                "iptables -P FORWARD ACCEPT",
                "accept",
                "FORWARD drops it: its policy",
            ),
        ],
    ),
    "a device is gone": (
        "broken",
        [
            Fault("n2", "ip link del flannel.1", REPLAY, "device", "flannel.1 does not exist"),
        ],
    ),
}


def doctor(cluster: Cluster, directory: Path, *, ok: bool) -> tuple[Run, dict[str, Any]]:
    run = cluster.play("doctor.yml", "-e", f"podnet_report_dir={directory}", ok=ok)
    found: dict[str, Any] = json.loads((directory / "podnet-doctor.json").read_text())
    return run, found


def test_a_healthy_network_has_no_cause_and_stays_as_it_is(
    cluster: Cluster, tmp_path: Path
) -> None:
    # The first pod that host-local gives an address leaves its directory.
    cluster.verify()
    before = cluster.snapshots()
    run, found = doctor(cluster, tmp_path, ok=True)
    assert (found["status"], found["causes"]) == ("healthy", []), run.output
    assert run.changed_hosts == set()
    cluster.demand_equal(before, cluster.snapshots())


@pytest.mark.parametrize("name", MANY)
def test_each_cause_is_named_once(cluster: Cluster, tmp_path: Path, name: str) -> None:
    status, faults = MANY[name]
    broken: list[Fault] = []
    try:
        for one in faults:
            broken.append(one)
            cluster.on(one.host, "sh", "-ec", one.command)
        run, found = doctor(cluster, tmp_path, ok=False)
    finally:
        for one in broken:
            cluster.on(one.host, "sh", "-ec", one.mend)
    text = json.dumps(found, indent=1)
    assert run.status != 0
    assert found["status"] == status, text
    assert f"The network is {status}" in run.message
    told = sorted((one["kind"], *one["hosts"]) for one in found["causes"])
    assert told == sorted((one.kind, *(one.hosts or (one.host,))) for one in faults), text
    for one in faults:
        cause = next(it for it in found["causes"] if it["kind"] == one.kind)
        assert any(one.words in it for it in (cause["what"], *cause["evidence"])), text
        assert cause["cure"], text


#: A part of the catalogue. With PODNET_DOCTOR=all in the environment (`make test-doctor`): all.
_SOME = (
    "the bridge is down",
    "another MAC at the other node's address",
    "a strict reverse path filter",
)


#: Fault -> the hosts of each cause, where that is not one cause on the host where it is.
_WHERE: dict[str, list[list[str]]] = {
    # It asks pods of its own; what is wrong with another pod alone, trace.yml finds.
    "the host has another MAC of the pod": [],
    "the pod has another MAC of its gateway": [],
    # It also keeps IPv6 pods from finding their gateway's MAC.
    "the input chain has no place for VXLAN": [["n2"], ["n2"]],
}


@pytest.mark.parametrize("name", catalogue.FAULTS if "PODNET_DOCTOR" in os.environ else _SOME)
def test_a_fault_alone_has_one_cause(cluster: Cluster, tmp_path: Path, name: str) -> None:
    fault = catalogue.FAULTS[name]
    cluster.on(fault.host, "sh", "-ec", fault.command)
    try:
        _run, found = doctor(cluster, tmp_path, ok=False)
    finally:
        cluster.on(fault.host, "sh", "-ec", fault.mend.format(replay=REPLAY))
    text = json.dumps(found, indent=1)
    print(
        name, found["status"], [(one["kind"], one["hosts"], one["what"]) for one in found["causes"]]
    )
    assert [one["hosts"] for one in found["causes"]] == _WHERE.get(name, [[fault.where]]), text

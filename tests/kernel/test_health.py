"""What a host tells Prometheus of itself, without podnet and Python."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator

import pytest

from tests.kernel.netns_hosts import Host, hosts
from tests.kernel.test_distress import do, tried
from tests.kernel.test_interrupted import HEAD, HOST_GW, VXLAN

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]

REPLAY = ("sh", "/etc/podnet/replay", "podnet")


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with hosts(1, bare=True) as made:
        yield made[0]
        made[0].python(f"{HEAD}\nremoved(); print(1)")


def told(host: Host) -> dict[str, int]:
    """Return name with further labels -> value; every line is one of the format's."""
    found = {}
    for line in host.run(*REPLAY, "health").splitlines():
        if line.startswith("#"):
            assert line.split(" ")[1] in ("HELP", "TYPE")
            continue
        name, _mark, rest = line.partition('{network="podnet"')
        labels, _mark, value = rest.partition("} ")
        found[name.removeprefix("podnet_host_") + labels] = int(value)
    return found


def test_a_host_tells_how_it_is(host: Host) -> None:
    assert tried(host, VXLAN) == ""
    begin = int(time.time())
    fresh = told(host)
    assert (fresh["complete"], fresh["drift_lines"]) == (1, 0)
    # What was there at the first look is what the next ones compare with.
    host.run("ip", "route", "del", "10.244.1.0/24")
    assert told(host)["drift_lines"] == 1
    assert begin - 60 <= fresh["changed_time_seconds"] <= fresh["checked_time_seconds"]
    host.run(*REPLAY)
    host.run(*REPLAY)
    right = told(host)
    assert right["drift_lines"] == 0
    assert (right["complete"], right["rollback_armed"]) == (1, 0)


@pytest.mark.parametrize(
    "drift, complete",
    [
        ("ip route del 10.244.1.0/24", 0),
        ("ip addr del 10.244.0.1/24 dev cni0", 0),
        ("ip link del flannel.1", 0),
        ("ip link set flannel.1 mtu 1400", 1),
        ("bridge fdb del 02:00:0a:f4:01:00 dev flannel.1 dst 192.0.2.12 self", 1),
        ("sysctl -qw net.ipv4.ip_forward=0", 1),
        ("nft flush chain inet podnet guard", 1),
    ],
)
def test_drift_is_told_and_gone_with_its_repair(host: Host, drift: str, complete: int) -> None:
    host.run(*REPLAY)
    host.run(*REPLAY)
    assert told(host)["drift_lines"] == 0
    host.run("sh", "-c", drift)
    found = told(host)
    assert found["drift_lines"] >= 1
    assert found["complete"] == complete
    # Telling changes nothing.
    assert told(host)["drift_lines"] == found["drift_lines"]
    host.run(*REPLAY)
    assert told(host)["complete"] == 1


def test_leases_and_a_rollback_are_told(host: Host) -> None:
    leases = "/var/lib/cni/networks/podnet"
    host.run("mkdir", "-p", leases)
    files = ("10.244.0.7", "10.244.0.8", "fd00:244::7", "last_reserved_ip.0", "lock")
    host.run("touch", *(f"{leases}/{one}" for one in files))
    host.run("mkdir", "/run/podnet/podnet.rollback")
    try:
        found = told(host)
    finally:
        host.run("rmdir", "/run/podnet/podnet.rollback")
        host.run("rm", "-r", leases)
    assert (found['leases,family="4"'], found['leases,family="6"']) == (2, 1)
    assert found["rollback_armed"] == 1


def test_what_cannot_be_written_leaves_the_file_before(host: Host) -> None:
    file = "/run/podnet/podnet.prom"
    host.run(*REPLAY, "health", file)
    before = host.run("cat", file)
    assert "podnet_host_complete" in before
    host.run("mkdir", f"{file}.new")
    try:
        with pytest.raises(AssertionError):
            host.run(*REPLAY, "health", file)
    finally:
        host.run("rmdir", f"{file}.new")
    assert host.run("cat", file) == before
    assert host.run("ls", "/run/podnet").count("prom") == 1


def test_routes_over_a_lost_address_are_missed(host: Host) -> None:
    """Lines about the underlay are left out of a replay while its address is nowhere."""
    host.python(f"{HEAD}\nnetwork({HOST_GW!r})(); print(1)")
    assert told(host)["complete"] == 1
    host.run("ip", "addr", "del", "192.0.2.11/24", "dev", "eth0")
    try:
        assert told(host)["complete"] == 0
    finally:
        host.run("ip", "addr", "add", "192.0.2.11/24", "dev", "eth0")
        host.run(*REPLAY)
    assert told(host)["complete"] == 1


def test_a_file_in_the_directorys_place_is_told_before_anything_is_changed(host: Host) -> None:
    plan = json.loads(VXLAN)
    plan["nodes"][0].update(health_interval="1min", health_dir="/var/lib/metrics/own")
    text = json.dumps(plan)
    assert tried(host, VXLAN) == ""
    begin = do(host, "print(json.dumps(steps.state()))")
    host.run("touch", "/var/lib/metrics")
    try:
        refused = do(
            host,
            "from podnet.host import info\n"
            f"print(json.dumps(said(lambda: info.pending(plan_from_text({text!r}), 'n1', 'none'))))",
        )
        undone = tried(host, text)
    finally:
        host.run("rm", "/var/lib/metrics")
    assert "n1: /var/lib/metrics cannot be written: it is not a directory" in refused
    assert "move it away" in refused
    # Who runs the module all the same finds the host as it was.
    assert "All of this run's changes on this host are undone" in undone
    assert do(host, "print(json.dumps(steps.state()))") == begin
    assert tried(host, text) == ""
    assert (
        host.run("readlink", "/var/lib/metrics/own/podnet-podnet.prom")
        == "/run/podnet/podnet.prom\n"
    )
    assert tried(host, VXLAN) == ""

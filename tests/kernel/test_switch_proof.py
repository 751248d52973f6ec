"""A switch whose new way does not carry what pods send is stopped before a route moves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernel.netns_hosts import Host, hosts, plan_document

pytestmark = pytest.mark.kernel

_HEAD = """
import json, os, time
from podnet.cni import configuration
from podnet.host import converge, target
from podnet.probe import udp_tcp, icmp
from podnet.backends.document import plan_from_text
from podnet.core.errors import PodnetError
"""


def document(backend: str, six: bool = True, **changes: Any) -> str:
    made = plan_document(2, six=six, backend=backend, **changes)
    for number, node in enumerate(made["nodes"]):
        node["mac"] = f"02:00:0a:f4:{number:02x}:00"
        node["ip6"] = f"fd00:2::{11 + number}"
    return json.dumps(made)


def call(
    host: Host,
    plan: str,
    phase: str,
    *,
    proof: Any = None,
    forced: bool = False,
    soon: bool = False,
    before: str = "",
) -> dict[str, Any]:
    """Do a phase; `soon`: what is silent is not waited for as long as usual. `before`
    is code that runs first."""
    code = f"""{_HEAD}{before}
if {soon}:
    udp_tcp.TRIES, udp_tcp.DEADLINE, udp_tcp.TCP_DEADLINE = (0.0, 0.3), 1.2, 1.2
plan = plan_from_text({plan!r})
try:
    done = converge.converge(plan, {host.name!r}, {phase!r}, False, proof={proof!r},
                             force_unproven={forced!r})
    if {phase!r} in ("all", "commit"):
        os.makedirs("/opt/cni/bin", exist_ok=True)
        configuration.apply(configuration.inspect(plan, {host.name!r}, done.mtu), plan.name)
    print(json.dumps({{"proof": done.proof, "warnings": done.warnings}}))
except PodnetError as error:
    print(json.dumps({{"error": str(error)}}))
"""
    result: dict[str, Any] = host.python(code)
    return result


def on_all(those: list[Host], plan: str, phase: str, **more: Any) -> dict[str, dict[str, Any]]:
    return {host.name: call(host, plan, phase, **more) for host in those}


def traces(host: Host) -> list[str]:
    """Return what a proof has on a host while it goes on."""
    rules = host.run("ip", "rule") + host.run("ip", "-6", "rule")
    found = [line for line in rules.splitlines() if "proto" in line]
    found += host.run("ip", "netns").split("\n")[:-1]
    found += host.run("sh", "-c", "ip route show table 11200 2>&1 | grep via; true").splitlines()
    found += host.run("sh", "-c", "ip -6 route show table 11200 | grep via; true").splitlines()
    found += host.run("sh", "-c", "ls /run/podnet/podnet 2>/dev/null; true").splitlines()
    return found


def ways(host: Host) -> set[str]:
    """Return the devices over which peers' pods are reached."""
    found = json.loads(host.run("ip", "-j", "route", "show", "proto", "112"))
    found += json.loads(host.run("ip", "-6", "-j", "route", "show", "proto", "112"))
    return {one["dev"] for one in found if "/" in one["dst"]}


VXLAN, HOST_GW = document("vxlan"), document("host-gw")


@pytest.fixture
def pair() -> Iterator[list[Host]]:
    with hosts(2, bare=True) as made:
        for found in on_all(made, VXLAN, "all").values():
            assert "error" not in found, found
        yield made


def drop(host: Host, what: str) -> None:
    """Let the underlay drop, before it reaches the host, what it does not like."""
    host.run(
        "nft",
        f"table netdev under {{ chain c {{ type filter hook ingress device eth0 priority -500; "
        f"{what} drop; }}; }}",
    )


def undrop(host: Host) -> None:
    host.run("nft", "delete", "table", "netdev", "under")


def test_a_switch_is_proven_before_and_after_and_leaves_nothing(pair: list[Host]) -> None:
    other_port = document("vxlan", port=4789)
    other_vni = document("vxlan", port=4789, vni=7, device="flannel.7")
    steps = [(HOST_GW, "eth0"), (VXLAN, "flannel.1"), (other_port, "flannel.1")]
    for plan, device in (*steps, (other_vni, "flannel.7")):
        before = [ways(host) for host in pair]
        told = {name: one["proof"] for name, one in on_all(pair, plan, "prepare", proof={}).items()}
        assert all(one["mtu"] == 1450 and one["udp"] for one in told.values()), told
        # The old device makes room for one of its name and another port.
        aside = [{"podnet-old0"}] * 2 if plan == other_port else before
        assert [ways(host) for host in pair] == aside
        for host in pair:
            assert len([one for one in traces(host) if "lookup 11200 proto 112" in one]) == 2
        found = on_all(pair, plan, "shift", proof=told)
        assert found == {host.name: {"proof": {}, "warnings": []} for host in pair}
        for host in pair:
            assert ways(host) == {device}
            assert not [one for one in traces(host) if "lookup" in one or "via" in one]
        found = on_all(pair, plan, "commit", proof={})
        assert not any("error" in one for one in found.values()), found
        for host in pair:
            assert traces(host) == []
            # What host-local made for the pod of the proof alone.
            assert host.run("ls", "/var/lib") == ""


@pytest.mark.parametrize(
    ("what", "fault"),
    [
        pytest.param(
            "ip saddr 10.244.0.0/16", "(IPv4): small and full size: no reply", id="source check"
        ),
        pytest.param(
            "ip saddr 10.244.0.0/16 ip protocol { tcp, udp }",
            "(IPv4): ICMP passes, but TCP and UDP: no reply",
            id="TCP and UDP of pods",
        ),
        pytest.param(
            "ip saddr 10.244.0.0/16 ip protocol tcp",
            "(IPv4): TCP: no reply; UDP and ICMP pass",
            id="TCP of pods",
        ),
        pytest.param(
            "ip6 saddr fd00:244::/48",
            "(IPv6): small and full size: no reply",
            id="source check, IPv6 alone",
        ),
        pytest.param(
            "ip saddr 10.244.0.0/16 ip length > 1400",
            "(IPv4): full size (1450 bytes): connected, but what was sent is not answered; small is ok",
            id="large packets of pods",
        ),
    ],
)
def test_nothing_moves_where_the_new_way_drops_what_pods_send(
    pair: list[Host], what: str, fault: str
) -> None:
    for host in pair:
        # Silence before says nothing: hosts need not answer ping.
        host.run("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
        drop(host, what)
    told = {name: one["proof"] for name, one in on_all(pair, HOST_GW, "prepare", proof={}).items()}
    found = on_all(pair, HOST_GW, "shift", proof=told, soon=True)
    for host, other in zip(pair, reversed(pair), strict=True):
        error = found[host.name]["error"]
        assert f"the new way (host-gw) is not proven: {other.name} {fault}" in error
        assert "podnet_force_unproven" in error
        assert ways(host) == {"flannel.1"}
    # The next run takes away what this one left, and so does a run that wants the old way again.
    for host in pair:
        undrop(host)
    told = {name: one["proof"] for name, one in on_all(pair, HOST_GW, "prepare", proof={}).items()}
    found = on_all(pair, HOST_GW, "shift", proof=told)
    assert found == {host.name: {"proof": {}, "warnings": []} for host in pair}
    on_all(pair, HOST_GW, "commit", proof={})
    for host in pair:
        assert traces(host) == []
        assert ways(host) == {"eth0"}


def test_what_is_forced_is_told_and_never_called_proven(pair: list[Host]) -> None:
    drop(pair[1], "ip saddr 10.244.0.0/16 ip protocol tcp")
    told = {name: one["proof"] for name, one in on_all(pair, HOST_GW, "prepare", proof={}).items()}
    found = on_all(pair, HOST_GW, "shift", proof=told, forced=True)
    for host in pair:
        [warning] = found[host.name]["warnings"]
        assert "the new way (host-gw) is not proven: " in warning
        assert "TCP: no reply" in warning
        assert ways(host) == {"eth0"}


def test_a_host_without_a_pod_is_not_proven(pair: list[Host]) -> None:
    """Its plugins are gone, say: others must not take its silence for an answer."""
    pair[1].run("sh", "-c", "rm -rf /etc/cni/net.d; echo garbage > /etc/cni; true")
    pair[1].run(
        "sh", "-c", "mkdir -p /etc/cni/net.d && echo '{' > /etc/cni/net.d/10-podnet.conflist"
    )
    told = {name: one["proof"] for name, one in on_all(pair, HOST_GW, "prepare", proof={}).items()}
    assert "not a CNI configuration list" in told["n2"]["why"]
    assert traces(pair[1]) == []
    found = on_all(pair, HOST_GW, "shift", proof=told)
    for one in found.values():
        assert "not proven: n2: " in one["error"]
    forced = on_all(pair, HOST_GW, "shift", proof=told, forced=True)
    assert all("not proven: n2: " in one["warnings"][0] for one in forced.values())
    assert [ways(host) for host in pair] == [{"eth0"}] * 2


def test_the_real_way_is_asked_after_the_routes_moved(pair: list[Host]) -> None:
    """Something begins to drop just when the routes have moved."""
    told = {name: one["proof"] for name, one in on_all(pair, HOST_GW, "prepare", proof={}).items()}
    drops = (
        "table ip late { chain c { type filter hook forward priority 0; "
        "ip daddr 10.244.1.0/24 drop; }; }"
    )
    spoil = f"""
from podnet.probe import probe_pod
rejoin = probe_pod.rejoin
probe_pod.rejoin = lambda name: (rejoin(name), os.system("nft '{drops}'"))
"""
    error = call(pair[0], HOST_GW, "shift", proof=told, before=spoil)["error"]
    assert "after the routes moved, n2 (IPv4): " in error
    assert "All of this run's changes on this host are undone" in error
    assert ways(pair[0]) == {"flannel.1"}


def test_reset_takes_a_proof_away(pair: list[Host]) -> None:
    on_all(pair, HOST_GW, "prepare", proof={})
    code = f"{_HEAD}\nprint(json.dumps(converge.remove('podnet', False).warnings))"
    for host in pair:
        assert traces(host)
        assert host.python(code) == []
        assert traces(host) == []


def test_a_reboot_in_a_switch_leaves_no_address_of_the_proofs_pod(pair: list[Host]) -> None:
    on_all(pair, HOST_GW, "prepare", proof={})
    reboot = """
for one in $(ip netns list | cut -d' ' -f1); do
    ip netns pids "$one" | xargs -r kill -9; ip netns delete "$one"
done
rm -r /run/podnet
"""
    leases = "grep -rl podnet-probe- /var/lib/cni/networks; true"
    for host in pair:
        host.run("sh", "-c", reboot)
        assert len(host.run("sh", "-c", leases).splitlines()) == 2
    call(pair[0], VXLAN, "all", proof={})
    reset = (
        "gone = configuration.inspect_absent('podnet')\nconfiguration.apply(gone, 'podnet')\n"
        "print(json.dumps(gone.warnings))"
    )
    assert pair[1].python(f"{_HEAD}\n{reset}") == []
    for host in pair:
        assert host.run("sh", "-c", leases) == ""

"""Every kind of switch, one after the other, under traffic between all pairs of hosts.

Two pods a host ping every 5 ms and hold TCP connections; every host drops what comes in the wrong
way. What the traffic felt is counted from outside, over SSH connections of the test's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.scenario.cluster import Cluster
from tests.scenario.site import Site
from tests.traffic import Traffic

States = dict[str, dict[str, Any]]


class Step(NamedTuple):
    """What the user writes, and how the network must look then.

    `device` is the VXLAN device ("" for none); `via` is the one that the routes take.
    """

    variables: dict[str, Any]
    device: str
    via: str
    vni: int = 0
    port: int = 0
    mtu: int = 1450


VXLAN = Step({}, "flannel.1", "flannel.1", 1, 8472)

STEPS: dict[str, Step] = {
    "host-gw": Step({"backend": "host-gw"}, "", "host0", mtu=1500),
    "direct routing": Step({"direct_routing": True}, "flannel.1", "host0", 1, 8472),
    "vxlan": VXLAN,
    "port": Step({"vxlan_port": 4789}, "flannel.1", "flannel.1", 1, 4789),
    "VNI": Step({"vxlan_port": 4789, "vxlan_vni": 7}, "flannel.7", "flannel.7", 7, 4789),
    "device": Step(
        {"vxlan_port": 4789, "vxlan_vni": 7, "vxlan_device": "pods"}, "pods", "pods", 7, 4789
    ),
    "smaller MTU": Step(
        {"vxlan_port": 4789, "vxlan_vni": 7, "vxlan_device": "pods", "mtu": 1300},
        *("pods", "pods", 7, 4789, 1300),
    ),
    "larger MTU": Step(
        {"vxlan_port": 4789, "vxlan_vni": 7, "vxlan_device": "pods", "mtu": 1400},
        *("pods", "pods", 7, 4789, 1400),
    ),
}

#: After these, hosts are compared with hosts that were never anything else.
FRESH = ("host-gw", "larger MTU")


@pytest.fixture(scope="module")
def site(cluster: Cluster) -> Iterator[Site]:
    made = Site(cluster.lab)
    with made.strict(), made.restored():
        made.set(**VXLAN.variables)
        made.site()
        yield made


@pytest.fixture(scope="module")
def traffic(site: Site) -> Iterator[Traffic]:
    with Traffic(site.lab, interval=0.005) as watched:
        yield watched


@pytest.fixture(scope="module")
def reached() -> States:
    """What podnet_info said after each step: step -> host -> state."""
    return {}


@pytest.mark.parametrize("name", STEPS)
def test_a_switch_is_not_felt(site: Site, traffic: Traffic, reached: States, name: str) -> None:
    step = STEPS[name]
    site.set(**step.variables)
    run = site.site()
    assert run.changed_hosts == set(site.hosts), f"nothing was switched:\n{run.output}"
    assert_shape(site, step)
    assert_pods_follow(site, traffic, step)
    assert site.site().changed_hosts == set()
    site.verify()
    if name in FRESH:
        reached[name] = site.info()
    report = traffic.report()
    print(report.table())
    if report.failures:
        traffic.forget()
    assert not report.failures, report.table()


def assert_shape(site: Site, step: Step) -> None:
    """Demand that the switch has happened, and that nothing of what was before is left."""
    for host in site.hosts:
        for family in ("-4", "-6"):
            routes = site.routes(host, family)
            subnets = {dst: one["dev"] for dst, one in routes.items() if not dst.endswith(":")}
            peers = {dst: dev for dst, dev in subnets.items() if "/" in dst}
            assert len(peers) == 2, (host, routes)
            assert set(peers.values()) == {step.via}, (host, routes)
        links = site.json_on(host, "ip", "-d", "-json", "link", "show")
        ours = {one["ifname"] for one in links if one.get("ifalias", "").startswith("podnet:")}
        assert ours == {"cni0", step.device} - {""}
        vxlans = [
            one["ifname"] for one in links if one.get("linkinfo", {}).get("info_kind") == "vxlan"
        ]
        assert set(vxlans) - {"vx-other"} == {step.device} - {""}
        if step.device:
            link = site.link(host, step.device)
            assert (link["data"]["id"], link["data"]["port"]) == (step.vni, step.port)
            assert link["mtu"] == step.mtu
        entries = site.on(host, "bridge", "fdb", "show", "dev", step.device) if step.device else ""
        expected = 2 if step.device == step.via and step.device else 0
        assert entries.count(" dst ") == expected, (host, entries)
        assert site.link(host, "cni0")["mtu"] == step.mtu
        strict = site.on(host, "sysctl", "-n", "net.ipv4.conf.all.rp_filter")
        assert strict == "1\n", f"{host}: rp_filter was not put back"
        files = site.on(host, "find", "/etc/podnet", "-name", "*original*").split()
        if files:
            assert "rp_filter" not in site.on(host, "cat", *files)


def assert_pods_follow(site: Site, traffic: Traffic, step: Step) -> None:
    """Demand that running pods have the network's MTU on both ends."""
    for host in site.hosts:
        for label, pod in traffic.pods(host).items():
            shown = site.on(host, "nsenter", f"--net={pod['netns']}", "ip", "link", "show", "eth0")
            assert f" mtu {step.mtu} " in shown, (host, label, shown)
        ports = [
            one["mtu"]
            for one in site.json_on(host, "ip", "-json", "link", "show", "master", "cni0")
        ]
        assert ports == [step.mtu] * 2


@pytest.mark.parametrize("name", FRESH)
def test_the_state_is_that_of_fresh_hosts(
    site: Site, traffic: Traffic, reached: States, name: str
) -> None:
    if traffic.stop().failures:
        pytest.fail(traffic.result.table())
    site.reset()
    site.set(**STEPS[name].variables)
    site.site()
    fresh = site.info()
    for host, state in fresh.items():
        before = {**reached[name][host], "ports": {}}
        assert before == state, host

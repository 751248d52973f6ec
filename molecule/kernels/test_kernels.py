"""A network on kernels of Debian's releases: every switch under traffic, a reboot, WireGuard.

What such a kernel cannot and the machine's own can is the point: Linux before 6.2 does not rename a
device that is up. What it can and the machine's cannot, too: WireGuard.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.scenario.cluster import Cluster
from tests.scenario.furnish import furnish
from tests.scenario.site import Site
from tests.traffic import Traffic


class Step(NamedTuple):
    """What the user writes, and the device that routes then take."""

    variables: dict[str, Any]
    via: str
    arguments: tuple[str, ...] = ()


#: All that a node has of IPv4 is taken from the inventory, so the underlay is of IPv6.
IPV6 = {"podnet_node_ip": "", "ansible_host": "{{ podnet_node_ip6.split('/')[0] }}"}

WIREGUARD = {"backend": "wireguard"}

STEPS: dict[str, Step] = {
    "host-gw": Step({"backend": "host-gw"}, "host0"),
    "vxlan": Step({}, "flannel.1"),
    # The device keeps its name, so the old one must make way while it is up.
    "port": Step({"vxlan_port": 4789}, "flannel.1"),
    "device": Step({"vxlan_port": 4789, "vxlan_device": "pods"}, "pods"),
    "VNI and MTU": Step({"vxlan_vni": 7, "mtu": 1300}, "flannel.7"),
    "underlay of another family": Step({"vxlan_vni": 7}, "flannel.7", ("-e", json.dumps(IPV6))),
    "direct routing": Step({"direct_routing": True}, "host0"),
    "wireguard": Step(WIREGUARD, "flannel-wg"),
    "wireguard's port": Step({**WIREGUARD, "wireguard_port": 4000}, "flannel-wg"),
}

#: What `make test` goes through; `make test-kernels` sets PODNET_KERNELS, and all are.
SHORT = ("port", "wireguard")

FULL = os.environ.get("PODNET_KERNELS") == "all"


@pytest.fixture(scope="module")
def site(cluster: Cluster) -> Iterator[Site]:
    made = Site(cluster.lab)
    with made.strict(), made.restored():
        yield made


@pytest.fixture(scope="module")
def traffic(site: Site) -> Iterator[Traffic]:
    # The watch itself takes an emulated processor time.
    watched = Traffic(site.lab, pods=("a",), interval=0.05, underlay=False, warm_up=60.0)
    with watched:
        yield watched


def test_the_hosts_run_a_kernel_of_their_own(site: Site) -> None:
    for host in site.hosts:
        assert site.on(host, "uname", "-r").strip() != platform.release()


@pytest.mark.parametrize("name", STEPS if FULL else SHORT)
def test_a_switch_is_not_felt(site: Site, traffic: Traffic, name: str) -> None:
    step = STEPS[name]
    site.set(**step.variables)
    assert site.site(*step.arguments).changed_hosts == set(site.hosts)
    for host in site.hosts:
        shown = site.json_on(host, "ip", "-json", "route", "show", "proto", "112")
        assert [route["dev"] for route in shown] == [step.via], (host, shown)
    assert site.site(*step.arguments).changed_hosts == set()
    report = traffic.report()
    print(report.table())
    traffic.forget()
    report.demand_none_lost(name)


def test_the_kernels_wireguard_serves(site: Site, traffic: Traffic) -> None:
    for host in site.hosts:
        assert site.link(host, "flannel-wg")["linkinfo"]["info_kind"] == "wireguard"
        assert not site.on(host, "sh", "-c", "pgrep wireguard-go || true")
    if FULL:
        before = {one["key"] for one in site.allocations().values()}
        assert site.site("-e", "podnet_wireguard_rotate=true").changed_hosts == set(site.hosts)
        assert not before & {one["key"] for one in site.allocations().values()}
        traffic.report().demand_none_lost("rotation")


@pytest.mark.parametrize("backend", ["wireguard", "vxlan"] if FULL else ["wireguard"])
def test_a_boot_needs_no_controller(site: Site, traffic: Traffic, backend: str) -> None:
    # Its pods would die with the hosts and leave their leases.
    traffic.stop()
    site.set(backend=backend)
    site.site()
    for host in site.hosts:
        site.lab.reboot(host)
        site.on(host, "systemctl", "is-system-running", "--wait", ok=False)
        furnish(site.lab, host)
    site.verify()
    assert site.site().changed_hosts == set()

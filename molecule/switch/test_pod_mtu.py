"""A pod born with 1500 bytes under host-gw, after the switch to VXLAN, where no ICMP helps it.

Hosts that filter "fragmentation needed" (RFC 1191, RFC 8201) leave a pod no way to learn that its
packets are too large: then only its own MTU helps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.scenario.cluster import Cluster
from tests.scenario.site import Site
from tests.traffic import Traffic

FILTER = "table inet no-icmp {\n" + "".join(
    f"chain {hook} {{ type filter hook {hook} priority -300; "
    "icmp type destination-unreachable icmp code frag-needed drop; "
    "icmpv6 type packet-too-big drop; }\n"
    for hook in ("input", "forward", "output")
)


@pytest.fixture
def site(cluster: Cluster) -> Iterator[Site]:
    made = Site(cluster.lab)
    made.set(backend="host-gw")
    made.site()
    for host in made.hosts:
        made.on(host, "nft", "-f", "-", stdin=FILTER + "}\n")
    try:
        yield made
    finally:
        made.on_all("nft", "delete", "table", "inet", "no-icmp")
        made.variables_file.unlink()
        made.site()


def inside(pod: dict[str, Any], *argv: str) -> list[str]:
    return ["nsenter", f"--net={pod['netns']}", *argv]


def bytes_of(site: Site, pod: dict[str, Any], address: str, *options: str) -> list[int]:
    """Return the bytes that an iperf3 client's flow got across in each half second."""
    client = inside(pod, "iperf3", "-J", "-c", address, "-i", "0.5", *options)
    done = json.loads(site.lab.run("n1", client, check=False, timeout=90).stdout)
    assert "error" not in done, done["error"]
    return [int(one["sum"]["bytes"]) for one in done["intervals"]]


def test_a_pod_born_with_1500_goes_on_where_icmp_is_filtered(site: Site) -> None:
    with Traffic(site.lab, ["n1", "n2"]) as traffic:
        # The pods without a name: only a process holds their namespaces.
        one, two = traffic.pods("n1")["b"], traffic.pods("n2")["b"]
        assert (one["mtu"], two["mtu"]) == (1500, 1500)
        server = ["systemd-run", "--unit=iperf", "--collect", *inside(two, "iperf3", "-s")]
        site.on("n2", *server)
        try:
            for family, headers in (("4", 28), ("6", 48)):
                address = two["addresses"][family]
                assert min(bytes_of(site, one, address, "-t", "1")) > 1_000_000
                site.set(backend="host-gw")
                bulk_through_a_switch(site, one, address)
                for pod, host in ((one, "n1"), (two, "n2")):
                    link = site.on(host, *inside(pod, "ip", "link", "show", "eth0"))
                    assert " mtu 1450 " in link
                assert min(bytes_of(site, one, address, "-t", "1")) > 1_000_000
                # Full packets, as many as arrive: received, not only sent.
                udp = ["-u", "-b", "20M", "-l", str(1450 - headers), "-t", "1"]
                assert received(site, one, address, *udp) > 1_000_000
                site.set(backend="host-gw")
                site.site()
            assert not traffic.report().failures, traffic.report().table()
            # And this is what it would have been: the pods still send 1500 bytes.
            site.set()
            site.site()
            for pod, host in ((one, "n1"), (two, "n2")):
                site.on(host, *inside(pod, "ip", "link", "set", "eth0", "mtu", "1500"))
            stuck = bytes_of(site, one, two["addresses"]["4"], "-t", "2")
            assert min(stuck[1:]) == 0, stuck
        finally:
            site.on("n2", "systemctl", "stop", "iperf")


def received(site: Site, pod: dict[str, Any], address: str, *options: str) -> int:
    """Return the bytes of a flow that arrived."""
    client = inside(pod, "iperf3", "-J", "-c", address, *options)
    done = json.loads(site.lab.run("n1", client, timeout=60).stdout)
    total = done["end"]["sum"]
    return int(total["bytes"] * (1 - total["lost_percent"] / 100))


def bulk_through_a_switch(site: Site, pod: dict[str, Any], address: str) -> None:
    """Switch to VXLAN while a bulk TCP stream runs; demand that it never stands still for long."""
    unit = "iperf-client"
    client = inside(pod, "iperf3", "-J", "-c", address, "-i", "0.5", "-b", "50M", "-t", "600")
    site.on("n1", "sh", "-c", "rm -f /run/iperf.json")
    site.on(
        "n1",
        *(
            "systemd-run",
            f"--unit={unit}",
            "--collect",
            "-p",
            "StandardOutput=file:/run/iperf.json",
        ),
        *("-p", "KillSignal=SIGINT", *client),
    )
    try:
        site.set()
        site.site()
    finally:
        # iperf3 prints its report when it is interrupted.
        site.on("n1", "systemctl", "stop", unit)
    report = json.loads(site.on("n1", "cat", "/run/iperf.json"))
    flow = [int(one["sum"]["bytes"]) for one in report["intervals"][:-1]]
    assert len(flow) > 4
    assert min(flow) > 100_000, flow

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
    with made.restored():
        made.set(backend="host-gw")
        made.site()
        for host in made.hosts:
            made.on(host, "nft", "-f", "-", stdin=FILTER + "}\n")
        try:
            yield made
        finally:
            made.on_all("nft", "delete", "table", "inet", "no-icmp")


def inside(pod: dict[str, Any], *argv: str) -> list[str]:
    return ["nsenter", f"--net={pod['netns']}", *argv]


def set_mtu(site: Site, traffic: Traffic, mtu: str) -> None:
    for host in ("n1", "n2"):
        pod = traffic.pods(host)["b"]
        site.on(host, *inside(pod, "ip", "link", "set", "eth0", "mtu", mtu))


class Flow:
    """Flows from n1's pod to n2's over one family, with a server of its own."""

    def __init__(self, site: Site, traffic: Traffic, family: str) -> None:
        self._site = site
        self._from, to = traffic.pods("n1")["b"], traffic.pods("n2")["b"]
        # The pods without a name: only a process holds their namespaces.
        assert (self._from["mtu"], to["mtu"]) == (1500, 1500)
        port = f"520{family}"
        self.unit = f"iperf-{family}"
        self.payload = 1450 - (28 if family == "4" else 48)
        self._to = ["-J", "-p", port, "-c", to["addresses"][family], "-i", "0.5"]
        self._run("n2", inside(to, "iperf3", "-s", "-p", port))

    def _run(self, host: str, argv: list[str], *options: str) -> None:
        systemd_run = ["systemd-run", f"--unit={self.unit}", "--collect", *options]
        self._site.on(host, *systemd_run, *argv)

    def stop(self) -> None:
        """End the server."""
        self._site.on("n2", "systemctl", "stop", self.unit)

    def ask(self, *options: str) -> dict[str, Any]:
        """Run a client; return iperf3's report."""
        client = inside(self._from, "iperf3", *self._to, *options)
        report: dict[str, Any] = json.loads(self._site.lab.run("n1", client, timeout=90).stdout)
        return report

    def begin(self) -> None:
        """Start a bulk TCP stream."""
        output = f"StandardOutput=truncate:/run/{self.unit}.json"
        client = inside(self._from, "iperf3", *self._to, "-b", "50M", "-t", "600")
        # iperf3 prints its report when it is interrupted.
        self._run("n1", client, "-p", output, "-p", "KillSignal=SIGINT")

    def end(self) -> list[int]:
        """End that stream; return the bytes of each half second."""
        self._site.on("n1", "systemctl", "stop", self.unit)
        report = self._site.on("n1", "cat", f"/run/{self.unit}.json")
        self._site.on("n1", "rm", f"/run/{self.unit}.json")
        return carried(json.loads(report))[:-1]


def carried(report: dict[str, Any]) -> list[int]:
    return [int(one["sum"]["bytes"]) for one in report["intervals"]]


def test_a_pod_born_with_1500_goes_on_where_icmp_is_filtered(site: Site) -> None:
    with Traffic(site.lab, ["n1", "n2"]) as traffic:
        flows = [Flow(site, traffic, family) for family in ("4", "6")]
        try:
            for flow in flows:
                flow.begin()
            site.set()
            site.site()
            for through in [flow.end() for flow in flows]:
                assert len(through) > 4
                assert min(through) > 100_000, through
            for flow in flows:
                assert min(carried(flow.ask("-t", "1"))) > 1_000_000
                # Full packets; what counts is what arrived.
                udp = flow.ask("-u", "-b", "20M", "-l", str(flow.payload), "-t", "1")
                total = udp["end"]["sum"]
                assert total["bytes"] * (1 - total["lost_percent"] / 100) > 1_000_000
            assert not traffic.report().failures, traffic.report().table()
            # This is what it would have been, had the pods not followed.
            set_mtu(site, traffic, "1500")
            assert min(carried(flows[0].ask("-t", "2"))[1:]) == 0
            set_mtu(site, traffic, "1450")
        finally:
            for flow in flows:
                flow.stop()

"""What others do to a host, and when pods are whole again: docs/living-with-others.md says it.

A static endpoint a host stands for its pods; one host suffers, the other looks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from lab.addresses import OUTSIDE
from tests.scenario.cluster import Cluster
from tests.scenario.furnish import furnish

#: Seconds. What is whole "at once" is so before anybody looks; networkd itself needs one or two.
AT_ONCE, NETWORKD, INTERVAL = 1.0, 4.0, 5.0 + 4.0

#: Sorted before and after podnet's own file.
_SYSCTL = "net.ipv4.conf.all.rp_filter = 1\\nnet.ipv4.conf.default.rp_filter = 1\\n"
_HOSTILE = (
    f"printf '{_SYSCTL}net.ipv4.ip_forward = 0\\n' >/etc/sysctl.d/50-hardened.conf; "
    f"printf '{_SYSCTL}' >/etc/sysctl.d/99-hardened.conf; sysctl -q --system 2>/dev/null || true"
)


class Event(NamedTuple):
    """What is done on the host, and the seconds until pods must work again."""

    command: str
    within: float
    backend: str = "vxlan"


_DROP = "iptables-nft -P FORWARD DROP"
_CHAIN = "table inet theirs { chain f { type filter hook forward priority 0; }; }\\n"
_WALL = _CHAIN.replace("theirs", "wall").replace("0;", "0; policy drop;")
#: As an installation does it: it finds networkd's interface unmanaged or not, and all others.
_MANAGER = "systemctl start NetworkManager; nm-online -q -t 5 || true"
_CABLE = "ip link set host0 down; sleep 1; ip link set host0 up"

# fmt: off
EVENTS = {
    "networkctl reload": Event("networkctl reload", AT_ONCE),
    "networkctl reconfigure, vxlan": Event("networkctl reconfigure host0", NETWORKD),
    "networkd restarted, vxlan": Event("systemctl restart systemd-networkd", AT_ONCE),
    "udevd restarted": Event("systemctl restart systemd-udevd; udevadm trigger || true", AT_ONCE),
    "sysctl --system": Event(_HOSTILE, AT_ONCE),
    "NetworkManager starts": Event(_MANAGER, AT_ONCE),
    "NetworkManager restarts": Event("systemctl restart NetworkManager", AT_ONCE),
    "nft flush ruleset": Event("nft flush ruleset", INTERVAL),
    "another ruleset is loaded": Event(f"printf 'flush ruleset\\n{_CHAIN}' | nft -f -", INTERVAL),
    "devices deleted": Event("ip link del flannel.1", INTERVAL),
    "iptables -P FORWARD DROP": Event(f"{_DROP}; ip6tables-nft -P FORWARD DROP", INTERVAL),
    "our rules in it flushed": Event("iptables-nft -F FORWARD", INTERVAL),
    "iptables-legacy -P FORWARD DROP": Event("iptables-legacy -P FORWARD DROP", INTERVAL),
    "nft policy drop": Event(f"printf '{_WALL}' | nft -f -", INTERVAL),
    "networkctl reconfigure, host-gw": Event("networkctl reconfigure host0", NETWORKD, "host-gw"),
    "networkd restarted, host-gw": Event("systemctl restart systemd-networkd", AT_ONCE, "host-gw"),
    "the link goes and comes, host-gw": Event(_CABLE, INTERVAL, "host-gw"),
}
# fmt: on


@pytest.fixture(scope="module", autouse=True)
def leave_nothing(cluster: Cluster) -> Iterator[None]:
    """Return the host to what it was, for the tests that all scenarios share."""
    yield
    cluster.on("n1", "systemctl", "stop", "NetworkManager")
    cluster.reset()
    cluster.on("n1", "sh", "-c", "rm -f /etc/sysctl.d/*-hardened.conf")
    cluster.lab.reboot("n1")
    furnish(cluster.lab, "n1")
    cluster.site()


def targets(cluster: Cluster) -> list[tuple[str, str]]:
    """Return (host, address) of pings that prove pods: both ways, both families, and outside."""
    result = [("n1", OUTSIDE)]
    for host, peer in (("n1", "n2"), ("n2", "n1")):
        links = cluster.json_on(peer, "ip", "-n", "web", "-j", "addr", "show", "dev", "eth0")
        result += [
            (host, one["local"]) for one in links[0]["addr_info"] if one["scope"] == "global"
        ]
    return result


def broken(cluster: Cluster, pings: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return which of the pings get no answer."""
    return [
        (host, address)
        for host, address in pings
        if cluster.lab.run(
            host,
            ["ip", "netns", "exec", "web", "ping", "-n", "-c1", "-W1", address],
            check=False,
        ).returncode
    ]


@pytest.fixture(scope="module")
def reached(cluster: Cluster) -> list[str]:
    """The backend that the hosts have, once one was asked for."""
    return []


def test_firewalld_forwards_for_pods(cluster: Cluster) -> None:
    cluster.site()
    pings = targets(cluster)
    assert broken(cluster, pings) == []
    policy = "/etc/firewalld/policies/pn-podnet.xml"
    try:
        # With the file in place before it starts ...
        cluster.on("n1", "systemctl", "start", "firewalld")
        # Which hosts may send to which stays its owner's business.
        zone = ("firewall-cmd", "--permanent", "--zone=public")
        for option in ("--add-port=8472/udp", "--remove-forward"):
            cluster.on("n1", *zone, option)
        cluster.on("n1", "firewall-cmd", "--reload")
        assert broken(cluster, pings) == []
        # ... and with one that runs already and drops, as it would without the file.
        cluster.on("n1", "rm", policy)
        cluster.on("n1", "firewall-cmd", "--reload")
        assert broken(cluster, pings) != []
        assert cluster.site().changed_hosts == {"n1"}
        assert broken(cluster, pings) == []
        cluster.site("-e", "podnet_manage_forward=false")
        assert broken(cluster, pings) != []
        cluster.site()
        assert broken(cluster, pings) == []
    finally:
        cluster.on("n1", "sh", "-c", "systemctl stop firewalld; rm -f /etc/firewalld/zones/*")
    assert broken(cluster, pings) == []


@pytest.mark.parametrize("name", EVENTS)
def test_pods_are_whole_again(
    cluster: Cluster, reached: list[str], name: str, record_property: Callable[[str, str], None]
) -> None:
    event = EVENTS[name]
    arguments = ("-e", f"podnet_backend={event.backend}")
    if reached[-1:] != [event.backend]:
        cluster.site(*arguments)
        reached.append(event.backend)
    pings = targets(cluster)
    assert broken(cluster, pings) == []
    cluster.on("n1", "sh", "-c", event.command)
    begin = time.monotonic()
    while True:
        taken = time.monotonic() - begin
        still = broken(cluster, pings)
        if not still:
            break
        assert taken < event.within, (still, cluster.on("n1", "journalctl", "-n20", "--no-pager"))
    record_property("whole again after seconds", f"{taken:.1f}")

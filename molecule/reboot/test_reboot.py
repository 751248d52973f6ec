"""All hosts reboot at once without a controller: the network comes back as it was."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.scenario.cluster import Cluster
from tests.scenario.furnish import furnish


def reboot_all(cluster: Cluster) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(cluster.lab.reboot, cluster.hosts))
    for host in cluster.hosts:
        wait_active(cluster, host)


def wait_active(cluster: Cluster, host: str) -> None:
    deadline = time.monotonic() + 60
    while cluster.on(host, "systemctl", "is-active", "podnet@podnet", ok=False) != "active\n":
        assert time.monotonic() < deadline, cluster.on(host, "systemctl", "status", "podnet@*")
        time.sleep(0.2)


def wait_for_ping(cluster: Cluster, host: str, address: str) -> None:
    """Wait until a host's endpoint reaches an address."""
    ping = ("ip", "netns", "exec", "web", "ping", "-c1", "-W2", address)
    deadline = time.monotonic() + 60
    while cluster.lab.run(host, ping, check=False).returncode:
        assert time.monotonic() < deadline, cluster.on(host, "systemctl", "status", "podnet*")
        time.sleep(0.2)


@pytest.fixture(scope="module", autouse=True)
def furnish_again(cluster: Cluster) -> Iterator[None]:
    """Put back what else was in the kernels, for the tests that all scenarios share."""
    yield
    for host in cluster.hosts:
        furnish(cluster.lab, host)


def endpoint(cluster: Cluster, host: str) -> list[str]:
    """Return the addresses of a host's static endpoint."""
    links = cluster.json_on(host, "ip", "-n", "web", "-j", "addr", "show", "dev", "eth0")
    return [one["local"] for one in links[0]["addr_info"] if one["scope"] == "global"]


#: It gives the host its network only when the boot is over, on an interface of another name: a boot
#: that waited for the network would never be over.
_LATE = """
set -e
cp /etc/systemd/network/10-host0.network /root/
cat >/etc/systemd/system/late.service <<'EOF'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/sh /root/late
[Install]
WantedBy=multi-user.target
EOF
cat >/root/late <<'EOF'
mkdir -p /run/systemd/network
systemctl show -P ActiveState podnet@podnet containerd multi-user.target | xargs >/root/found
mv /root/10-host0.network /etc/systemd/network/
ip link set host0 down
ip link set host0 name lan0
sed s/host0/lan0/ /etc/systemd/network/10-host0.network >/run/systemd/network/10-lan0.network
networkctl reload
ip link set lan0 up
EOF
printf '[Match]\\nName=host0\\n[Network]\\nLinkLocalAddressing=ipv6\\n' \
  >/etc/systemd/network/10-host0.network
systemctl -q enable late containerd
"""


def test_a_network_that_comes_when_the_boot_is_over_is_waited_for(cluster: Cluster) -> None:
    arguments = ("-e", "podnet_backend=host-gw")
    cluster.site(*arguments)
    host, peer = cluster.hosts[:2]
    cluster.lab.run(host, ["sh", "-c", _LATE])
    cluster.lab.reboot(host)
    for other, target in ((host, peer), (peer, host)):
        for address in endpoint(cluster, target):
            wait_for_ping(cluster, other, address)
    # What starts pods was not held up, and the unit said that the network was not there.
    assert cluster.on(host, "cat", "/root/found").split() == ["failed", "active", "active"]
    wait_active(cluster, host)
    assert " dev lan0 " in cluster.on(host, "ip", "route", "show", "proto", "112")
    cluster.on(host, "systemctl", "-q", "disable", "late", "containerd")
    cluster.on(host, "rm", "/etc/systemd/system/late.service", "/root/late", "/root/found")
    cluster.lab.reboot(host)
    cluster.demand_clean(*arguments)


# The scenario's own backend comes last, for the tests that all scenarios share.
@pytest.mark.parametrize("backend", ["host-gw", "vxlan"])
def test_all_hosts_come_back_without_a_controller(cluster: Cluster, backend: str) -> None:
    arguments = ("-e", f"podnet_backend={backend}")
    cluster.site(*arguments)
    reboot_all(cluster)
    # Pods made afterwards, both families, full size.
    cluster.verify(*arguments)
    for host in cluster.hosts:
        for peer in cluster.hosts:
            addresses = endpoint(cluster, peer)
            assert len(addresses) == 2
            for address in addresses:
                ping = ("ip", "netns", "exec", "web", "ping", "-c1", "-W2", address)
                assert cluster.lab.run(host, ping, check=False).returncode == 0, (host, address)
    assert cluster.site(*arguments).changed_hosts == set()
    cluster.demand_clean(*arguments)


def test_the_unit_is_right_and_says_what_it_did(cluster: Cluster) -> None:
    host = cluster.hosts[0]
    done = cluster.lab.run(
        host, ["systemd-analyze", "verify", "podnet@podnet.service"], check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    journal = cluster.on(host, "journalctl", "-b", "-o", "cat", "-u", "podnet@podnet")
    assert "> link cni0" in journal
    # One service at least must be ordered after it: pods need the bridge.
    before = cluster.on(host, "systemctl", "show", "-P", "Before", "podnet@podnet")
    assert "containerd.service" in before

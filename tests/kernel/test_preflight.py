"""What would fail half-way is found before anything is changed: real kernels, real messages."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from podnet.backends.planners import PLANNERS

from tests.kernel.netns_hosts import Host, hosts
from tests.kernel.test_network import (
    HEAD,
    applied,
    converge,
    document,
    pod,
    remove,
    snapshot,
)

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]


@pytest.fixture(scope="module")
def pair() -> Iterator[list[Host]]:
    with hosts(2, bare=True) as made:
        yield made


def look(host: Host, plan: str) -> dict[str, Any]:
    """Return what podnet_info says of a plan: {"pending", "warnings"} or {"error"}."""
    code = f"""{HEAD}
try:
    counts, warnings = info.pending(plan_from_text({plan!r}), {host.name!r}, "none")
    print(json.dumps({{"pending": counts, "warnings": warnings}}))
except PodnetError as error:
    print(json.dumps({{"error": str(error)}}))
"""
    result: dict[str, Any] = host.python(code)
    return result


class Row(NamedTuple):
    """What is done to the host and taken back, the plan's own, and words of the message."""

    before: str
    after: str
    words: list[str]
    plan: dict[str, Any] = {}  # noqa: RUF012


#: An `ip` that knows no devices of one type, and a /sys that does not show the module.
_NO_VXLAN = """
cp $(command -v ip) /run/ip.real
cat >/run/ip.less <<'END'
#!/bin/sh
if [ "$1 $2" = "-batch -" ]; then
    cat >/run/ip.stdin
    ! grep -q 'podnet-try type vxlan' /run/ip.stdin || { echo 'Error: Unknown device type.' >&2; exit 2; }
    exec /run/ip.real "$@" </run/ip.stdin
fi
exec /run/ip.real "$@"
END
chmod +x /run/ip.less
mount --bind /run/ip.less $(readlink -f $(command -v ip))
mount -t tmpfs tmpfs /sys/module
"""
_SOCKET = (
    "python3 -c 'import socket, time; s = socket.socket(socket.{family}, socket.SOCK_DGRAM);"
    ' s.bind(("{address}", 8472)); open("/run/bound", "w"); time.sleep(600)\' >/dev/null 2>&1 &'
    " echo $! >/run/holder; until [ -e /run/bound ]; do :; done"
)
_NO_SOCKET = "kill $(cat /run/holder); rm /run/bound /run/holder"

ROWS = {
    "a kernel without vxlan": Row(
        _NO_VXLAN,
        "umount /sys/module; umount $(readlink -f $(command -v ip))",
        ["the kernel (", "no VXLAN", "podnet_backend to host-gw"],
    ),
    "an external device of another CNI": Row(
        "ip link add cilium type vxlan external dstport 8472; ip link set cilium up",
        "ip link del cilium",
        ["cilium", "UDP port 8472", "external", "podnet_vxlan_port"],
    ),
    "a device with group policy": Row(
        "ip link add gbp0 type vxlan id 9 dstport 8472 gbp; ip link set gbp0 up",
        "ip link del gbp0",
        ["gbp0", "(gbp)"],
    ),
    "a device with the same VNI and port": Row(
        "ip link add vx0 type vxlan id 1 dstport 8472",
        "ip link del vx0",
        ["vx0", "VNI 1 and port 8472"],
    ),
    "a socket on the port": Row(
        _SOCKET.format(family="AF_INET", address="0.0.0.0"),
        _NO_SOCKET,
        ["UDP port 8472 is in use by process", "(python3)"],
    ),
    "a socket of one address": Row(
        _SOCKET.format(family="AF_INET", address="192.0.2.11"),
        _NO_SOCKET,
        ["UDP port 8472 is in use by process"],
    ),
    "a socket of both families": Row(
        _SOCKET.format(family="AF_INET6", address="::"),
        _NO_SOCKET,
        ["UDP port 8472 is in use by process"],
    ),
    "IPv6 off for new devices": Row(
        "sysctl -qw net.ipv6.conf.default.disable_ipv6=1",
        "sysctl -qw net.ipv6.conf.default.disable_ipv6=0",
        ["net.ipv6.conf.default.disable_ipv6=1", "podnet_cluster_cidr6"],
    ),
    "IPv6 off on the underlay that host-gw needs": Row(
        # In truth the address would be gone with it, and the look would say that.
        "echo 1 >/run/off; mount --bind /run/off /proc/sys/net/ipv6/conf/eth0/disable_ipv6",
        "umount /proc/sys/net/ipv6/conf/eth0/disable_ipv6",
        ["net.ipv6.conf.eth0.disable_ipv6=1"],
        {"backend": "host-gw"},
    ),
    "/etc read-only": Row(
        "mount -o remount,ro,bind /etc 2>/dev/null || mount -o remount,ro /etc",
        "mount -o remount,rw,bind /etc 2>/dev/null || mount -o remount,rw /etc",
        ["/etc", "read-only"],
    ),
    "/etc/systemd/system full": Row(
        "mkdir -p /etc/systemd/system; mount -t tmpfs -o size=64k tmpfs /etc/systemd/system;"
        " dd if=/dev/zero of=/etc/systemd/system/x bs=1k count=64 2>/dev/null || true",
        "umount /etc/systemd/system",
        ["/etc/systemd/system", "no space is left"],
    ),
    "hardly any room for the CNI file": Row(
        "mkdir -p /etc/cni/net.d; mount -t tmpfs -o size=32k tmpfs /etc/cni/net.d",
        "umount /etc/cni/net.d; rm -r /etc/cni",
        ["/etc/cni/net.d", "KiB are free"],
    ),
    "no inodes for the state": Row(
        "mkdir -p /etc/podnet; mount -t tmpfs -o nr_inodes=2 tmpfs /etc/podnet",
        "umount /etc/podnet; rmdir /etc/podnet",
        ["/etc/podnet", "no inodes"],
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_refused_with_the_object_and_the_way_out(pair: list[Host], name: str) -> None:
    host, row = pair[0], ROWS[name]
    plan = document(2, **row.plan)
    host.run("sh", "-ec", row.before)
    try:
        was = snapshot(host)
        found = look(host, plan)
        assert "error" in found, found
        assert [word for word in ["n1", *row.words] if word not in found["error"]] == [], found
        assert snapshot(host) == was
    finally:
        host.run("sh", "-ec", row.after)
    assert "error" not in look(host, plan), look(host, plan)


def test_all_of_a_host_s_problems_at_once(pair: list[Host]) -> None:
    host = pair[0]
    host.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    host.ip("link add vx0 type vxlan id 1 dstport 8472")
    host.ip("link add cni0 type bridge")
    host.ip("route add 10.244.1.0/24 via 192.0.2.1")
    try:
        said = look(host, document(2))["error"]
    finally:
        host.ip("route del 10.244.1.0/24")
        host.ip("link del cni0")
        host.ip("link del vx0")
        host.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=0")
    assert said.startswith("n1: 4 things are in the way:\n")
    for word in ("cni0", "vx0", "disable_ipv6", "10.244.1.0/24"):
        assert word in said


def test_devices_that_share_the_port_are_in_nobody_s_way(pair: list[Host]) -> None:
    host = pair[0]
    host.ip("link add vx2 type vxlan id 2 dstport 8472")
    host.ip("link set vx2 up")
    try:
        applied(host, document(2))
        assert applied(host, document(2))["lines"] == []
    finally:
        remove(host)
        host.ip("link del vx2")


#: An `ip` of a kernel before 6.2.
_OLD_KERNEL = """
cp $(command -v ip) /run/ip.real
cat >/run/ip.old <<'END'
#!/bin/sh
case "$*" in *"-batch -"*)
    cat >/run/ip.stdin
    ! grep -q ' name ' /run/ip.stdin || { echo 'RTNETLINK answers: Device or resource busy' >&2; exit 2; }
    exec /run/ip.real "$@" </run/ip.stdin;;
esac
exec /run/ip.real "$@"
END
chmod +x /run/ip.old
mount --bind /run/ip.old $(readlink -f $(command -v ip))
"""


def test_a_rename_that_the_kernel_refuses_is_gone_around(pair: list[Host]) -> None:
    host = pair[0]
    applied(host, document(2))
    host.run("sh", "-ec", _OLD_KERNEL)
    try:
        for changes, words in (
            ({"device": "ov-1"}, ["flannel.1 would have to become ov-1", "Keep podnet_vxlan_dev"]),
            # Another name and another port at once need no rename.
            ({"port": 8500}, []),
            ({"port": 8600}, ["flannel.1 has to stand beside", "podnet_vxlan_device to another"]),
        ):
            was, wanted = snapshot(host), document(2, **changes)
            asked = look(host, wanted)["pending"]
            assert (asked["switching"], asked["detour"]) == (True, bool(words))
            if words:
                said = converge(host, wanted, "prepare")["error"]
                assert [word for word in words if word not in said] == [], said
                assert snapshot(host) == was
            own = {"vni": 1, "port": 8472, **changes}
            detour = document(2, **PLANNERS["vxlan"].detour({**own, "device": "flannel.1"}))
            for plan in (detour, wanted) if words else (wanted,):
                for phase in ("prepare", "shift", "commit"):
                    applied(host, plan, phase)
            assert look(host, wanted)["pending"]["total"] <= 2  # CNI file and plugins
            assert "podnet-detour" not in host.run("ip", "link")
    finally:
        host.run("sh", "-ec", "umount $(readlink -f $(command -v ip))")
        remove(host)


@pytest.mark.parametrize("name", ["x'y\"z", "eth0@if9", "$(reboot)", b"\xff\xfe".decode("latin1")])
def test_an_odd_device_name_in_a_pod_blocks_no_switch(pair: list[Host], name: str) -> None:
    host = pair[0]
    applied(host, document(2))
    pod(host, 0)
    raw = name.encode("latin1")
    try:
        host.ip("-n pod link set eth0 down")
        host.run("sh", "-c", 'ip -n pod link set eth0 name "$(cat)"', stdin=raw)
        host.run("sh", "-c", 'ip -n pod link set "$(cat)" up', stdin=raw)
        small = document(2, backend="vxlan", mtu="1300")
        for phase in ("prepare", "shift", "commit"):
            applied(host, small, phase)
        shown = host.run("ip", "-n", "pod", "-o", "link", "show", "type", "veth")
        assert " mtu 1300 " in shown
        assert applied(host, small)["lines"] == []
    finally:
        host.ip("netns del pod")
        remove(host)


def test_room_for_neighbours_is_made_and_given_back(pair: list[Host]) -> None:
    """The kernel's limits are the machine's: files that stand for them, seen by this host alone."""
    host = pair[0]
    directory = "/proc/sys/net/ipv4/neigh/default"
    host.run(
        "sh",
        "-ec",
        f"mount -t tmpfs tmpfs /proc/sys/net/ipv4/neigh; mkdir {directory} {directory}/../cni0;"
        f" for n in 1:32 2:64 3:128; do echo ${{n#*:}} >{directory}/gc_thresh${{n%:*}}; done;"
        f" for n in delay_first_probe_time locktime mcast_resolicit ucast_solicit;"
        f" do echo 1 >{directory}/../cni0/$n; done",
    )

    def limits() -> list[str]:
        return host.run("sh", "-c", f"grep -h . {directory}/gc_thresh[123]").split()

    try:
        plain = document(2, six=False)
        [warning] = [one for one in look(host, plain)["warnings"] if "gc_thresh3" in one]
        assert "holds 128 entries" in warning
        assert "podnet_manage_neighbours" in warning
        managed = json.loads(plain)
        managed["nodes"][0]["manage_neighbours"] = True
        text = json.dumps(managed)
        applied(host, text)
        assert limits() == ["256", "512", "1024"]
        assert applied(host, text)["lines"] == []
        applied(host, plain)
        assert limits() == ["32", "64", "128"]
        applied(host, text)
        remove(host)
        assert limits() == ["32", "64", "128"]
    finally:
        host.run("umount", "/proc/sys/net/ipv4/neigh")


def test_another_port_is_no_switch_where_nothing_uses_it(pair: list[Host]) -> None:
    host = pair[0]
    applied(host, document(2, backend="host-gw"))
    try:
        # As an earlier podnet has recorded it, with what host-gw does not use.
        for changes in (
            {"port": 9000},
            {"vni": 7, "device": "flannel.7"},
            {"direct_routing": True},
        ):
            host.python(
                "import json; from pathlib import Path\n"
                "file = Path('/etc/podnet/podnet/record.json'); record = json.loads(file.read_text())\n"
                f"record['parameters'].update({changes!r})\n"
                "file.write_text(json.dumps(record)); print('null')"
            )
            again = applied(host, document(2, backend="host-gw"))
            assert not again["switching"]
            assert applied(host, document(2, backend="host-gw"))["lines"] == []
        assert converge(host, document(2, port=9000), check=True)["switching"]
    finally:
        remove(host)

"""Every variable at a value that is not the default, and each has its effect.

tests/unit/test_variables.py demands that none is forgotten here.
"""

from __future__ import annotations

import json

import yaml

from tests.scenario.cluster import Cluster


def test_subnets(cluster: Cluster) -> None:
    file = cluster.inventory / "other-podnet_allocations.yml"
    nodes = yaml.safe_load(file.read_text())["podnet_allocations"]["vars"]["nodes"]
    assert nodes == {
        "n1": {"subnet": "100.64.3.0/26", "subnet6": "fd00:100:ff::/56"},
        "n2": {"subnet": "100.64.0.0/26", "subnet6": "fd00:100::/56"},
        "n3": {"subnet": "100.64.0.64/26", "subnet6": "fd00:100:0:100::/56"},
    }
    assert not (cluster.inventory / "podnet_allocations.yml").exists()


def test_devices(cluster: Cluster) -> None:
    for host in cluster.hosts:
        device = cluster.link(host, "ov-4242")
        assert (device["data"]["id"], device["data"]["port"], device["mtu"]) == (4242, 4789, 1400)
        assert cluster.link(host, "br-pods")["mtu"] == 1400
        assert not cluster.has_link(host, "cni0")
        # One segment, direct routing: no packet of a pod is encapsulated.
        assert {route["dev"] for route in cluster.routes(host).values()} == {"host0"}
    assert cluster.link("n2", "ov-4242")["address"] == "02:aa:bb:cc:dd:02"


def test_cni(cluster: Cluster) -> None:
    for host in cluster.hosts:
        conflist = json.loads(cluster.on(host, "cat", "/etc/other/cni/42-pods.conflist"))
        assert conflist["name"] == "other-net"
        assert [plugin["type"] for plugin in conflist["plugins"]] == ["bridge", "portmap", "tuning"]
        assert cluster.on(host, "ls", "/etc/cni/net.d") == "99-other.conflist\n"
        assert "host-local" in cluster.on(host, "ls", "/usr/local/lib/cni")
        # Addresses of pods of the last boot stay.
        assert "leases" not in cluster.on(host, "ls", "/etc/podnet/other-net/boot/").split()


def test_podman_looks_where_the_cni_file_is(cluster: Cluster) -> None:
    for host in cluster.hosts:
        file = "/etc/containers/containers.conf.d/60-podnet-other-net.conf"
        said = cluster.on(host, "cat", file).splitlines()
        assert 'network_backend = "cni"' in said
        assert 'network_config_dir = "/etc/other/cni"' in said


def test_another_cni_file_goes_aside(cluster: Cluster) -> None:
    cluster.on("n1", "tee", "/etc/other/cni/05-theirs.conf", stdin="{}")
    cluster.site()
    aside = "05-theirs.conf.podnet-disabled\n"
    assert cluster.on("n1", "ls", "/etc/other/cni") == f"{aside}42-pods.conflist\n"
    cluster.on("n1", "rm", "/etc/other/cni/05-theirs.conf.podnet-disabled")


def test_reserved_addresses_are_in_no_range(cluster: Cluster) -> None:
    conflist = json.loads(cluster.on("n1", "cat", "/etc/other/cni/42-pods.conflist"))
    four, six = conflist["plugins"][0]["ipam"]["ranges"]
    assert [one["rangeStart"] for one in four] == ["100.64.3.2", "100.64.3.32"]
    assert [one["rangeStart"] for one in six] == ["fd00:100:ff::2", "fd00:100:ff::300"]


def test_endpoints(cluster: Cluster) -> None:
    shown = cluster.on("n1", "ip", "-n", "web", "-4", "address", "show", "dev", "eth0")
    assert "inet 100.64.3.20/26" in shown
    assert "inet 100.64.3." in cluster.on("n1", "ip", "-n", "dns", "-4", "address")
    cluster.on("n3", "ping", "-n", "-c1", "-W2", "100.64.3.20")
    cluster.on("n1", "ip", "netns", "exec", "dns", "ping", "-n", "-c1", "-W2", "100.64.3.20")


def test_no_packet_is_masqueraded(cluster: Cluster) -> None:
    """The router has no route to pods, so it answers only what is masqueraded."""
    ping = ["ip", "netns", "exec", "web", "ping", "-n", "-c1", "-W1", "203.0.113.1"]
    assert cluster.lab.run("n1", ping, check=False).returncode != 0
    cluster.site("-e", "podnet_masquerade=true")
    assert cluster.lab.run("n1", ping, check=False).returncode == 0
    table = cluster.on("n1", "nft", "list", "table", "inet", "other-net")
    assert "ip daddr 198.51.100.0/24 return" in table
    assert "ip6 daddr 2001:db8:51::/48 return" in table
    cluster.site()
    assert cluster.lab.run("n1", ping, check=False).returncode != 0


def test_the_repair_timer(cluster: Cluster) -> None:
    for host in cluster.hosts:
        timers = cluster.on(host, "systemctl", "list-timers", "--all", "--no-legend", "podnet*")
        assert "other-net" in timers, timers


def test_bridged_packets_pass_iptables(cluster: Cluster) -> None:
    for host in cluster.hosts:
        file = cluster.on(host, "cat", "/etc/sysctl.d/95-podnet-other-net.conf")
        assert "net.bridge.bridge-nf-call-iptables = 1" in file


def test_plugins_from_an_archive(cluster: Cluster) -> None:
    """On a host that has none: an archive that the host itself holds, as from a mirror."""
    archive, sums = "/srv/plugins.tgz", set()
    words = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "-C", "/usr/lib/cni", "."]
    for host in cluster.hosts:
        cluster.on(host, "sh", "-c", 'tar -c "$@" | gzip -n > /srv/plugins.tgz', "sh", *words)
        sums.add(cluster.on(host, "sha256sum", archive).split()[0])
        cluster.on(host, "mv", "/usr/lib/cni", "/usr/lib/cni.hidden")
    assert len(sums) == 1
    options = ["-e", "podnet_cni_install=archive", "-e", f"podnet_cni_url=file://{archive}"]
    options += ["-e", f"podnet_cni_checksum=sha256:{sums.pop()}"]
    try:
        cluster.site(*options)
        cluster.verify(*options)
        cluster.demand_clean(*options)
    finally:
        for host in cluster.hosts:
            cluster.on(host, "mv", "/usr/lib/cni.hidden", "/usr/lib/cni")
            cluster.on(host, "rm", archive)
    cluster.site()

"""Addresses of pods of a host that lost its power; the plugins are the release's own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.scenario.cluster import Cluster
from tests.scenario.furnish import furnish

LEASES = "/var/lib/cni/networks/podnet"

#: Runs a plugin with the node's own configuration, as a runtime does: PLUGIN ADD|DEL ID.
_PLUGIN = """
import json, os, subprocess, sys
program, command, name = sys.argv[1:]
found = json.load(open("/etc/cni/net.d/10-podnet.conflist"))
conf = dict(found["plugins"][0], name=found["name"], cniVersion=found["cniVersion"])
env = dict(os.environ, CNI_COMMAND=command, CNI_CONTAINERID=name, CNI_IFNAME="eth0",
           CNI_NETNS="/run/netns/" + name, CNI_PATH="/usr/lib/cni")
done = subprocess.run(["/usr/lib/cni/" + program], input=json.dumps(conf), env=env, text=True,
                      stdout=subprocess.PIPE)
print(done.stdout)
sys.exit(done.returncode)
"""

#: containerd notes which addresses are taken when it starts.
_NOTE = f"""
mkdir -p /etc/systemd/system/containerd.service.d
printf '[Service]\\nExecStartPre=/bin/sh -c "ls {LEASES} >/root/found"\\n' \
  >/etc/systemd/system/containerd.service.d/note.conf
systemctl -q enable containerd
"""
_NO_NOTE = "systemctl -q disable --now containerd; rm -r /etc/systemd/system/containerd.service.d"


def plugin(cluster: Cluster, host: str, program: str, command: str, name: str) -> list[str]:
    """Run a plugin for a container; return the addresses that it was given."""
    said = cluster.on(host, "python3", "-", program, command, name, stdin=_PLUGIN)
    given = json.loads(said)["ips"] if command == "ADD" else []
    return sorted(one["address"].split("/")[0] for one in given)


def pod(cluster: Cluster, host: str, name: str) -> list[str]:
    cluster.on(host, "ip", "netns", "add", name)
    return plugin(cluster, host, "bridge", "ADD", name)


def no_pod(cluster: Cluster, host: str, name: str) -> None:
    plugin(cluster, host, "bridge", "DEL", name)
    cluster.lab.run(host, ["ip", "netns", "del", name], check=False)


def leases(cluster: Cluster, host: str) -> list[str]:
    return [one for one in cluster.on(host, "ls", LEASES).split() if one[0] not in "l"]


def cut(cluster: Cluster, host: str) -> None:
    """Take the power away and give it back."""
    cluster.lab.power_cut(host)
    cluster.lab.start(host)
    deadline = time.monotonic() + 60
    while cluster.on(host, "systemctl", "is-active", "podnet@podnet", ok=False) != "active\n":
        assert time.monotonic() < deadline, cluster.on(host, "systemctl", "status", "podnet@*")
        time.sleep(0.2)


def endpoint(cluster: Cluster, host: str) -> list[str]:
    links = cluster.json_on(host, "ip", "-n", "web", "-j", "addr", "show", "dev", "eth0")
    return [one["local"] for one in links[0]["addr_info"] if one["scope"] == "global"]


@pytest.fixture(scope="module", autouse=True)
def furnish_again(cluster: Cluster) -> Iterator[None]:
    """Put back what else was in the kernels, for the tests that all scenarios share."""
    cluster.site()
    yield
    for host in cluster.hosts:
        if not cluster.has_link(host, "br-other"):
            furnish(cluster.lab, host)


def test_they_are_free_again_before_a_runtime_starts(cluster: Cluster) -> None:
    first = cluster.hosts[0]
    endpoints = {host: endpoint(cluster, host) for host in cluster.hosts}
    taken = {
        host: sorted(pod(cluster, host, "one") + pod(cluster, host, "two"))
        for host in cluster.hosts
    }
    assert {len(addresses) for addresses in taken.values()} == {4}
    cluster.on(first, "sh", "-ec", _NOTE)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda host: cut(cluster, host), cluster.hosts))
    try:
        for host in cluster.hosts:
            assert leases(cluster, host) == [], host
            journal = cluster.on(host, "journalctl", "-b", "-o", "cat", "-u", "podnet@podnet")
            assert "freed 4 addresses of pods that ended with the last boot: " in journal
            assert endpoint(cluster, host) == endpoints[host]
        found = cluster.on(first, "cat", "/root/found").split()
        assert found == ["last_reserved_ip.0", "last_reserved_ip.1", "lock"]

        # A pod of this boot keeps what it has, whatever happens to the unit and to old containers.
        new = pod(cluster, first, "new")
        assert len(new) == 2
        cluster.on(first, "systemctl", "restart", "podnet@podnet")
        for gone in ("one", "two"):
            plugin(cluster, first, "bridge", "DEL", gone)
        assert sorted(leases(cluster, first)) == new
        # podman starts its containers again under their old ids.
        assert len(pod(cluster, first, "one")) == 2
        for name in ("one", "new"):
            no_pod(cluster, first, name)
    finally:
        cluster.on(first, "sh", "-c", _NO_NOTE + "; rm -f /root/found")
    cluster.verify()
    cluster.demand_clean()


def test_they_stay_where_that_is_wanted(cluster: Cluster) -> None:
    host = cluster.hosts[-1]
    cluster.site("-e", "podnet_manage_leases=false")
    taken = pod(cluster, host, "one")
    cut(cluster, host)
    assert sorted(leases(cluster, host)) == taken
    no_pod(cluster, host, "one")
    assert leases(cluster, host) == []
    cluster.site()


def test_a_proof_warns_before_there_is_none_left(cluster: Cluster) -> None:
    host = cluster.hosts[0]
    net = cluster.allocations()[host]["subnet"].rpartition(".")[0]
    few = ("-e", json.dumps({"podnet_reserved": [f"{net}.16-{net}.253"]}))
    cluster.site(*few)
    assert "IPv4 addresses of this node" not in cluster.verify(*few).message
    names = [f"pod{number}" for number in range(14)]
    try:
        for name in names[:-1]:
            plugin(cluster, host, "host-local", "ADD", name)
        said = cluster.verify(*few).message
        assert f"{host}: pods use 13 of 14 IPv4 addresses of this node (92 %)" in said
        plugin(cluster, host, "host-local", "ADD", names[-1])
        said = cluster.verify(*few, ok=False).message
        assert f"{host}: pods use 14 of 14 IPv4 addresses of this node (100 %)" in said
        assert "no IP addresses available in range set" in said
    finally:
        for name in names:
            plugin(cluster, host, "host-local", "DEL", name)
        cluster.site()

"""What docs/runtimes.md says of Nomad and LXC: their calls, with neither of them at hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.scenario.cluster import Cluster
from tests.scenario.site import Site

#: Nomad names a namespace after the allocation, whose id the container has, too.
ALLOCATION = "7d3a4e0e-5c1b-4a2e-9f6b-0e8d2c4b6a11"
LEASES = "/var/lib/cni/networks/podnet"
RESERVED = "10.244.0.9"

#: As Nomad calls plugins by go-cni: ports as a capability, its labels as CNI_ARGS.
NOMAD = """
import json, os, subprocess, sys
command, container, result = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
with open("/etc/cni/net.d/10-podnet.conflist") as file:
    document = json.load(file)
plugins = document["plugins"] if command == "ADD" else document["plugins"][::-1]
for plugin in plugins:
    config = dict(plugin, name=document["name"], cniVersion=document["cniVersion"])
    if config.pop("capabilities", {}).get("portMappings"):
        port = {"hostPort": 23456, "containerPort": 80, "protocol": "tcp", "hostIP": ""}
        config["runtimeConfig"] = {"portMappings": [port]}
    if result:
        config["prevResult"] = result
    environment = dict(
        os.environ, CNI_COMMAND=command, CNI_CONTAINERID=container, CNI_IFNAME="eth0",
        CNI_NETNS="/var/run/netns/" + container, CNI_PATH="/usr/lib/cni",
        CNI_ARGS="IgnoreUnknown=true;NOMAD_GROUP_NAME=web;NOMAD_JOB_ID=web;NOMAD_REGION=global",
    )
    done = subprocess.run(
        ["/usr/lib/cni/" + plugin["type"]], input=json.dumps(config), env=environment,
        stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.stdout)
    result = json.loads(done.stdout) if command == "ADD" else result
print(json.dumps(result))
"""


def pings(cluster: Cluster, host: str, namespace: str, address: str, size: int) -> bool:
    ping = ["ping", "-n", "-c2", "-i0.2", "-W2", "-M", "do", "-s", str(size - 28), address]
    argv = ["ip", "netns", "exec", namespace, *ping]
    return cluster.lab.run(host, argv, check=False).returncode == 0


def nomad(cluster: Cluster, command: str, result: Any = None) -> Any:
    argv = ("python3", "-", command, ALLOCATION, json.dumps(result))
    return json.loads(cluster.on("n1", *argv, stdin=NOMAD))


@pytest.fixture
def allocation(cluster: Cluster) -> Iterator[None]:
    """The namespace of an allocation; at the end the tables go that portmap made and leaves."""
    before = cluster.on("n1", "nft", "list", "tables").splitlines()
    cluster.on("n1", "ip", "netns", "add", ALLOCATION)
    yield
    cluster.on("n1", "ip", "netns", "delete", ALLOCATION)
    for table in cluster.on("n1", "nft", "list", "tables").splitlines():
        if table not in before:
            cluster.on("n1", "nft", "delete", *table.split())


@pytest.mark.usefixtures("allocation")
def test_nomads_call_attaches_an_allocation(cluster: Cluster) -> None:
    result = nomad(cluster, "ADD")
    (address,) = (one["address"].partition("/")[0] for one in result["ips"])
    assert address.startswith("10.244.0.")
    assert address in cluster.on("n1", "ls", LEASES)
    assert pings(cluster, "n1", ALLOCATION, "10.244.1.1", 1450)
    assert "--dport 23456" in cluster.on("n1", "iptables", "-t", "nat", "-S")
    nomad(cluster, "DEL", result)
    assert address not in cluster.on("n1", "ls", LEASES)
    assert "--dport 23456" not in cluster.on("n1", "iptables", "-t", "nat", "-S")


@pytest.fixture
def lxc(cluster: Cluster) -> Iterator[Site]:
    """A container as LXC makes it, on n1's bridge, with a reserved address."""
    site = Site(cluster.lab)
    with site.restored():
        site.set(reserved=[RESERVED])
        site.site()
        made = f"""
netns add lxc
link add vethLXC1 mtu 1450 type veth peer name eth0 mtu 1450 netns lxc
link set vethLXC1 master cni0 up
-n lxc link set eth0 up
-n lxc address add {RESERVED}/24 dev eth0
-n lxc route add default via 10.244.0.1
"""
        for line in made.strip().splitlines():
            site.on("n1", "ip", *line.split())
        yield site
        site.on("n1", "ip", "netns", "delete", "lxc")


def test_a_container_of_lxc_has_a_reserved_address_and_follows_a_switch(lxc: Site) -> None:
    ranges = json.loads(lxc.on("n1", "cat", "/etc/cni/net.d/10-podnet.conflist"))
    (sets,) = ranges["plugins"][0]["ipam"]["ranges"]
    assert [one["rangeEnd"] for one in sets] == ["10.244.0.8", "10.244.0.254"]
    assert pings(lxc, "n1", "lxc", "10.244.1.1", 1450)
    lxc.demand_clean()
    lxc.set(reserved=[RESERVED], backend="host-gw")
    lxc.site()
    assert pings(lxc, "n1", "lxc", "10.244.1.1", 1500)

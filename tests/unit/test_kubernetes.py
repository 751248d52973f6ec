"""Pod CIDRs of a Kubernetes cluster: taken over into the allocations, or given to its nodes."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from podnet.core.errors import PodnetError
from podnet.plan.allocations_file import parse
from podnet.plan.kubernetes import NodesFile
from podnet.plan.plan_run import run


def node(name: str, *cidrs: str, address: str = "") -> dict[str, Any]:
    spec: dict[str, Any] = {"podCIDR": cidrs[0], "podCIDRs": list(cidrs)} if cidrs else {}
    addresses = [{"type": "Hostname", "address": name}]
    if address:
        addresses.append({"type": "InternalIP", "address": address})
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": spec,
        "status": {"addresses": addresses},
    }


def listed(*nodes: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": list(nodes)}


class Site:
    """An inventory of three hosts, and what kubectl said."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "podnet_allocations.yml"
        self.hosts = [
            {
                "name": f"n{number}",
                "ansible_host": f"192.0.2.1{number}",
                "inventory_dir": str(directory),
            }
            for number in (1, 2, 3)
        ]

    def set(self, **variables: Any) -> None:
        for host in self.hosts:
            host.update({f"podnet_{name}": value for name, value in variables.items()})

    def take(self, content: Any) -> dict[str, Any]:
        text = content if isinstance(content, str) else json.dumps(content)
        return run(self.hosts, kubernetes_nodes=NodesFile("nodes.json", text))

    def subnets(self) -> dict[str, tuple[str, str]]:
        return dict(parse(self.file.read_text(), str(self.file)).nodes)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_what_the_cluster_has_given_is_taken_over(site: Site) -> None:
    cluster = listed(node("n3", "10.244.0.0/24"), node("n1", "10.244.7.0/24"))
    assert site.take(cluster)["changed"]
    # The third has what is free.
    expected = {"n1": "10.244.7.0/24", "n3": "10.244.0.0/24", "n2": "10.244.1.0/24"}
    assert {name: both[0] for name, both in site.subnets().items()} == expected
    again = site.take(cluster)
    assert not again["changed"]
    assert any("not in the cluster yet: n2" in line for line in again["summary"])
    # And without the cluster the plan is the same.
    assert not run(site.hosts)["changed"]


def test_both_families(site: Site) -> None:
    site.set(cluster_cidr6="fd00:244::/56")
    site.take(listed(node("n2", "10.244.9.0/24", "fd00:244:0:9::/64")))
    assert site.subnets()["n2"] == ("10.244.9.0/24", "fd00:244:0:9::/64")


def test_one_node_alone_and_the_old_field(site: Site) -> None:
    alone = node("n2")
    alone["spec"] = {"podCIDR": "10.244.9.0/24"}
    site.take(alone)
    assert site.subnets()["n2"][0] == "10.244.9.0/24"


def test_a_node_without_one_is_noted(site: Site) -> None:
    result = site.take(listed(node("n1", "10.244.7.0/24"), node("n2")))
    assert any("has given no podCIDR to n2" in line for line in result["summary"])


#: What kubectl said, variables -> words of the message.
WRONG: dict[str, tuple[Any, dict[str, Any], list[str]]] = {
    "no JSON": ("NAME STATUS", {}, ["is not JSON", "--output json"]),
    "JSON of something else": ({"kind": "List", "items": [1]}, {}, ["is no list of nodes"]),
    "a list of pods": (
        {"kind": "List", "items": [{"kind": "Pod", "metadata": {"name": "n1"}}]},
        *({}, ["is no list of nodes"]),
    ),
    "no node": (listed(), {}, ["has no node"]),
    "another name": (
        listed(node("n1.example.org", "10.244.1.0/24", address="192.0.2.11")),
        *({}, ["n1.example.org is no host of podnet_nodes", "address is that of n1"]),
    ),
    "a host that is not there": (
        listed(node("n4", "10.244.1.0/24")),
        *({}, ["n4 is no host", "add it to the inventory"]),
    ),
    "no CIDR": (listed(node("n1", "10.244.1.0/33")), {}, ["n1: podCIDR '10.244.1.0/33'"]),
    "no podCIDR anywhere": (listed(node("n1")), {}, ["--allocate-node-cidrs", "export_kubernetes"]),
    "outside": (
        listed(node("n1", "10.42.0.0/24")),
        *({}, ["n1: the cluster has given it podCIDR 10.42.0.0/24", "outside podnet_cluster_cidr"]),
    ),
    "another size": (
        listed(node("n1", "10.244.4.0/26")),
        *({}, ["not a /24", "podnet_node_prefix to 26", "--node-cidr-mask-size"]),
    ),
    "a family that the network has not": (
        listed(node("n1", "10.244.4.0/24", "fd00::/64")),
        *({}, ["podnet_cluster_cidr6 is empty"]),
    ),
    "twice": (
        listed(node("n1", "10.244.4.0/24"), node("n2", "10.244.4.0/24")),
        *({}, ["n2 has podCIDR 10.244.4.0/24, and so has n1"]),
    ),
    "not the pin": (
        listed(node("n1", "10.244.4.0/24")),
        *({"subnet": "10.244.5.0/24"}, ["podnet_subnet pins 10.244.5.0/24"]),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_told_and_nothing_written(site: Site, name: str) -> None:
    content, variables, words = WRONG[name]
    if variables:
        site.hosts[0].update({f"podnet_{key}": value for key, value in variables.items()})
    with pytest.raises(PodnetError) as caught:
        site.take(content)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
    assert not site.file.exists()


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ([node("n1", "10.244.9.0/24")], ["n1: the cluster", "gives it 10.244.0.0/24", "its line"]),
        ([node("n1", "10.244.1.0/24")], ["gives it 10.244.0.0/24"]),
    ],
)
def test_what_hosts_have_is_not_taken_away(
    site: Site, cluster: list[dict[str, Any]], words: list[str]
) -> None:
    run(site.hosts)
    before = site.file.read_text()
    with pytest.raises(PodnetError) as caught:
        site.take(listed(*cluster))
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
    assert site.file.read_text() == before


def test_a_subnet_of_a_host_that_left_is_not_given_away(site: Site) -> None:
    run(site.hosts)
    gone = site.hosts.pop()
    with pytest.raises(PodnetError, match=r"gives to n3: .* podnet_release"):
        site.hosts.append({**gone, "name": "n4"})
        site.take(listed(node("n4", "10.244.2.0/24")))


def test_the_commands_give_nodes_what_the_plan_has(site: Site) -> None:
    site.set(cluster_cidr6="fd00:244::/56")
    lines = run(site.hosts, patches=True)["patches"]
    words = [shlex.split(line) for line in lines]
    assert [one[:4] for one in words] == [["kubectl", "patch", "node", f"n{k}"] for k in (1, 2, 3)]
    cluster = []
    for one in words:
        assert one[4] == "--patch"
        cluster.append({**node(one[3]), **json.loads(one[5])})
    # What the commands make is what the import takes.
    assert not site.take(listed(*cluster))["changed"]

"""Pod CIDRs of a Kubernetes cluster: taken over into the plan, or given to its nodes from it.

A node's pod CIDRs (`spec.podCIDRs` of the v1 API) cannot be changed once they are set, so where the
cluster has given some, the plan must take them.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import Any, Mapping, NamedTuple, Sequence

from ..core.errors import PodnetError
from ..core.model import Plan, split_cidr
from ..core.text import listed
from . import checks as c
from .allocation import Pool
from .allocations_file import Allocations
from .inventory import Inventory, InventoryHost, Problems
from .subnets import Misfit, misfit

VARIABLE = "podnet_kubernetes_nodes"


class NodesFile(NamedTuple):
    """The file with what kubectl said of the nodes: where it lies, and what is in it."""

    path: str
    text: str


class KubernetesNode(NamedTuple):
    """A node of the cluster: its pod CIDRs and its InternalIP addresses."""

    name: str
    cidrs: tuple[str, ...]
    addresses: tuple[str, ...]


def read_nodes(text: str, path: str) -> list[KubernetesNode]:
    """Return what `kubectl get nodes --output json` printed, or the same of one node.

    Raises PodnetError naming the file and what is wrong in it.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise PodnetError(
            f"{VARIABLE}: {path} is not JSON ({error}): write it with"
            " kubectl get nodes --output json"
        ) from error
    kind = content.get("kind") if isinstance(content, dict) else None
    items = [content] if kind == "Node" else content.get("items") if kind else None
    if not isinstance(items, list) or not all(_is_node(one) for one in items):
        raise PodnetError(
            f"{VARIABLE}: {path} is no list of nodes: write it with kubectl get nodes --output json"
        )
    if not items:
        raise PodnetError(f"{VARIABLE}: {path} has no node: has one joined the cluster?")
    return [_node(one, path) for one in items]


def _is_node(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and item.get("kind", "Node") == "Node"
        and isinstance(item.get("metadata"), dict)
        and isinstance(item["metadata"].get("name"), str)
        and isinstance(item.get("spec", {}), dict)
    )


def _node(item: Mapping[str, Any], path: str) -> KubernetesNode:
    name, spec = item["metadata"]["name"], item.get("spec", {})
    # Before dual stack there was podCIDR alone.
    given = spec.get("podCIDRs") or [one for one in (spec.get("podCIDR"),) if one]
    cidrs = []
    for one in given if isinstance(given, list) else [given]:
        family = 6 if ":" in str(one) else 4
        try:
            cidrs.append(str(c.cidr(family)(one)))
        except ValueError as error:
            raise PodnetError(f"{path}: {name}: podCIDR {c.show(one)} {error}") from error
    status = item.get("status")
    addresses = status.get("addresses") if isinstance(status, dict) else None
    internal = [
        str(one.get("address"))
        for one in (addresses if isinstance(addresses, list) else ())
        if isinstance(one, dict) and one.get("type") == "InternalIP"
    ]
    return KubernetesNode(name, tuple(cidrs), tuple(internal))


def pinned(
    inventory: Inventory, nodes: Sequence[KubernetesNode], recorded: Allocations | None, path: str
) -> tuple[Inventory, list[str]]:
    """Return the inventory with the nodes' pod CIDRs as its hosts' subnets, and notes.

    `recorded` is what the allocations file says, `path` the file of the nodes. Raises PodnetError
    naming all that keeps plan and cluster from agreeing.
    """
    problems = Problems()
    hosts = {host.name: host for host in inventory.hosts}
    _demand_known(nodes, hosts, path, problems)
    _demand_once(nodes, path, problems)
    if not any(node.cidrs for node in nodes):
        problems.add(
            f"{path}: no node has a podCIDR, so there is nothing to take over: the"
            " controller-manager runs without --allocate-node-cidrs. export_kubernetes.yml prints"
            " what gives nodes those of the plan"
        )
    problems.settle()
    for node in nodes:
        for cidr in node.cidrs:
            host = hosts[node.name]
            objection = _objection(inventory, host, cidr, recorded)
            if objection:
                problems.add(f"{host.name}: the cluster has given it podCIDR {cidr}, {objection}")
            elif ":" in cidr:
                hosts[node.name] = replace(host, subnet6=cidr)
            else:
                hosts[node.name] = replace(host, subnet=cidr)
    problems.settle()
    return replace(inventory, hosts=tuple(hosts.values())), _notes(nodes, hosts)


def _notes(nodes: Sequence[KubernetesNode], hosts: Mapping[str, InventoryHost]) -> list[str]:
    found = []
    bare = [node.name for node in nodes if not node.cidrs]
    if bare:
        found.append(
            f"the cluster has given no podCIDR to {listed(bare, 5)}; export_kubernetes.yml prints"
            " what gives them those of the plan"
        )
    absent = sorted(hosts.keys() - {node.name for node in nodes})
    if absent:
        found.append(
            f"not in the cluster yet: {listed(absent, 5)}. The plan's subnets for them are its own:"
            " import again when they have joined, before pods run there"
        )
    return found


def _demand_known(
    nodes: Sequence[KubernetesNode],
    hosts: Mapping[str, InventoryHost],
    path: str,
    problems: Problems,
) -> None:
    owners = {ip: host.name for host in hosts.values() for ip in (host.ip, host.ip6) if ip}
    for node in nodes:
        if node.name in hosts:
            continue
        same = [owners[one] for one in node.addresses if one in owners]
        hint = (
            f"; its address is that of {same[0]}: give both one name (kubelet's"
            " --hostname-override, or the inventory's)"
            if same
            else c.closest(node.name, list(hosts)) + ": add it to the inventory"
        )
        problems.add(f"{path}: {node.name} is no host of podnet_nodes{hint}")


def _demand_once(nodes: Sequence[KubernetesNode], path: str, problems: Problems) -> None:
    owners: dict[str, str] = {}
    for node in nodes:
        for cidr in node.cidrs:
            other = owners.setdefault(cidr, node.name)
            if other != node.name:
                problems.add(
                    f"{path}: {node.name} has podCIDR {cidr}, and so has {other}: delete one of the"
                    " two from the cluster, and let it join again"
                )


def _objection(
    inventory: Inventory, host: InventoryHost, cidr: str, recorded: Allocations | None
) -> str:
    """Return why the plan cannot give a host this subnet, "" where it can."""
    suffix = "6" if ":" in cidr else ""
    cluster = inventory.values["cluster_cidr" + suffix]
    prefix = inventory.values["node_prefix" + suffix]
    pin = host.subnet6 if suffix else host.subnet
    if not cluster:
        return f"and podnet_cluster_cidr{suffix} is empty: set it to the cluster's"
    held = {}
    if recorded:
        index = 1 if suffix else 0
        held = {both[index]: name for name, both in recorded.nodes.items() if both[index]}
    kept = next((subnet for subnet, name in held.items() if name == host.name), "")
    wrong = misfit(
        Pool.of(cluster, prefix), cidr, host.name, kept, lambda subnet: held.get(subnet, "")
    )
    if pin and pin != cidr and wrong not in (Misfit.OUTSIDE, Misfit.SIZE):
        return f"and podnet_subnet{suffix} pins {pin}: take the pin away"
    file, owner = inventory.allocations_file, held.get(cidr, "")
    said = {
        None: "",
        Misfit.OUTSIDE: (
            f"which is outside podnet_cluster_cidr{suffix} {cluster}: set that to the cluster's"
            " range (kubeadm's --pod-network-cidr)"
        ),
        Misfit.SIZE: (
            f"which is not a /{prefix}: set podnet_node_prefix{suffix} to {split_cidr(cidr)[1]}"
            " (the controller-manager's --node-cidr-mask-size)"
        ),
        Misfit.OTHER: (
            f"which cannot be changed, and {file} gives it {kept}: delete its line there, and the"
            " next run of site.yml renumbers its pods; or delete the node from the cluster, and"
            " let it join again"
        ),
        Misfit.TAKEN: (
            f"which {file} gives to {owner}: delete the line of {owner} there, and the next run of"
            " site.yml renumbers its pods, or release it with podnet_release if it has left the"
            " inventory"
        ),
    }
    return said[wrong]


def patches(plan: Plan) -> list[str]:
    """Return a shell command for each node that gives it the plan's subnets as its pod CIDRs.

    The API server takes them once, and refuses other ones afterwards.
    """
    lines = []
    for node in plan.nodes.values():
        cidrs = [one for one in (node.subnet, node.subnet6) if one]
        patch = json.dumps({"spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs}})
        lines.append(f"kubectl patch node {shlex.quote(node.name)} --patch {shlex.quote(patch)}")
    return lines

"""The file that tells Podman of a network: where it lies, what it holds, who wrote it. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import Sequence

from ..core.model import Node, Plan, offset, split_cidr
from ..core.ranges import parse

#: Podman's network backends.
CNI, NETAVARK = "cni", "netavark"

#: Below this directory Podman has its configuration.
DIRECTORY = "/etc/containers"

#: What podnet's files begin with, or have as a label.
_MARK, _LABEL = "# Made by podnet", "podnet"


def own_range(node: Node, subnet: str) -> str:
    """Return the range that Podman may give out of a subnet of `node`, "" if there is none."""
    family = ":" in subnet
    return next((one for one in node.podman_range if (":" in one) == family), "")


def networks() -> str:
    """Return where Podman has its networks of netavark."""
    return f"{DIRECTORY}/networks"


def path(way: str, name: str) -> str:
    """Return where the file lies that tells Podman of network `name`."""
    if way == CNI:
        return f"{DIRECTORY}/containers.conf.d/60-podnet-{name}.conf"
    return f"{networks()}/{name}.json"


def paths(name: str) -> list[str]:
    """Return every path that `path` may return."""
    return [path(way, name) for way in (CNI, NETAVARK)]


def is_ours(text: str) -> bool:
    """Whether podnet wrote a file for Podman that holds `text`."""
    if text.startswith(_MARK):
        return True
    try:
        return _LABEL in json.loads(text)["labels"]
    except (ValueError, TypeError, KeyError):
        return False


def content(way: str, plan: Plan, node: Node, mtu: int, directories: Sequence[str]) -> str:
    """Return the file's text; `mtu` is in bytes, plugins are in `directories`."""
    if way == CNI:
        return _containers_conf(plan, directories)
    return _network(plan, node, mtu)


def _containers_conf(plan: Plan, directories: Sequence[str]) -> str:
    lines = [
        f"{_MARK} for pod network {plan.name}; podnet_podman: false removes it.",
        "[network]",
        f'network_backend = "{CNI}"',
        f"cni_plugin_dirs = [{', '.join(json.dumps(one) for one in directories)}]",
    ]
    if plan.cni.conf_dir != "/etc/cni/net.d":
        lines.append(f'network_config_dir = "{plan.cni.conf_dir}"')
    return "\n".join(lines) + "\n"


def _network(plan: Plan, node: Node, mtu: int) -> str:
    """Return a network as Podman writes it itself: its names are those of the file's format."""
    subnets = []
    for subnet in filter(None, (node.subnet, node.subnet6)):
        first, last = parse(own_range(node, subnet)).ends()
        subnets.append(
            {
                "subnet": subnet,
                "gateway": offset(split_cidr(subnet)[0], 1),
                "lease_range": {"start_ip": first, "end_ip": last},
            }
        )
    document = {
        "name": plan.name,
        # Any that no other network has.
        "id": hashlib.sha256(f"podnet {plan.name}".encode()).hexdigest(),
        "driver": "bridge",
        "network_interface": plan.bridge,
        "created": "2000-01-01T00:00:00Z",
        "subnets": subnets,
        "ipv6_enabled": bool(node.subnet6),
        "internal": False,
        "dns_enabled": False,
        "labels": {_LABEL: "podnet_podman: false removes this network"},
        "options": {"mode": "unmanaged", "mtu": str(mtu)},
        "ipam_options": {"driver": "host-local"},
    }
    return json.dumps(document, indent=2) + "\n"

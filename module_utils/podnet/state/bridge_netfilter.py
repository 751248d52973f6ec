"""Whether packets between pods of one host pass iptables: the kernel's br_netfilter.

kube-proxy rewrites a Service's address to a pod's. Where that pod is on the caller's own host, its
answer goes back over the bridge alone, past the kernel's NAT, so the caller never learns that it is
one. With br_netfilter and its sysctls on, bridged packets pass iptables and nft like routed ones.
"""

from __future__ import annotations

from typing import Mapping, NamedTuple

from ..core.model import Node

MODULE = "br_netfilter"

#: Family -> the sysctl that sends its bridged packets through iptables. They exist while the module
#: is loaded, and then begin with 1; without the module it is as if they were 0.
KEYS = {4: "net.bridge.bridge-nf-call-iptables", 6: "net.bridge.bridge-nf-call-ip6tables"}

#: What runs a kube-proxy, or is one: the name of a program or a process, and of a systemd unit.
CLIENTS = {
    "kubelet": "kubelet",
    "kube-proxy": "kube-proxy",
    "k3s": "k3s",
    "k3s-server": "k3s",
    "k3s-agent": "k3s-agent",
    "k0s": "k0s",
    "k0scontroller": "k0scontroller",
    "k0sworker": "k0sworker",
    "rke2": "rke2",
    "rke2-server": "rke2-server",
    "rke2-agent": "rke2-agent",
}

#: Node.bridge_netfilter: podnet decides, sees to it, keeps off.
AUTO, ON, OFF = "", "true", "false"


class BridgeFacts(NamedTuple):
    """What a host answered.

    `client` is why it needs br_netfilter (the path of a kubelet, a process), "" for nothing.
    `present`: the sysctls are there. `loadable`: the kernel has it as a module that can be loaded,
    or it is loaded. `release` is the kernel's.
    """

    client: str = ""
    present: bool = False
    loadable: bool = False
    release: str = ""


class Decision(NamedTuple):
    """The sysctls that podnet has to set, whether it has to load the module, and messages.

    `families` are those whose bridged packets pass iptables in the end, whoever wants that.
    """

    families: tuple[int, ...] = ()
    sysctls: Mapping[str, str] = {}
    module: bool = False
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def families(node: Node) -> list[int]:
    """Return the families that `node`'s pods have."""
    return [family for family, subnet in ((4, node.subnet), (6, node.subnet6)) if subnet]


def is_on(values: Mapping[str, str], family: int) -> bool:
    """Whether packets of a family that stay on a bridge pass iptables, by the sysctls' values."""
    return values.get(KEYS[family]) == "1"


def decide(node: Node, facts: BridgeFacts, values: Mapping[str, str]) -> Decision:
    """Return what podnet does about br_netfilter on `node`.

    `values` are those that the sysctls have, or will have when podnet has put back what it set.
    """
    mine = families(node)
    on = tuple(family for family in mine if is_on(values, family))
    off = [KEYS[family] for family in mine if family not in on]
    if node.bridge_netfilter == OFF:
        return Decision(on, warnings=(_hangs(node, facts, off),) if facts.client and off else ())
    if node.bridge_netfilter == AUTO and not facts.client:
        return Decision(on)
    if facts.present or facts.loadable:
        wanted = {KEYS[family]: "1" for family in mine}
        return Decision(tuple(mine), wanted, facts.loadable)
    lacking = (_lacking(node, facts),)
    if node.bridge_netfilter == ON:
        return Decision(problems=lacking)
    return Decision(warnings=lacking)


def _hangs(node: Node, facts: BridgeFacts, off: list[str]) -> str:
    said = " and ".join(f"{key} is not 1" for key in off)
    return (
        f"{node.name}: {facts.client} is here, {said}, and podnet_bridge_netfilter is false: a pod "
        "that calls a Service hangs where the pod that answers is on its own host. Set "
        "podnet_bridge_netfilter: auto, unless something else sets it later"
    )


def _lacking(node: Node, facts: BridgeFacts) -> str:
    why = f"{facts.client} is here" if facts.client else "podnet_bridge_netfilter is true"
    return (
        f"{node.name}: {why}, and its kernel ({facts.release}) has no {MODULE}, or this host may "
        "not load modules: a pod that calls a Service hangs where the pod that answers is on its "
        f"own host. Install the package that has the kernel's modules; for a container, load "
        f"{MODULE} on the machine that runs it; or set podnet_bridge_netfilter: false"
    )

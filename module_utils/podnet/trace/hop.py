"""A hop, and what a judgement of one has at hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, NamedTuple

from ..core.model import Node, Plan, is_inside
from ..core.state import State


class Hop(NamedTuple):
    """One decision on a packet's way.

    `key` names it, `question` is what the kernel was asked and `answer` what it said, `plan` what
    the plan wants ("" where it wants nothing, or the same). With a `fault` the packet breaks here;
    `mend` is the command or variable that mends it. `because` are keys of other hops of the same
    leg: the first of them that has a fault is the reason for this one's. `note` is worth knowing,
    and no fault. `partial`: small packets pass all the same.
    """

    key: str
    question: str
    answer: str
    plan: str = ""
    fault: str = ""
    mend: str = ""
    because: tuple[str, ...] = ()
    note: str = ""
    partial: bool = False


@dataclass
class Scene:
    """What is known of a host: the plan, what it must have (`final`), `facts` (kernel/trace.py).

    `peer` is the node that owns the remote address, None for an address outside.
    """

    plan: Plan
    node: Node
    final: State
    facts: Mapping[str, Any]
    peer: Node | None
    hops: list[Hop] = field(default_factory=list)

    @property
    def family(self) -> int:
        """The packet's family."""
        return int(self.facts["family"])

    @property
    def local(self) -> str:
        """The pod's address on this host."""
        return str(self.facts["local"])

    @property
    def remote(self) -> str:
        """The address at the other end."""
        return str(self.facts["remote"])

    @property
    def carrier(self) -> str:
        """The device by which packets to and from the other end should pass."""
        return str(self.facts["carrier"])

    @property
    def subnet(self) -> str:
        """The node's subnet of the packet's family."""
        return self.node.subnet if self.family == 4 else self.node.subnet6

    @property
    def same_node(self) -> bool:
        """Whether both ends are on this host."""
        return bool(self.subnet) and is_inside(f"{self.remote}/{self.bits}", self.subnet)

    @property
    def bits(self) -> int:
        """The length of an address of the packet's family."""
        return 32 if self.family == 4 else 128

    @property
    def out_device(self) -> str:
        """The device by which the kernel would send to the other end, "" for none."""
        return str((self.facts["out"]["answer"] or {}).get("dev", ""))

    @property
    def is_own(self) -> bool:
        """Whether `local` is an address of the host itself, and no pod's."""
        return bool(self.facts["own"])

    @property
    def is_inside(self) -> bool:
        """Whether `local` is in the node's subnet: not so for its address on the underlay."""
        return bool(self.subnet) and is_inside(f"{self.local}/{self.bits}", self.subnet)

    @property
    def to_host(self) -> bool:
        """Whether the pod sends to an address of its own host."""
        return bool(self.facts["to_host"])

    def outer_address(self, node: Node) -> str:
        """Return the address that packets which are wrapped on a node come from."""
        return node.ip if self.plan.underlay == 4 else node.ip6

    def link(self, name: str) -> Mapping[str, Any] | None:
        """Return a device of the host, None if it has none of that name."""
        found: Mapping[str, Any] | None = self.facts["links"].get(name)
        return found

    def sysctl(self, key: str) -> str:
        """Return a sysctl's value, "" where the kernel has none."""
        return str(self.facts["sysctls"].get(key, ""))

    def repair(self) -> str:
        """Return the command that brings this host to what the plan wants."""
        return f"ansible-playbook playbooks/site.yml --limit {self.node.name}"

    def on_host(self, command: str) -> str:
        """Return a command to run on this host, in words."""
        return f"on {self.node.name}: {command}"

    def owner(self, address: str) -> str:
        """Return " (NAME)" for the node that an address of the underlay or of pods belongs to."""
        for node in self.plan.nodes.values():
            if address in (node.ip, node.ip6):
                return f" ({node.name})"
        bits = 128 if ":" in address else 32
        for node in self.plan.nodes.values():
            for subnet in (node.subnet, node.subnet6):
                if subnet and is_inside(f"{address}/{bits}", subnet):
                    return f" ({node.name})"
        return ""

    def add(self, *hops: Hop | None) -> None:
        """Append hops."""
        self.hops += [one for one in hops if one is not None]


def is_off(link: Mapping[str, Any] | None) -> bool:
    """Whether a device is there and set down."""
    return link is not None and "UP" not in link.get("flags", ())


def is_up(link: Mapping[str, Any] | None) -> bool:
    """Whether a device is there, set up, and has a carrier."""
    flags = link.get("flags", ()) if link else ()
    return "UP" in flags and "NO-CARRIER" not in flags


def state_of(name: str, link: Mapping[str, Any] | None) -> str:
    """Return a device's state in a few words."""
    if link is None:
        return f"{name} does not exist"
    flags = link.get("flags", ())
    up = "down"
    if "UP" in flags:
        up = "up, but without a carrier" if "NO-CARRIER" in flags else "up"
    return f"{name} is {up}, MTU {link.get('mtu')}"


def neighbour_text(address: str, entries: Any) -> tuple[str, str, str]:
    """Return (text, MAC, state) of what a neighbour table has of an address."""
    if not entries:
        return f"{address}: no entry yet", "", ""
    one = entries[0]
    state = one.get("state", [])
    state = " ".join(state) if isinstance(state, list) else str(state)
    mac = str(one.get("lladdr", ""))
    where = f" is at {mac}" if mac else ": no MAC"
    return f"{address}{where} ({state or 'no state'})", mac, state


def ipv6_off(scene: Scene, device: str) -> tuple[str, str] | None:
    """Return (fault, what mends it) where IPv6 is off on a device and the packet is IPv6."""
    key = f"net.ipv6.conf.{device.replace('.', '/')}.disable_ipv6"
    if scene.family != 6 or scene.sysctl(key) != "1":
        return None
    return (
        f"IPv6 is off on {device} ({key}=1)",
        f"{scene.on_host(f'sysctl -w {key}=0')}; then {scene.repair()}",
    )

"""What hosts ask a backend, and the kind of device that it makes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Callable, ClassVar, Collection, Dict, List, Mapping, NamedTuple, Sequence

from ..core.host_view import HostView
from ..core.model import Node, Plan
from ..core.state import Change, DeviceKey, Link, State

Entries = Dict[DeviceKey, str]

#: Name of a setting -> whether a value is one that it may have.
Settings = Mapping[str, Callable[[object], bool]]


class Backend(ABC):
    """What a backend adds to a host: devices, objects for each peer, bytes on every packet."""

    #: The settings of a plan that are this backend's own, and what each may be (Plan.settings).
    settings: ClassVar[Settings] = {}

    #: Whether a switch to this backend leaves the MTU of podnet_mtu: portable as it is.
    is_portable = False

    @abstractmethod
    def overhead(self, plan: Plan) -> int:
        """Return the bytes that the backend adds to a pod's IP packet."""

    @abstractmethod
    def families(self, plan: Plan, node: Node) -> set[int]:
        """Return the families (4, 6) of the nodes' addresses that pods' packets are sent to."""

    def own_devices(self, plan: Plan) -> dict[str, str]:
        """Return the backend's own devices: name -> the variable that names it."""
        return {}

    def mac(self, plan: Plan, node: Node) -> str:
        """Return the MAC by which peers know the node's device, "" where they know none."""
        return ""

    def has_plain_routes(self, plan: Plan) -> bool:
        """Whether routes to pods may lead over the underlay's own devices."""
        return False

    @abstractmethod
    def devices(self, plan: Plan, node: Node, host: HostView, mtu: int, state: State) -> None:
        """Add the backend's own devices and their addresses to `state`; `mtu` is the pods'."""

    @abstractmethod
    def peer(self, plan: Plan, node: Node, host: HostView, peer: Node, state: State) -> None:
        """Add to `state` what it takes to reach `peer`; `problems` names peers out of reach."""

    def problems(self, plan: Plan, node: Node, host: HostView) -> list[str]:
        """Return why this host cannot carry the backend, a sentence each."""
        return []

    def parameters(self, plan: Plan) -> dict[str, Any]:
        """Return what alters how packets travel: all hosts must switch when it changes."""
        return {
            "backend": plan.backend,
            "underlay": plan.underlay,
            "mtu": plan.mtu,
            **plan.settings,
        }


class Needs(NamedTuple):
    """What a device needs of a host before it is made or brought up.

    `port` is a UDP port and `family` (4 or 6) that of the packets there, `module` the kernel module
    that makes such devices, and `trial` the line of an ip batch that tries whether it is there.
    """

    port: int
    family: int
    module: str
    trial: str


#: Runs a tool that prints a JSON list: `read_json` of kernel/run.py.
ReadJson = Callable[[Sequence[str], Callable[[Any], None]], List[Any]]


class DeviceKind(ABC):
    """A kind of device: its own options, and what it keeps for each peer (`State.entries`).

    `Link.options` is text in the words of ip-link(8), which this class alone reads and writes.
    """

    #: Whether devices of this kind have a MAC, and the kernel neighbours on them.
    has_mac: bool = False

    #: The variable that names the device, and those whose change makes a device that can stand
    #: beside the old one, as a message lists them.
    variable: str = ""
    beside: str = ""

    #: Lines of the script that rebuilds the network at boot (keep/replay.py). `show` prints the
    #: entries of "$device", one a line; `replay` sets all entries, from the boot file `boot_file`,
    #: and sets status=1 on an error.
    show: str = ""
    replay: str = ""
    boot_file: str = ""

    #: What podnet_info calls the list of such devices' entries.
    entries: str = ""

    @abstractmethod
    def plain_options(self, options: str) -> dict[str, Any]:
        """Return the options of a device as JSON types, for podnet_info."""

    @abstractmethod
    def plain_entry(self, key: DeviceKey, entry: str) -> dict[str, str]:
        """Return an entry as JSON types, for podnet_info."""

    @abstractmethod
    def check(self, data: Mapping[str, Any]) -> None:
        """Raise ValueError unless `data` is what iproute2 prints as info_data of such a device."""

    @abstractmethod
    def options(self, data: Mapping[str, Any]) -> str:
        """Return the options of a device; `data` is as in `check`."""

    @abstractmethod
    def is_same(self, one: str, other: str) -> bool:
        """Whether a device with options `one` can get the options `other` without being deleted."""

    @abstractmethod
    def update(self, name: str, have: str, want: str) -> list[str]:
        """Return the lines of an ip batch that turn the options `have` into `want`."""

    @abstractmethod
    def read(self, device: str, read_json: ReadJson) -> Entries:
        """Return the entries that a device has."""

    @abstractmethod
    def remote(self, entry: str) -> str:
        """Return the address that packets for an entry's peer are sent to, "" for none."""

    @abstractmethod
    def entry(self, key: DeviceKey, old: str, new: str) -> Change:
        """Return the change of an entry from `old` to `new`; "" is none."""

    def is_flannels(self, name: str) -> bool:
        """Whether flannel calls its devices of this kind so; podnet takes them over (adopt.py)."""
        return False

    def adoption_problem(self, name: str, link: Mapping[str, Any]) -> str:
        """Return why flannel's device `name` cannot become the plan's as it is, "" for nothing.

        `link` is as `ip -j -d addr` prints it.
        """
        return ""

    @abstractmethod
    def boot_text(self, entries: Entries) -> str:
        """Return the text of `boot_file`, which sets the entries of all such devices."""

    @abstractmethod
    def needs(self, link: Link) -> Needs:
        """Return what a device needs before it is made or brought up."""

    @abstractmethod
    def lacking(self, node: str, release: str) -> str:
        """Return what to say of a host whose kernel `release` cannot make such a device."""

    @abstractmethod
    def port_problems(
        self,
        node: str,
        wanted: Link,
        holder: str,
        links: Sequence[Mapping[str, Any]],
        ours: Collection[str],
    ) -> list[str]:
        """Return why the device `wanted` cannot have its UDP port on host `node`, a sentence each.

        `holder` is who has the port by the kernel, "" for nobody. `links` are all devices of the
        host as `ip -j -d addr` prints them; `ours` names those that are this network's, and those
        whose name it needs.
        """


def peers(plan: Plan, node: Node) -> list[Node]:
    """Return all nodes of the plan but `node` itself."""
    return [peer for peer in plan.nodes.values() if peer.name != node.name]

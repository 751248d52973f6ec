"""What hosts ask a backend, and the kind of device that it makes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Callable, ClassVar, Collection, Dict, Mapping, NamedTuple, Sequence

from ..core.host_view import HostView
from ..core.model import Node, Plan
from ..core.state import Change, DeviceKey, Link, Rule, State

Entries = Dict[DeviceKey, str]

#: Path of a file that nobody but root may read -> what is in it, in words that may be shown.
Secrets = Dict[str, str]

#: Name of a setting -> whether a value is one that it may have.
Settings = Mapping[str, Callable[[object], bool]]


class Backend(ABC):
    """What a backend adds to a host: devices, objects for each peer, bytes on every packet."""

    #: The settings of a plan that are this backend's own, and what each may be (Plan.settings).
    settings: ClassVar[Settings] = {}

    #: The settings of a node that are this backend's own, and what each may be (Node.settings).
    node_settings: ClassVar[Settings] = {}

    #: Settings that a node has only where the user sets them.
    optional: ClassVar[Settings] = {}

    #: Whether nodes have key pairs: a host makes its own, and peers know the public key (Node.key).
    has_keys = False

    #: Whether flannel has a backend whose devices and routes podnet takes over as they are.
    is_adoptable = True

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

    def facts(self, plan: Plan, node: Node, tools: HostTools) -> dict[str, str]:
        """Return what must be known of the host before it is decided what it needs.

        It becomes `HostView.facts`. Raises PodnetError for a tool that is not there.
        """
        return {}

    def secrets(self, plan: Plan, node: Node) -> Secrets:
        """Return the files that the host needs and nobody else may read."""
        return {}

    def secrets_on(self, name: str, tools: HostTools) -> Secrets:
        """Return those files of network `name` that are on the host, of whatever plan."""
        return {}

    def secret_contents(
        self, plan: Plan, tools: HostTools, given: Mapping[str, str]
    ) -> dict[str, str]:
        """Return path -> content of the files in `secrets`, as far as the host can know them.

        `given` are secrets that the controller has sent, by the setting that they belong to.
        Raises PodnetError for one that is not the plan's.
        """
        return {}

    def own_keys(self, name: str, tools: HostTools) -> list[str]:
        """Return the public keys whose private keys this host has for network `name`."""
        return []

    def new_key(self, name: str, tools: HostTools) -> tuple[str, str, str]:
        """Make a key pair; return (path, content, public key) of the file for the private key."""
        raise NotImplementedError

    def warm_up(self, plan: Plan, node: Node, tools: HostTools) -> list[str]:
        """Do what the first packet to a peer would have to wait for, when all are prepared.

        Returns what could not be done, a sentence each.
        """
        return []

    def guard(self, plan: Plan) -> tuple[Rule, ...]:
        """Return the rules that drop what no node of the plan has sent (GUARD of core/state.py).

        They may name the sets of SETS, which hold the addresses of all nodes. Until all hosts have
        ended a switch, the rules of the old plan follow those of the new one, and the sets hold the
        addresses of both: what one rule accepts, no later one sees.
        """
        return ()

    def problems(self, plan: Plan, node: Node, host: HostView) -> list[str]:
        """Return why this host cannot carry the backend, a sentence each."""
        return []

    def notes(self, plan: Plan, node: Node, host: HostView) -> list[str]:
        """Return what a user should know of this host, a sentence each."""
        return []

    def is_switch(self, node: Node, host: HostView, have: Link, want: Link) -> bool:
        """Whether the plan turns the backend's device from `have` into `want`.

        That is so if a run of podnet's made it as it is. Else somebody has changed it.
        """
        return False

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


class HostTools(NamedTuple):
    """How a backend reads a host (kernel/run.py), so that it touches nothing by itself.

    `read_json` runs a tool that prints a JSON list. `output` runs a tool, with a text for its
    input, and returns what it printed, None if it failed. `text` returns a file's text, None where
    there is none, and `mode` its permissions; `names` are the files in a directory. `resolve`
    returns the addresses of a name, none if it has none.
    """

    read_json: Callable[[Sequence[str], Callable[[Any], None]], list[Any]]
    output: Callable[[Sequence[str], str], str | None]
    text: Callable[[str], str | None]
    mode: Callable[[str], int]
    names: Callable[[str], list[str]]
    resolve: Callable[[str, int], list[str]]


class DeviceKind(ABC):
    """A kind of device: its own options, and what it keeps for each peer (`State.entries`).

    `Link.options` is text in the words of ip-link(8), which this class alone reads and writes.
    """

    #: Whether devices of this kind have a MAC, and the kernel neighbours on them.
    has_mac: bool = False

    #: Whether the kernel can give a device that is up another name, where it can at all.
    can_rename: bool = True

    def can_stand_aside(self, have: str, want: str) -> bool:
        """Whether a device with options `have` can get another name while one with `want` is made.

        Else a switch makes a detour (Planner.detour).
        """
        return self.can_rename

    #: The kind of KINDS that stands for this one, too, where a backend makes its devices in two
    #: ways: their entries, their part of the replay and their boot file are that kind's.
    like: str = ""

    #: The variable that names the device, and those whose change makes a device that can stand
    #: beside the old one, as a message lists them.
    variable: str = ""
    beside: str = ""

    #: Lines of the script that rebuilds the network at boot (keep/replay.py). `show` prints the
    #: entries of "$device", one a line; `make` makes devices that ip(8) cannot; `replay` sets all
    #: entries, from the boot file `boot_file`. Both set status=1 on an error.
    #: `functions` are what they call.
    show: str = ""
    functions: str = ""
    make: str = ""
    replay: str = ""
    boot_file: str = ""

    #: What podnet_info calls the list of such devices' entries.
    entries: str = ""

    #: What trace.yml calls such a device, and one of its entries.
    title: str = ""
    entry_title: str = ""

    #: Whether a packet that came in is dropped unless the entry that would carry the answer is the
    #: sender's.
    checks_source: bool = False

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

    def own_options(self, device: str, tools: HostTools) -> str:
        """Return options that ip(8) does not know, as `options` does."""
        return ""

    def words(self, options: str) -> str:
        """Return the words after "type KIND" with which `ip link add` makes a device."""
        return options

    def shown(self, options: str) -> str:
        """Return those options that the line of the device in a diff has."""
        return options

    def tools(self, options: str) -> Sequence[str]:
        """Return the tools that a device with these options takes, besides those of all hosts."""
        return ()

    def made(self, name: str, link: Link) -> list[Change]:
        """Return what makes a device that `ip link add` cannot make; nothing for all others."""
        return []

    def set_options(self, name: str, have: str, want: Link) -> list[Change]:
        """Return what turns options `have` into those of `want`, if ip(8) cannot (`update`)."""
        return []

    def differs(self, name: str, have: str, want: Link) -> bool:
        """Whether a run would change a device with options `have`, or make it anew, for `want`."""
        return (
            not self.is_same(have, want.options)
            or bool(self.update(name, have, want.options))
            or bool(self.set_options(name, have, want))
        )

    def removed(self, name: str, link: Link) -> list[Change]:
        """Return what removes a device, if `ip link del` is not the way."""
        return []

    def source(self, options: str) -> str:
        """Return the address that packets to peers come from, "" for whichever the kernel takes."""
        return ""

    @abstractmethod
    def is_same(self, one: str, other: str) -> bool:
        """Whether a device with options `one` can get the options `other` without being deleted."""

    @abstractmethod
    def update(self, name: str, have: str, want: str) -> list[str]:
        """Return the lines of an ip batch that turn the options `have` into `want`."""

    @abstractmethod
    def read(self, device: str, tools: HostTools) -> Entries:
        """Return the entries that a device has."""

    def is_alike(self, have: str, want: str) -> bool:
        """Whether an entry that a device has is the one that is wanted."""
        return have == want

    @abstractmethod
    def remote(self, entry: str) -> str:
        """Return the address that packets for an entry's peer are sent to, "" for none."""

    def carrier(self, entries: Entries, device: str, mac: str, address: str) -> DeviceKey | None:
        """Return the key of the entry by which a packet to a pod's `address` leaves, None for none.

        `mac` is that of the neighbour to which the route leads, "" for none.
        """
        return (device, mac) if (device, mac) in entries else None

    @abstractmethod
    def envelope(self, options: str) -> str:
        """Return by what receivers know the device's packets, besides addresses."""

    def session(self, key: DeviceKey, tools: HostTools) -> tuple[str, bool]:
        """Return (what the device knows of its contact with an entry's peer, whether it has any).

        The text is "" for kinds without sessions.
        """
        return "", True

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
    def boot_text(self, links: Mapping[str, Link], entries: Entries) -> str:
        """Return the text of `boot_file`, which sets the entries of all such devices, `links`."""

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

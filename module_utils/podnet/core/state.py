"""One type for what a host has, what it must have, and what it has between two phases.

Desired and observed state are the same type, so one function (`diff.changes`) yields the changes
of a run, of a check and of a rollback alike. Only what belongs to one network of podnet is in
here; a host's other devices, routes and tables never are, so they cannot be touched.

Routes, neighbours and entries for peers are plain text in the words of the tools that set them:
there may be thousands, and text is compared, printed and put into a batch as it is.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Tuple

#: (device, address): the key of neighbours (IP), FDB entries (MAC) and addresses (CIDR).
DeviceKey = Tuple[str, str]


#: The kind of the pods' device; all other kinds of ours are a backend's.
BRIDGE = "bridge"

#: Tool of a change whose lines are a batch of iproute2 -> the program that takes them.
BATCHES = {"ip": "ip", "bridge": "bridge", "port": "ip"}


class Change(NamedTuple):
    """One change: `lines` for `tool`, and the object's text before and after ("" for none).

    `tool` tells what `lines` are. "ip", "bridge", "nft": lines of a batch for that program. "port":
    a line for ip about a pod's end on the host. "pod": the path of a pod's network namespace, and a
    line for ip to run in it. A pod that has left meanwhile needs neither. "iptables": whole
    commands. "sysctl": key=value. "file": a path, and "boot": the name of a boot file; their
    contents are in the state that the change leads to. "secret": the path of a file that only root
    may read. "command": a whole command, its words with one blank between them. Otherwise it is a
    tool of backends/registry.py, or that of a `Leftover`.
    """

    tool: str
    lines: tuple[str, ...]
    before: str
    after: str


class Link(NamedTuple):
    """A device of ours. `mac` is "" where any will do; MTUs are in bytes.

    `options` are those of its kind in the words of ip-link(8), which the kind alone reads
    (backends/base.py); a bridge has none. `ifindex` is the kernel's number of an observed device
    and 0 in a desired one; it tells a renamed device from a new one.
    """

    kind: str
    mtu: int
    mac: str
    alias: str
    up: bool = True
    options: str = ""
    ifindex: int = 0


class Port(NamedTuple):
    """A pod's attachment: a veth end on our bridge, and the pod's own end in its namespace.

    `mtu` is the host end's and `inner_mtu` the pod's own, in bytes. `inner` is the name of the
    pod's own end and `namespace` a path to its network namespace; both are "" where they were not
    looked up or not found: then only the host end's MTU is changed. `stray` tells that the host end
    is on no bridge.
    """

    mtu: int
    inner_mtu: int = 0
    inner: str = ""
    namespace: str = ""
    stray: bool = False


#: The beginning of `Rule.text` for a rule in the kernel that nft_rule.py cannot read.
UNREAD = "# "


class Rule(NamedTuple):
    """One nft rule; `tag` is the comment that identifies it in the kernel."""

    text: str
    tag: str


#: The end of `Accept.rule` for a rule in the kernel that stands below a rule which drops: there it
#: has no effect.
BELOW = " (below a rule that drops)"


class Accept(NamedTuple):
    """A rule of ours in a chain of another tool; `tool` is "nft" or an iptables program.

    `chain` and `rule` are text for that tool, e.g. "inet filter forward" or "FORWARD".
    """

    tool: str
    chain: str
    rule: str


class Leftover(NamedTuple):
    """Something of flannel's that has to be removed: `lines` for `tool` do that.

    `tool` is "nft", "iptables-legacy-restore" (or what that program is called; lines of a batch),
    "systemctl" (its arguments), "tree" (a directory) or "leases" (a directory and where its files
    go). `back` are the lines that bring it back. Leftovers that are `first` are removed before
    anything else is changed, all others after it.
    """

    tool: str
    lines: tuple[str, ...]
    back: tuple[str, ...] = ()
    first: bool = False


#: Name -> type of the nft sets that podnet's rules may name; a table has those that its rules name.
SETS = {"nodes4": "ipv4_addr", "nodes6": "ipv6_addr"}

#: The chain that drops what no node of the plan has sent. It comes before connection tracking
#: (-200) and others' rules in "raw" (-300), but after fragments were put together (-400).
GUARD = "guard"
GUARD_HOOK = "type filter hook prerouting priority -310"


class Chain(NamedTuple):
    """A base chain: `hook` is the text of nft(8), e.g. "type nat hook postrouting priority 100"."""

    name: str
    hook: str
    rules: tuple[Rule, ...]


@dataclass
class State:
    """Objects of one network on one host; each dict maps an object's key to its properties.

    `links`: name -> device. `addresses` -> flags for ip-address(8), such as " nodad", or "".
    `neighbours` -> MAC. `entries`: what a device of a backend's keeps for each peer, as its kind
    writes it (backends/base.py). `routes`: destination (with " metric N" where it is not the
    family's default) -> the rest of the route in ip-route(8)'s words, without our protocol.
    `ports`: name of the host's end -> attachment. `sysctls`: key -> value. `modules`: of the
    kernel's modules that podnet may load, those that are there -> "". `tables`: nft table ->
    chains; "netdev NAME" where its family is not inet. `members`: (table, element) -> the set of
    SETS that it is in. `accepts` -> the handles that nft knows the rule by, () in a desired state.
    `leftovers`: what another tool left, as a message names it -> how to remove it. `files`: path ->
    content, where "-> PATH" means a symbolic link. `boot`: the files that rebuild the network at
    boot, name -> content; they are replaced as one. `secrets`:
    path of a file that only root may read -> what is in it, in words that may be shown; `contents`
    are the contents of those files, as far as they are known, and are compared and shown nowhere.
    """

    links: dict[str, Link] = field(default_factory=dict)
    addresses: dict[DeviceKey, str] = field(default_factory=dict)
    neighbours: dict[DeviceKey, str] = field(default_factory=dict)
    entries: dict[DeviceKey, str] = field(default_factory=dict)
    routes: dict[str, str] = field(default_factory=dict)
    ports: dict[str, Port] = field(default_factory=dict)
    sysctls: dict[str, str] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    tables: dict[str, tuple[Chain, ...]] = field(default_factory=dict)
    members: dict[DeviceKey, str] = field(default_factory=dict)
    accepts: dict[Accept, tuple[int, ...]] = field(default_factory=dict)
    leftovers: dict[str, Leftover] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    boot: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    def copy(self) -> State:
        """Return a state whose dicts can be changed without changing this one's."""
        return replace(self, **{name: dict(value) for name, value in vars(self).items()})


def route_device(body: str) -> str:
    """Return the device that a route's text names, or ""."""
    words = body.split()
    return words[words.index("dev") + 1] if "dev" in words else ""


def used_sets(chains: tuple[Chain, ...]) -> list[str]:
    """Return the names of SETS that a rule of `chains` names."""
    words = {word for chain in chains for rule in chain.rules for word in rule.text.split(" ")}
    return [name for name in SETS if f"@{name}" in words]


def guard_of(chains: tuple[Chain, ...]) -> Chain | None:
    """Return the chain GUARD among `chains`, None where there is none."""
    return next((one for one in chains if one.name == GUARD), None)


def make_rule(text: str, why: str) -> Rule:
    """Return a rule whose comment says why it is there and identifies its text.

    nft prints a rule's text differently from what it was given, and each version differently; the
    comment comes back as it was.
    """
    return Rule(text, f"{why} [{hashlib.sha256(text.encode()).hexdigest()[:8]}]")

"""The plan and its parts as immutable types, and the document that carries a plan to hosts.

The controller makes one document for the whole network (`Plan.to_document`); every host gets the
same one and finds itself in it by name. Strings in it are canonical and were validated; a host
validates them again (`Plan.from_document`), because they end up in batch files.
"""

from __future__ import annotations

import base64
import dataclasses
import re
import socket
from dataclasses import dataclass
from typing import Any, Mapping

from .edition import NONE, Edition
from .errors import PodnetError
from .version import VERSION as PODNET
from .version import is_newer, is_version

#: The protocol number of podnet's routes, by which it recognises them: unassigned in
#: /etc/iproute2/rt_protos ("p" in ASCII).
ROUTE_PROTOCOL = 112

#: The version of the plan document's format.
VERSION = 1

#: Destinations of many receivers, by family (RFC 5771, RFC 4291): never masqueraded.
MULTICAST = {4: "224.0.0.0/4", 6: "ff00::/8"}

#: What podnet can be told to leave alone on a node: "forward", the firewall chains of other tools
#: that drop forwarded packets; "networkd", the settings of systemd-networkd and NetworkManager;
#: "leases", the addresses of pods that ended with the last boot.
LEAVABLE = ("forward", "networkd", "leases")

#: Fields of a node that are lists in the document.
_LISTS = ("reserved", "leave_alone", "podman_range")

# IFNAMSIZ is 16 with the final NUL (linux/if.h); dev_valid_name() forbids "/", ":" and spaces.
# We allow less, so that a name is safe in a batch file, a path and an nft script alike.
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}\Z")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,14}\Z")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z")
_DIR = re.compile(r"(/[A-Za-z0-9_.-]+)+\Z")
#: How often a timer does something: a number with one unit of systemd.time(7), by default seconds.
INTERVAL = re.compile(r"[0-9]{1,6}(s|sec|m|min|h|d)?\Z")
#: A setting of a backend that is text.
_WORD = re.compile(r"[A-Za-z0-9\[:][A-Za-z0-9_.:/+=\[\]-]{0,299}\Z")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")


def is_interface_name(text: object) -> bool:
    """Whether `text` can name a network interface: 1 to 15 safe bytes."""
    return isinstance(text, str) and _INTERFACE.match(text) is not None


def is_network_name(text: object) -> bool:
    """Whether `text` can be a podnet_name: a-z, then at most 14 of a-z, 0-9 and "-"."""
    return isinstance(text, str) and _NAME.match(text) is not None


def is_file_name(text: object) -> bool:
    """Whether `text` is a plain file name without a directory."""
    return isinstance(text, str) and _FILE.match(text) is not None


def is_directory(text: object) -> bool:
    """Whether `text` is an absolute path of plain names, without "." or ".." among them."""
    return (
        isinstance(text, str)
        and _DIR.match(text) is not None
        and not {".", ".."} & set(text.split("/"))
    )


def is_mac(text: object) -> bool:
    """Whether `text` is a unicast MAC address in the kernel's spelling (lower case, colons)."""
    return isinstance(text, str) and _MAC.match(text) is not None and not int(text[1], 16) & 1


def is_key(text: object) -> bool:
    """Whether `text` is a key of 32 bytes in base64 (RFC 4648), as wg(8) prints it."""
    try:
        return isinstance(text, str) and len(text) == 44 and _key_text(text) == text
    except ValueError:
        return False


def _key_text(text: str) -> str:
    raw = base64.b64decode(text, validate=True)
    return base64.b64encode(raw).decode() if len(raw) == 32 else ""


def pack(address: str) -> bytes:
    """Return the 4 or 16 bytes of a canonical IP address; raise ValueError for anything else."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        raw = socket.inet_pton(family, address)
    except OSError as error:
        raise ValueError(f"not an IP address: {address!r}") from error
    if socket.inet_ntop(family, raw) != address:
        raise ValueError(f"not in its canonical spelling: {address!r}")
    return raw


def unpack(raw: bytes) -> str:
    """Return the text of 4 or 16 address bytes."""
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def offset(address: str, number: int) -> str:
    """Return the address `number` places after `address`, in the same family."""
    raw = pack(address)
    return unpack((int.from_bytes(raw, "big") + number).to_bytes(len(raw), "big"))


def split_cidr(cidr: str) -> tuple[str, int]:
    """Return (network address, prefix length) of a canonical CIDR without host bits.

    Raises ValueError for anything else.
    """
    address, slash, length = cidr.partition("/")
    raw = pack(address)
    bits = len(raw) * 8
    if not slash or not length.isdigit() or str(int(length)) != length or int(length) > bits:
        raise ValueError(f"not a CIDR: {cidr!r}")
    if int.from_bytes(raw, "big") & ((1 << (bits - int(length))) - 1):
        raise ValueError(f"host bits are set: {cidr!r}")
    return address, int(length)


def is_inside(inner: str, outer: str) -> bool:
    """Whether the CIDR `inner` lies in the CIDR `outer`; false across families."""
    inner_address, inner_length = split_cidr(inner)
    outer_address, outer_length = split_cidr(outer)
    inner_raw, outer_raw = pack(inner_address), pack(outer_address)
    if len(inner_raw) != len(outer_raw) or inner_length < outer_length:
        return False
    shift = len(inner_raw) * 8 - outer_length
    return int.from_bytes(inner_raw, "big") >> shift == int.from_bytes(outer_raw, "big") >> shift


def is_address(text: object) -> bool:
    """Whether `text` is an IP address in its canonical spelling."""
    return _is_address(text, 4) or _is_address(text, 6)


def is_range(text: object) -> bool:
    """Whether `text` is an address, or two of them with "-" between, the lesser one first."""
    try:
        ends = [pack(one) for one in text.split("-")] if isinstance(text, str) else []
    except ValueError:
        return False
    # Equal ends are to be written as one address.
    return len(ends) in (1, 2) and len(ends[0]) == len(ends[-1]) and ends == sorted(set(ends))


def overlaps(one: str, other: str) -> bool:
    """Whether two CIDRs share an address."""
    return is_inside(one, other) or is_inside(other, one)


@dataclass(frozen=True)
class Endpoint:
    """A static network namespace of a node; `address` may be empty (the node then picks one)."""

    name: str
    address: str = ""
    address6: str = ""


@dataclass(frozen=True)
class Node:
    """A member of the network, as every other member sees it.

    `ip`/`ip6` are its addresses on the underlay, with the prefix length where the inventory gave
    one (else None). `subnet`/`subnet6` are its share of the cluster CIDRs ("" without that
    family). `reserved` are ranges (ranges.py) of these that neither pods nor endpoints without an
    address of their own are given. `mac` is the VTEP's MAC: derived by the plan, or set in the
    inventory for a node that another tool still runs. `interface` is "" unless the inventory names
    one. `leave_alone` lists the entries of LEAVABLE that podnet must not touch on this node.
    `adopt`: podnet takes over what flannel made there. `manage_neighbours`: podnet raises the
    kernel's limits of its neighbour tables. `bridge_netfilter` is "true", "false" or "" (as the
    host needs; state/bridge_netfilter.py). `repair_interval` is how often a timer repairs the host
    (see INTERVAL), "" for never; `health_interval` how often one writes the host's health, and
    `health_dir` the directory where node_exporter reads it. `podman`: Podman is to know the network
    (cni/podman.py); `podman_range` are those of `reserved` that it gives out, one of a family.
    `key` is the public key by which peers know the node, "" where the backend has none or the host
    has not made it yet; `settings` are the backend's own, as in `Plan`.
    """

    name: str
    ip: str = ""
    ip_prefix: int | None = None
    ip6: str = ""
    ip6_prefix: int | None = None
    subnet: str = ""
    subnet6: str = ""
    mac: str = ""
    interface: str = ""
    endpoints: tuple[Endpoint, ...] = ()
    reserved: tuple[str, ...] = ()
    leave_alone: tuple[str, ...] = ()
    adopt: bool = False
    manage_neighbours: bool = False
    bridge_netfilter: str = ""
    repair_interval: str = ""
    health_interval: str = ""
    health_dir: str = ""
    podman: bool = False
    podman_range: tuple[str, ...] = ()
    key: str = ""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Cni:
    """Where the CNI configuration is written, and which plugins follow bridge in it.

    `extra_plugins` are types of plugins, or JSON objects with a "type". `exclusive`: configurations
    of others in `conf_dir` are moved aside.
    """

    conf_dir: str = "/etc/cni/net.d"
    conf_name: str = "10-podnet.conflist"
    bin_dir: str = "/opt/cni/bin"
    extra_plugins: tuple[Any, ...] = ("portmap",)
    exclusive: bool = False


@dataclass(frozen=True)
class Plan:
    """What the whole network must look like; a pure function of inventory and allocations.

    `mtu` is "auto", "portable" or a number of bytes as text. `underlay` is the family (4 or 6) that
    an overlay's packets travel over. `settings` are the backend's own (backends/base.py): each is a
    truth value, a number, or one safe word. `edition` is that of the allocations file with the
    nodes' subnets. `podnet_version` is the version that made the plan. `masquerade_exclude` are
    CIDRs of both families that pods reach with their own address. `guard`: only the plan's nodes
    may send into the overlay.
    """

    name: str
    cluster_cidr: str
    cluster_cidr6: str
    backend: str
    settings: Mapping[str, Any]
    bridge: str
    mtu: str
    masquerade: bool
    underlay: int
    cni: Cni
    nodes: Mapping[str, Node]
    edition: Edition = NONE
    podnet_version: str = ""
    masquerade_exclude: tuple[str, ...] = ()
    guard: bool = True

    def to_document(self) -> dict[str, Any]:
        """Return the plan as JSON types; empty fields of nodes are left out to keep it small."""
        nodes: list[dict[str, Any]] = []
        for node in self.nodes.values():
            entry: dict[str, Any] = {
                key: value
                for key, value in vars(node).items()
                if value not in ("", None, (), {}) and value is not False and key != "endpoints"
            }
            for key in _LISTS:
                if getattr(node, key):
                    entry[key] = list(getattr(node, key))
            if node.endpoints:
                entry["endpoints"] = [
                    {key: value for key, value in vars(one).items() if value}
                    for one in node.endpoints
                ]
            nodes.append(entry)
        apart = ("cni", "nodes", "edition", "settings", "masquerade_exclude", "guard")
        document = {key: value for key, value in vars(self).items() if key not in apart}
        document.update(self.settings)
        if self.masquerade_exclude:
            document["masquerade_exclude"] = list(self.masquerade_exclude)
        if not self.guard:
            document["guard"] = False
        if self.edition.id:
            document["edition"] = self.edition._asdict()
        cni = dict(vars(self.cni), extra_plugins=list(self.cni.extra_plugins))
        if not self.cni.exclusive:
            del cni["exclusive"]
        return dict(document, version=VERSION, cni=cni, nodes=nodes)

    @classmethod
    def from_document(cls, document: Any) -> Plan:
        """Read a document back, trusting none of it.

        Raises PodnetError naming the field when anything in it is not what a plan holds: these
        strings go into batch files that root runs. Whether the settings are the backend's is for
        backends/document.py to say.
        """
        if not isinstance(document, dict) or document.get("version") != VERSION:
            raise PodnetError(
                f"plan: not a podnet plan of version {VERSION}; make it with podnet_plan"
            )
        made_by = document.get("podnet_version", "")
        demand(made_by == "" or is_version(made_by), "podnet_version", made_by)
        if is_newer(made_by):
            raise PodnetError(
                f"plan: made by podnet {made_by}, and this is the older {PODNET}; make it with "
                "podnet_plan of the same version"
            )
        fields = dict(document)
        fields.pop("version")
        try:
            described = fields.pop("cni")
            cni = Cni(**dict(described, extra_plugins=tuple(described["extra_plugins"])))
            nodes: dict[str, Node] = {}
            for entry in fields.pop("nodes"):
                endpoints = tuple(Endpoint(**one) for one in entry.get("endpoints", ()))
                lists = {key: tuple(entry.get(key, ())) for key in _LISTS}
                node = Node(**dict(entry, endpoints=endpoints, **lists))
                nodes[node.name] = node
            edition = Edition(**fields.pop("edition", {}))
            fields["masquerade_exclude"] = tuple(fields.get("masquerade_exclude", ()))
            own = {field.name for field in dataclasses.fields(cls)} - {"settings"}
            settings = {key: fields.pop(key) for key in list(fields) if key not in own}
            plan = cls(cni=cni, nodes=nodes, edition=edition, settings=settings, **fields)
        except (TypeError, KeyError, AttributeError) as error:
            raise PodnetError(
                f"plan: damaged ({str(error)[:200]}); make it with podnet_plan"
            ) from error
        plan._validate()
        return plan

    def _validate(self) -> None:
        demand(is_network_name(self.name), "name", self.name)
        demand(is_interface_name(self.bridge), "bridge", self.bridge)
        demand(is_network_name(self.backend), "backend", self.backend)
        for key, value in self.settings.items():
            demand(_NAME.match(key.replace("_", "-")) is not None, "settings", key)
            demand(_is_safe(value), key, value)
        demand(self.underlay in (4, 6), "underlay", self.underlay)
        demand(isinstance(self.masquerade, bool), "masquerade", self.masquerade)
        demand(isinstance(self.guard, bool), "guard", self.guard)
        for one in self.masquerade_exclude:
            demand(_is_cidr(one, 4) or _is_cidr(one, 6), "masquerade_exclude", one)
        demand(
            self.mtu in ("auto", "portable")
            or (
                isinstance(self.mtu, str)
                and re.fullmatch("[0-9]{3,5}", self.mtu) is not None
                and 576 <= int(self.mtu) <= 65535
            ),
            "mtu",
            self.mtu,
        )
        demand(is_directory(self.cni.conf_dir), "cni.conf_dir", self.cni.conf_dir)
        demand(is_directory(self.cni.bin_dir), "cni.bin_dir", self.cni.bin_dir)
        demand(is_file_name(self.cni.conf_name), "cni.conf_name", self.cni.conf_name)
        demand(isinstance(self.cni.exclusive, bool), "cni.exclusive", self.cni.exclusive)
        for label, cidr, family in (
            ("cluster_cidr", self.cluster_cidr, 4),
            ("cluster_cidr6", self.cluster_cidr6, 6),
        ):
            demand(cidr == "" or _is_cidr(cidr, family), label, cidr)
        demand(bool(self.cluster_cidr or self.cluster_cidr6), "cluster_cidr", "")
        demand(self.edition.is_valid(), "edition", tuple(self.edition))
        for node in self.nodes.values():
            node_validate(node)


def node_validate(node: Node) -> None:
    """Raise PodnetError when a field of `node` is not as `Node` describes it."""
    demand(isinstance(node.name, str) and node.name != "", "nodes.name", node.name)
    label = f"nodes.{node.name if node.name.isprintable() else repr(node.name)}"[:100]
    for field, address, family in (("ip", node.ip, 4), ("ip6", node.ip6, 6)):
        demand(address == "" or _is_address(address, family), label + "." + field, address)
    for field, cidr, family in (("subnet", node.subnet, 4), ("subnet6", node.subnet6, 6)):
        demand(cidr == "" or _is_cidr(cidr, family), label + "." + field, cidr)
    for field, length, most in (
        ("ip_prefix", node.ip_prefix, 32),
        ("ip6_prefix", node.ip6_prefix, 128),
    ):
        demand(length is None or is_int(length, 0, most), label + "." + field, length)
    demand(node.mac == "" or is_mac(node.mac), label + ".mac", node.mac)
    demand(
        node.interface == "" or is_interface_name(node.interface),
        label + ".interface",
        node.interface,
    )
    for field in ("reserved", "podman_range"):
        for one in getattr(node, field):
            demand(is_range(one), f"{label}.{field}", one)
    demand(isinstance(node.podman, bool), label + ".podman", node.podman)
    demand(set(node.leave_alone) <= set(LEAVABLE), label + ".leave_alone", node.leave_alone)
    demand(isinstance(node.adopt, bool), label + ".adopt", node.adopt)
    demand(
        isinstance(node.manage_neighbours, bool),
        label + ".manage_neighbours",
        node.manage_neighbours,
    )
    demand(
        node.bridge_netfilter in ("", "true", "false"),
        label + ".bridge_netfilter",
        node.bridge_netfilter,
    )
    for field in ("repair_interval", "health_interval"):
        value = getattr(node, field)
        demand(
            isinstance(value, str) and (value == "" or INTERVAL.match(value) is not None),
            f"{label}.{field}",
            value,
        )
    demand(
        is_directory(node.health_dir) or not (node.health_dir or node.health_interval),
        label + ".health_dir",
        node.health_dir,
    )
    demand(node.key == "" or is_key(node.key), label + ".key", node.key)
    demand(isinstance(node.settings, dict), label + ".settings", node.settings)
    for key, value in node.settings.items():
        demand(_NAME.match(str(key).replace("_", "-")) is not None, label + ".settings", key)
        demand(_is_safe(value), f"{label}.{key}", value)
    for endpoint in node.endpoints:
        demand(is_interface_name(endpoint.name), label + ".endpoints", endpoint.name)
        for address, family in ((endpoint.address, 4), (endpoint.address6, 6)):
            demand(address == "" or _is_address(address, family), label + ".endpoints", address)


def is_int(value: object, least: int, most: int) -> bool:
    """Whether `value` is a whole number from `least` to `most`; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_address(text: object, family: int) -> bool:
    try:
        return isinstance(text, str) and len(pack(text)) == (4 if family == 4 else 16)
    except ValueError:
        return False


def _is_cidr(text: object, family: int) -> bool:
    try:
        # A colon alone tells the family; split_cidr checks the rest.
        return isinstance(text, str) and (":" in text) == (family == 6) and bool(split_cidr(text))
    except ValueError:
        return False


def _is_safe(value: object) -> bool:
    """Whether `value` may be a setting of a backend: a truth value, a number, or a safe word."""
    return isinstance(value, (bool, int)) or (
        isinstance(value, str) and (value == "" or _WORD.match(value) is not None)
    )


def demand(holds: bool, field: str, value: object) -> None:
    """Raise PodnetError naming a field of the plan document and its value unless `holds`."""
    if not holds:
        shown = repr(value)
        shown = shown if len(shown) <= 100 else f"{shown[:100]}..."
        raise PodnetError(f"plan: {field}: {shown} is not valid; make the plan with podnet_plan")

"""Read what a host has of one network.

The parsers take the JSON of `ip`, `bridge` and `nft`, checked by `schema`, and keep only what
`state.State` holds; fields that they do not know are ignored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Collection, Iterable, Mapping, NamedTuple, Sequence

from ..backends.base import DeviceKind
from ..backends.registry import KINDS
from ..core import schema
from ..core.errors import PodnetError
from ..core.host_view import Prefix, make_prefix
from ..core.model import ROUTE_PROTOCOL, is_address, is_inside, split_cidr
from ..core.state import BRIDGE, SETS, UNREAD, Chain, Link, Port, Rule, State, route_device
from ..firewall.forward import Forwarder
from ..state import bridge_netfilter
from ..state.diff import full_name
from ..state.nft_rule import text as rule_text
from . import forward
from .run import NFTABLES, TOOLS, nft_document, read_json, run

_PROTOCOL = str(ROUTE_PROTOCOL)
#: Number -> the name that podnet's own commands use (/etc/iproute2/rt_protos, rt_scopes); other
#: numbers are not translated, because `ip -N` prints them so.
_PROTOCOLS = {"2": "kernel", "3": "boot", "4": "static"}
_SCOPES = {"253": "link", "254": "host", "255": "nowhere"}
_TYPES = {"2": "local", "6": "blackhole", "7": "unreachable", "8": "prohibit", "9": "throw"}


@dataclass
class Observation:
    """What `observe` found on a host.

    `links` are all devices as `ip -j -d addr` prints them. `foreign` maps destinations within the
    network's ranges to routes that are not podnet's. `forwarders` are the chains that pods' packets
    pass and podnet did not make.
    """

    state: State
    links: list[dict[str, Any]] = field(default_factory=list)
    foreign: dict[str, str] = field(default_factory=dict)
    forwarders: list[Forwarder] = field(default_factory=list)


def read_links() -> list[dict[str, Any]]:
    """Return all devices with details and addresses."""
    return read_json(["ip", "-j", "-N", "-d", "addr", "show"], _check_link)


def _check_link(entry: Any) -> None:
    schema.link(entry)
    info = entry.get("linkinfo", {})
    kind = KINDS.get(info.get("info_kind", ""))
    if kind:
        kind.check(info.get("info_data", {}))


def owned_links(links: Sequence[dict[str, Any]], name: str, recorded: Iterable[str]) -> set[str]:
    """Return the names of devices that carry network `name`'s mark, or that its record names.

    The record counts because another tool may re-create a bridge of ours without the mark.
    """
    recorded = set(recorded)
    return {
        link["ifname"]
        for link in links
        if link.get("ifalias") == f"podnet:{name}"
        or (
            link["ifname"] in recorded
            and link.get("linkinfo", {}).get("info_kind") in (BRIDGE, *KINDS)
            and not str(link.get("ifalias", "")).startswith("podnet:")
        )
    }


def parse_link(link: dict[str, Any]) -> Link:
    """Return a device as a Link; `link` is one of `read_links`."""
    info = link.get("linkinfo", {})
    kind = KINDS.get(info.get("info_kind", ""))
    return Link(
        kind=info.get("info_kind", ""),
        mtu=int(link["mtu"]),
        mac=link.get("address", ""),
        alias=link.get("ifalias", ""),
        up="UP" in link.get("flags", ()),
        options=_options(kind, link) if kind else "",
        ifindex=link["ifindex"],
    )


def _options(kind: DeviceKind, link: dict[str, Any]) -> str:
    found = [kind.options(link["linkinfo"].get("info_data", {}))]
    found.append(kind.own_options(link["ifname"], TOOLS))
    return " ".join(one for one in found if one)


def parse_addresses(link: dict[str, Any], cidrs: Sequence[str]) -> dict[tuple[str, str], str]:
    """Return a device's addresses within `cidrs`; podnet leaves others on it alone."""
    result = {}
    for address in link.get("addr_info", ()):
        local = address.get("local", "")
        single = f"{local}/{128 if ':' in local else 32}"
        if local and any(is_inside(single, cidr) for cidr in cidrs):
            result[link["ifname"], f"{local}/{address['prefixlen']}"] = ""
    return result


def parse_route(entry: dict[str, Any]) -> tuple[str, str]:
    """Return (destination, text) of one route of `ip -j -N route`.

    The destination carries the metric where it is not the family's default (0, or 1024 for IPv6),
    because routes that differ in it are different routes.
    """
    destination = str(entry.get("dst", ""))
    six = ":" in destination
    if "/" not in destination and destination != "default":
        destination += "/128" if six else "/32"
    words = []
    kind = str(entry.get("type", "1"))
    if kind not in ("1", "unicast"):
        words.append("type " + _TYPES.get(kind, kind))
    if "gateway" in entry:
        words.append(f"via {entry['gateway']}")
    elif "via" in entry:
        words.append(f"via {entry['via'].get('family')} {entry['via'].get('host')}")
    for hop in entry.get("nexthops", ()):
        words.append(f"nexthop via {hop.get('gateway', '')} dev {hop.get('dev', '')}")
    if "dev" in entry:
        words.append(f"dev {entry['dev']}")
    protocol = str(entry.get("protocol", ""))
    if protocol != _PROTOCOL:
        words.append("proto " + _PROTOCOLS.get(protocol, protocol or "boot"))
    scope = str(entry.get("scope", ""))
    if scope and scope not in ("0", "global"):
        words.append("scope " + _SCOPES.get(scope, scope))
    if "prefsrc" in entry:
        words.append(f"src {entry['prefsrc']}")
    if "onlink" in entry.get("flags", ()):
        words.append("onlink")
    for metrics in entry.get("metrics", ()):
        words += [f"{key} {value}" for key, value in metrics.items()]
    metric = entry.get("metric", 0)
    # IPv6 routes that the kernel makes itself have 256; those that programs add have 1024.
    if metric not in ((1024,) if six else (0,)):
        destination += f" metric {metric}"
    return destination, " ".join(words)


def read_routes(
    families: Iterable[int], cidrs: Sequence[str], wanted: set[str], ours: set[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return (podnet's routes, foreign routes) in the main table that lie within `cidrs`.

    podnet's are those with its protocol number, and those whose destination is in `wanted`. All
    others are foreign, except routes over the devices `ours`, which the kernel adds. Routes to more
    than a range of `cidrs` are left out: the longer prefix wins.
    """
    own: dict[str, str] = {}
    foreign: dict[str, str] = {}
    ranges = {}
    for cidr in cidrs:
        address, length = split_cidr(cidr)
        ranges[cidr] = make_prefix(address, length)
    for family in families:
        sized = [one for one in ranges.values() if one.size == (4 if family == 4 else 16)]
        argv = ["ip", "-j", "-N", f"-{family}", "route", "show", "table", "main"]
        for entry in read_json(argv, schema.route):
            destination, body = parse_route(entry)
            if destination in wanted:  # nearly always; what is wanted lies in our ranges
                own[destination] = body
                continue
            plain = destination.split(" ", 1)[0]
            if plain == "default" or not any(_is_within(plain, one) for one in sized):
                continue
            if entry.get("protocol") == _PROTOCOL:
                own[destination] = body
            elif entry.get("dev") not in ours:
                foreign[destination] = body
    return own, foreign


def _is_within(cidr: str, prefix: Prefix) -> bool:
    address, _mark, length = cidr.partition("/")
    one = make_prefix(address, int(length))
    return one.shift <= prefix.shift and one.value >> (prefix.shift - one.shift) == prefix.value


def read_neighbours(device: str) -> dict[tuple[str, str], str]:
    """Return (device, address) -> MAC of the permanent neighbours on a device."""
    return {
        (device, entry["dst"]): entry.get("lladdr", "")
        for entry in read_json(["ip", "-j", "-N", "neigh", "show", "dev", device], schema.neighbour)
        if "PERMANENT" in entry.get("state", ())
    }


def parse_table(document: Any) -> tuple[Chain, ...]:
    """Return the base chains of `nft -j list table`.

    A rule without a comment gets an empty tag and so differs from every rule that podnet wants. The
    text of a rule that podnet cannot read is UNREAD and the rule's comment.
    """
    chains: list[Chain] = []
    rules: dict[str, list[Rule]] = {}
    for entry in document.get("nftables", ()) if isinstance(document, dict) else ():
        if "chain" in entry:
            chain = entry["chain"]
            hook = "type {} hook {} priority {}".format(
                chain.get("type"), chain.get("hook"), chain.get("prio")
            )
            if chain.get("policy", "accept") != "accept":
                hook += f"; policy {chain['policy']}"
            chains.append(Chain(chain["name"], hook, ()))
        elif "rule" in entry:
            rule = entry["rule"]
            comment = str(rule.get("comment", ""))
            text = rule_text(rule.get("expr", ()))
            if not text:
                text = UNREAD + (comment or "a rule that podnet did not make")
            rules.setdefault(rule.get("chain", ""), []).append(Rule(text, comment))
        elif not ({"metainfo", "table"} & entry.keys() or _members(entry) is not None):
            chains.append(Chain(str(sorted(entry)), "# an object that podnet did not make", ()))
    return tuple(chain._replace(rules=tuple(rules.get(chain.name, ()))) for chain in chains)


#: What nft's JSON has of a set of podnet's; others have flags, timeouts and more.
_SET = {"family", "name", "table", "type", "handle", "elem"}


def _members(entry: Mapping[str, Any]) -> dict[str, str] | None:
    """Return element -> set for a set as podnet makes them, None for any other `entry`."""
    found = entry.get("set")
    if not isinstance(found, dict) or found.keys() - _SET:
        return None
    elements = found.get("elem", [])
    kinds = [
        name
        for name, kind in SETS.items()
        if (found.get("name"), found.get("type")) == (name, kind)
    ]
    if not kinds or not isinstance(elements, list) or not all(map(is_address, elements)):
        return None
    return dict.fromkeys(elements, kinds[0])


def parse_members(document: Any) -> dict[str, str]:
    """Return element -> set for the sets in `nft -j list table` that podnet may have made."""
    found: dict[str, str] = {}
    for entry in document.get("nftables", ()) if isinstance(document, dict) else ():
        found.update(_members(entry) or {})
    return found


class Table(NamedTuple):
    """An nft table of podnet's; `members`: element -> its set."""

    chains: tuple[Chain, ...]
    members: Mapping[str, str]


def read_table(name: str) -> Table | None:
    """Return podnet's nft table `name`, None where there is no such table.

    Raises PodnetError if it cannot be read.
    """
    full = full_name(name)
    argv = ["nft", "-j", "list", "table", *full.split(" ")]
    result = run(argv)
    if result.code != 0:
        if "No such file" in result.error:
            return None
        too_old = f"; podnet needs {NFTABLES}" if "JSON" in result.error else ""
        raise PodnetError(f"{' '.join(argv)}: {result.error} (exit {result.code}){too_old}")
    document = nft_document(argv, result.output)
    return Table(parse_table(document), parse_members(document))


def sysctl_path(key: str) -> Path:
    """Return the file of a sysctl; "/" in a key stands for "." in a device's name (sysctl(8))."""
    return Path("/proc/sys") / "/".join(part.replace("/", ".") for part in key.split("."))


def read_sysctls(keys: Iterable[str]) -> dict[str, str]:
    """Return the values of sysctls; one that the kernel does not have is left out."""
    values = {}
    for key in keys:
        try:
            values[key] = sysctl_path(key).read_text().strip()
        except (FileNotFoundError, ValueError):
            # ValueError: not even a file could have that name.
            continue
        except OSError as error:
            raise PodnetError(f"sysctl {key}: cannot be read ({error.strerror})") from error
    return values


def ports_of(links: Sequence[dict[str, Any]], bridge: str) -> dict[str, Port]:
    """Return the veth ends that are ports of `bridge`; the pods' own ends are not filled in."""
    return {
        link["ifname"]: Port(int(link["mtu"]))
        for link in links
        if link.get("master") == bridge and link.get("linkinfo", {}).get("info_kind") == "veth"
    }


def observe(
    name: str,
    links: list[dict[str, Any]],
    *,
    ours: set[str],
    cidrs: Sequence[str],
    wanted: set[str],
    sysctls: Collection[str],
    also_tables: Sequence[str] = (),
) -> Observation:
    """Return what network `name` has on this host.

    `ours` names its devices, `cidrs` are its ranges. `wanted` are destinations of routes that it
    must have: any route there counts as its own, even one without podnet's protocol number.
    `also_tables` are nft tables that exist only during a change. Raises PodnetError.
    """
    state = State()
    for link in links:
        device = link["ifname"]
        if device in ours:
            state.links[device] = parse_link(link)
            state.addresses.update(parse_addresses(link, cidrs))
            kind = KINDS.get(state.links[device].kind)
            if kind:
                if kind.has_mac:
                    state.neighbours.update(read_neighbours(device))
                state.entries.update(kind.read(device, TOOLS))
            elif state.links[device].kind == BRIDGE:
                state.ports.update(ports_of(links, device))
    families = sorted({6 if ":" in cidr else 4 for cidr in cidrs})
    state.routes, foreign = read_routes(families, cidrs, wanted, ours)
    for one in (name, *also_tables):
        table = read_table(one)
        if table is not None:
            state.tables[one] = table.chains
            state.members.update(((one, element), kind) for element, kind in table.members.items())
    state.accepts, forwarders = forward.read(name)
    state.sysctls = read_sysctls(sysctls)
    bridging = [key for key in bridge_netfilter.KEYS.values() if key in sysctls]
    if any(key in state.sysctls for key in bridging):
        state.modules[bridge_netfilter.MODULE] = ""
    for key in bridging:
        state.sysctls.setdefault(key, "0")
    return Observation(state, links, foreign, forwarders)


__all__ = ["Observation", "observe", "owned_links", "read_links", "route_device"]

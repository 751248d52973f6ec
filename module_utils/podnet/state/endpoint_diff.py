"""The ordered changes that make a static endpoint what it must be, and its boot files. Pure.

A namespace that exists is never made anew, because processes run in it: what is wrong inside is
repaired. The veth pair is made anew only when its ends are not connected.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Sequence

from ..core.endpoints import Entries, Entry, alias
from ..core.model import is_inside, offset, split_cidr
from ..core.state import Change
from .diff import route_line

#: The name of the veth pair's end inside the namespace, as in a pod.
INNER = "eth0"


class HostEnd(NamedTuple):
    """The host's end of a veth pair as it is; `master` is the bridge it hangs on, or ""."""

    mtu: int
    master: str
    alias: str
    up: bool


@dataclass
class InnerEnd:
    """The veth pair's end inside the namespace, as it is.

    `addresses` are CIDRs, `routes` the default routes: (family, destination with its metric) ->
    the rest in ip-route(8)'s words, without our protocol.
    """

    mac: str
    mtu: int
    up: bool
    addresses: list[str] = field(default_factory=list)
    routes: dict[tuple[int, str], str] = field(default_factory=dict)


@dataclass
class Seen:
    """What a host has of an endpoint.

    `namespace` is "" (none), "there", or "stale": its name exists, the namespace does not. `inner`
    is None unless it is connected to the host's end; `lo_up` is about the namespace's loopback.
    `foreign`: the inner end's name is taken by a device that is not connected to the host's end.
    """

    namespace: str = ""
    host: HostEnd | None = None
    inner: InnerEnd | None = None
    lo_up: bool = False
    foreign: bool = False


def changes(network: str, entry: Entry, seen: Seen, known: Sequence[str] = ()) -> list[Change]:
    """Return the changes that turn what was `seen` into `entry`, in the order to apply them.

    A change's tool is "ip" on the host, or "ip -n NAME" inside the namespace. `known` are CIDRs of
    the network: addresses in them that are not the entry's are removed, all others stay.
    """
    result: list[Change] = []
    host, inner, lo_up = seen.host, seen.inner, seen.lo_up
    if seen.namespace != "there":
        stale = [f"netns del {entry.name}"] if seen.namespace else []
        lines = (*stale, f"netns add {entry.name}")
        result.append(Change("ip", lines, "", f"netns {entry.name}"))
        inner, lo_up = None, False
    if host is not None and inner is None:
        result.append(_remove_pair(entry.name, host))
        host = None
    if host is None or inner is None:
        text = host_text(entry.name, _host_end(network, entry))
        result.append(Change("ip", _create(network, entry), "", text))
        inner = InnerEnd(entry.mac, entry.mtu, False)
    else:
        result += _host_changes(network, entry, host)
    return result + _inner_changes(entry, inner, lo_up, known, fresh=host is None)


def removal(name: str, seen: Seen) -> list[Change]:
    """Return the changes that take away an endpoint's pair and namespace.

    The pair goes first: processes may keep the namespace alive without its name.
    """
    result = [_remove_pair(name, seen.host)] if seen.host else []
    if seen.namespace:
        result.append(Change("ip", (f"netns del {name}",), f"netns {name}", ""))
    return result


def _host_end(network: str, entry: Entry) -> HostEnd:
    return HostEnd(entry.mtu, entry.bridge, alias(network, entry.name), True)


def _create(network: str, entry: Entry) -> tuple[str, ...]:
    device = entry.device
    return (
        # The peer is made inside, so it never shows on the host, where udev would rename it.
        f"link add {device} mtu {entry.mtu} type veth peer name {INNER} address {entry.mac} "
        f"mtu {entry.mtu} netns {entry.name}",
        f"link set dev {device} alias {alias(network, entry.name)}",
        f"link set dev {device} master {entry.bridge}",
        f"link set dev {device} up",
    )


def _host_changes(network: str, entry: Entry, host: HostEnd) -> list[Change]:
    want = _host_end(network, entry)
    words = []
    if host.alias != want.alias:
        words.append(f"alias {want.alias}")
    if host.mtu != want.mtu:
        words.append(f"mtu {want.mtu}")
    if host.master != want.master:
        words.append(f"master {want.master}")
    if host.up != want.up:
        words.append("up")
    lines = tuple(f"link set dev {entry.device} {one}" for one in words)
    texts = host_text(entry.name, host), host_text(entry.name, want)
    return [Change("ip", lines, *texts)] if lines else []


def _inner_changes(
    entry: Entry, inner: InnerEnd, lo_up: bool, known: Sequence[str], fresh: bool
) -> list[Change]:
    tool, where = f"ip -n {entry.name}", f"netns {entry.name}: "
    result: list[Change] = []
    if not lo_up:
        # A namespace begins with its loopback down.
        text = where + "link lo"
        before = "" if fresh else f"{text} down"
        result.append(Change(tool, ("link set dev lo up",), before, f"{text} up"))
    if (inner.mac, inner.mtu, inner.up) != (entry.mac, entry.mtu, True):
        before = "" if fresh else where + _inner_text(inner.mac, inner.mtu, inner.up)
        after = where + _inner_text(entry.mac, entry.mtu, True)
        result.append(Change(tool, (_inner_line(entry),), before, after))
    wanted = _inner_addresses(entry)
    gone = [
        cidr
        for cidr in inner.addresses
        if cidr not in wanted and any(_is_in(cidr, one) for one in known)
    ]
    for cidr in gone:
        text = f"{where}addr {cidr} dev {INNER}"
        result.append(Change(tool, (f"addr del {cidr} dev {INNER}",), text, ""))
    # When an address is removed, the kernel also drops the routes that use it and, for IPv4, the
    # later addresses of its subnet: so all addresses and routes of that family are set again.
    shaken = {_family(cidr) for cidr in gone}
    for cidr, flags in wanted.items():
        if cidr not in inner.addresses or _family(cidr) in shaken:
            text = f"{where}addr {cidr} dev {INNER}"
            before = text if cidr in inner.addresses else ""
            result.append(Change(tool, (f"addr replace {cidr} dev {INNER}{flags}",), before, text))
    routes = _inner_routes(entry)
    for (family, destination), body in routes.items():
        have = inner.routes.get((family, destination))
        if have != body or family in shaken:
            before = f"{where}route {destination} {have}" if have is not None else ""
            text = f"{where}route {destination} {body}"
            result.append(Change(tool, (route_line(destination, body),), before, text))
    for (family, destination), body in inner.routes.items():
        if (family, destination) not in routes:
            text = f"{where}route {destination} {body}"
            # A default route without a gateway does not tell its family.
            line = _route_removal(destination, body)
            result.append(Change(f"ip -{family} -n {entry.name}", (line,), text, ""))
    return result


def _inner_line(entry: Entry) -> str:
    return f"link set dev {INNER} address {entry.mac} mtu {entry.mtu} up"


def _inner_addresses(entry: Entry) -> dict[str, str]:
    """Return CIDR -> flags: " nodad" for IPv6, since nobody else can have the address."""
    return {
        f"{address}/{split_cidr(subnet)[1]}": " nodad" if ":" in address else ""
        for address, subnet in entry.legs
    }


def _inner_routes(entry: Entry) -> dict[tuple[int, str], str]:
    routes = {}
    for address, subnet in entry.legs:
        family = _family(address)
        # The kernel's metric for IPv6 routes that name none is 1024.
        destination = "default" if family == 4 else "default metric 1024"
        routes[family, destination] = f"via {offset(split_cidr(subnet)[0], 1)} dev {INNER}"
    return routes


def _route_removal(destination: str, body: str) -> str:
    if body.startswith("type "):
        _other, kind, rest = (body + " ").split(" ", 2)
        return f"route del {kind} {destination} {rest}".rstrip()
    return f"route del {destination} {body}"


def _family(address: str) -> int:
    return 6 if ":" in address else 4


def _is_in(cidr: str, outer: str) -> bool:
    address = cidr.partition("/")[0]
    return bool(outer) and is_inside(f"{address}/{128 if ':' in address else 32}", outer)


def _remove_pair(name: str, host: HostEnd) -> Change:
    return Change("ip", (f"link del dev ep-{name}",), host_text(name, host), "")


def host_text(name: str, host: HostEnd) -> str:
    """Return the host's end on one line in the words of ip-link(8)."""
    master = f" master {host.master}" if host.master else ""
    mark = f" alias {host.alias}" if host.alias else ""
    return f"link ep-{name} type veth mtu {host.mtu}{master}{mark} {'up' if host.up else 'down'}"


def _inner_text(mac: str, mtu: int, is_up: bool) -> str:
    return f"link {INNER} address {mac} mtu {mtu} {'up' if is_up else 'down'}"


def boot_files(network: str, entries: Entries) -> dict[str, str]:
    """Return file name -> text of what rebuilds `entries` at boot; {} without any.

    `endpoints.batch` makes namespaces and pairs and is run with `-force`, since a device that is
    there already must not keep the others from being made. `endpoints-inside.batch` must be run
    without it: iproute2 goes on with the rest of the batch in both processes when `netns exec`
    cannot enter a namespace, so with -force each such line would double the work. All lines in it
    may be replayed at any time.
    """
    host: list[str] = []
    inside: list[str] = []
    for _other, entry in sorted(entries.items()):
        create, *rest = _create(network, entry)
        host += [f"netns add {entry.name}", create]
        host += [f"link set dev {entry.device} mtu {entry.mtu}", *rest]
        lines = ["link set dev lo up", _inner_line(entry)]
        lines += [
            f"addr replace {cidr} dev {INNER}{flags}"
            for cidr, flags in _inner_addresses(entry).items()
        ]
        lines += [
            route_line(target, body) for (_other, target), body in _inner_routes(entry).items()
        ]
        inside += [f"netns exec {entry.name} ip {line}" for line in lines]
    if not host:
        return {}
    return {
        "endpoints.batch": "".join(f"{line}\n" for line in host),
        "endpoints-inside.batch": "".join(f"{line}\n" for line in inside),
    }


#: Every file that `boot_files` may return.
BOOT_FILES = ("endpoints.batch", "endpoints-inside.batch")

"""Read and write static endpoints: named namespaces and the veth pairs that lead into them."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any, Iterable, Sequence

from ..core import schema
from ..core.endpoints import MARK
from ..core.errors import PodnetError
from ..core.state import Change
from ..state.endpoint_diff import INNER, HostEnd, InnerEnd, Seen
from .apply import batch
from .observe import parse_route
from .run import read_json, run

#: Where iproute2 keeps the names of namespaces (ip-netns(8)).
NAMESPACES = "/run/netns"

Links = Sequence["dict[str, Any]"]


def marked(links: Links) -> dict[str, tuple[str, str]]:
    """Return device -> (network, endpoint) for the devices that carry an endpoint's mark."""
    found = {}
    for link in links:
        words = str(link.get("ifalias", "")).split(":")
        if len(words) == 3 and words[0] == MARK and link["ifname"] == f"ep-{words[2]}":
            found[link["ifname"]] = words[1], words[2]
    return found


def observe(names: Iterable[str], links: Links) -> dict[str, Seen]:
    """Return what the host has under the names of the endpoints `names`, whoever made it.

    `links` are the host's devices as `observe.read_links` returns them. Raises PodnetError for
    what cannot be read.
    """
    by_name = {link["ifname"]: link for link in links}
    return {name: _look(name, by_name.get(f"ep-{name}")) for name in names}


def _look(name: str, link: dict[str, Any] | None) -> Seen:
    seen = Seen(namespace=namespace(name))
    if link is not None:
        seen.host = HostEnd(
            mtu=int(link["mtu"]),
            master=link.get("master", ""),
            alias=link.get("ifalias", ""),
            up="UP" in link.get("flags", ()),
        )
    if seen.namespace != "there":
        return seen
    for one in read_json(["ip", "-n", name, "-j", "-N", "-d", "addr", "show"], schema.link):
        if one["ifname"] == "lo":
            seen.lo_up = "UP" in one.get("flags", ())
        elif link is not None and _are_connected(link, one) and one["ifname"] == INNER:
            seen.inner = InnerEnd(
                mac=one.get("address", ""),
                mtu=int(one["mtu"]),
                up="UP" in one.get("flags", ()),
                addresses=[
                    f"{address['local']}/{address['prefixlen']}"
                    for address in one.get("addr_info", ())
                    if address.get("local") and not address["local"].startswith("fe80:")
                ],
                routes=_default_routes(name),
            )
        elif one["ifname"] == INNER and not (link is not None and _are_connected(link, one)):
            seen.foreign = True
    return seen


def _are_connected(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return bool(
        one.get("link_index") == other["ifindex"] and other.get("link_index") == one["ifindex"]
    )


def _default_routes(name: str) -> dict[tuple[int, str], str]:
    routes = {}
    for family in (4, 6):
        for entry in read_json(
            ["ip", "-n", name, "-j", "-N", f"-{family}", "route", "show", "default"], schema.route
        ):
            destination, body = parse_route(entry)
            routes[family, destination] = body
    return routes


def namespace(name: str) -> str:
    """Return "there", "stale" (the name leads nowhere) or "" (there is no such name)."""
    path = Path(NAMESPACES) / name
    try:
        # A name is a file that a namespace is mounted on. Without the mount it is left over, for
        # example from a crash.
        return "there" if path.stat().st_dev != path.parent.stat().st_dev else "stale"
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise PodnetError(f"{path}: cannot be read ({error.strerror})") from error


def processes(name: str) -> list[str]:
    """Return the ids of the processes that run in the namespace `name`, [] if ip cannot tell."""
    result = run(["ip", "netns", "pids", name])
    return result.output.split() if result.code == 0 else []


def apply(changes: Sequence[Change]) -> None:
    """Apply `changes` in order; raise PodnetError at the first that fails, naming the line."""
    for tool, group in groupby(changes, key=lambda change: change.tool):
        batch([*tool.split(), "-batch", "-"], [line for change in group for line in change.lines])

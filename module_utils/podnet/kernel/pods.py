"""Find a pod's own end of a veth pair: its network namespace, and its name there."""

from __future__ import annotations

import contextlib
import socket
import struct
from pathlib import Path
from typing import Any, Iterable, Iterator, Sequence

from ..core import schema
from ..core.endpoints import MARK
from ..core.errors import PodnetError
from ..core.model import is_inside, is_interface_name
from ..core.state import Port
from .netns import interface_mtu
from .run import read_json

# linux/rtnetlink.h and linux/net_namespace.h: ask for the id (nsid) by which this namespace knows
# another one. `ip netns` can ask that too, but for named namespaces only.
_RTM_NEWNSID = 88
_RTM_GETNSID = 90
_NLM_F_REQUEST = 1
_NETNSA_NSID = 1
_NETNSA_FD = 3


def with_inner_ends(ports: dict[str, Port], links: Sequence[dict[str, Any]]) -> dict[str, Port]:
    """Return `ports` with the pods' own ends filled in where they can be found."""
    result = dict(ports)
    for name, path, link in _inner_ends(ports, links):
        result[name] = _with_inner(result[name], path, link)
    return result


def strays(links: Sequence[dict[str, Any]], subnets: Sequence[str]) -> dict[str, Port]:
    """Return the host ends of this network's pods that are on no bridge.

    A pod is this network's if its own end has an address in one of `subnets`. Namespaces are
    searched only if the host has a veth on no bridge whose other end is in another namespace.
    """
    lost = {
        link["ifname"]: Port(int(link["mtu"]), stray=True)
        for link in links
        if link.get("linkinfo", {}).get("info_kind") == "veth"
        and not link.get("master")
        and "link_netnsid" in link
        # The module podnet_endpoint repairs static endpoints.
        and not str(link.get("ifalias", "")).startswith(f"{MARK}:")
    }
    found = {}
    for name, path, link in _inner_ends(lost, links):
        if any(
            is_inside(f"{address}/{128 if ':' in address else 32}", subnet)
            for address in schema.held(link)
            for subnet in subnets
            if subnet
        ):
            found[name] = _with_inner(lost[name], path, link)
    return found


def everywhere() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (path of a namespace, device in it) for all network namespaces but our own."""
    for path in _namespaces():
        # A process may have ended meanwhile, and its namespace with it.
        with contextlib.suppress(PodnetError):
            for link in _inside(path):
                yield path, link


def has_device(name: str, path: str = "") -> bool:
    """Whether a device is there, in the network namespace at `path` ("": here)."""
    try:
        return interface_mtu(name, path) is not None
    except PodnetError:
        return False


def _with_inner(port: Port, path: str, link: dict[str, Any]) -> Port:
    if not link["word"]:
        return port
    return port._replace(inner_mtu=int(link["mtu"]), inner=link["word"], namespace=path)


def _inner_ends(
    ports: Iterable[str], links: Sequence[dict[str, Any]]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (host end, path of the pod's namespace, the pod's own end) where it can be found."""
    by_name = {link["ifname"]: link for link in links}
    wanted: dict[int, dict[int, str]] = {}
    for name in ports:
        link = by_name.get(name, {})
        if "link_netnsid" in link and "link_index" in link:
            wanted.setdefault(link["link_netnsid"], {})[link["link_index"]] = name
    if not wanted:
        return
    for path in _namespaces():
        number = _namespace_number(path)
        if number not in wanted:
            continue
        try:
            there = _inside(path)
        except PodnetError:
            # The pod has left since: its namespace is gone, or another one has its path.
            if _namespace_number(path) == number:
                raise
            continue
        for link in there:
            name = wanted[number].get(link["ifindex"], "")
            if name:
                yield name, path, link
        del wanted[number]
        if not wanted:
            break


def _inside(path: str) -> list[dict[str, Any]]:
    """Return the devices in a pod's namespace; "word" is what a batch may call the device.

    Root in a pod chooses names of devices, and the kernel allows nearly any (dev_valid_name). If a
    name is unsafe in a batch or script, "word" is "if" and the index, by which ip(8) finds any
    device (ll_name_to_index in lib/ll_map.c); if another device has that name, it is "".
    """
    found = read_json(["nsenter", f"--net={path}", "ip", "-j", "addr", "show"], schema.link)
    names = {link["ifname"] for link in found}
    for link in found:
        word = link["ifname"] if is_interface_name(link["ifname"]) else f"if{link['ifindex']}"
        link["word"] = word if word == link["ifname"] or word not in names else ""
    return found


def _namespaces() -> Iterator[str]:
    """Yield a path to each network namespace but our own: named ones, then those of processes."""
    seen = {Path("/proc/self/ns/net").stat().st_ino}
    paths = [str(path) for path in sorted(Path("/run/netns").glob("*"))]
    paths += [f"{one}/ns/net" for one in Path("/proc").iterdir() if one.name.isdigit()]
    for path in paths:
        # A process may end, and a name may be gone, while we look.
        with contextlib.suppress(OSError):
            inode = Path(path).stat().st_ino
            if inode not in seen:
                seen.add(inode)
                yield path


def _namespace_number(path: str) -> int:
    """Return the id that this namespace has for the one at `path`, -1 if none or if it is gone."""
    try:
        with Path(path).open("rb") as namespace, socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE
        ) as netlink:
            attribute = struct.pack("=HHI", 8, _NETNSA_FD, namespace.fileno())
            body = struct.pack("=B3x", socket.AF_UNSPEC) + attribute
            netlink.send(
                struct.pack("=IHHII", 16 + len(body), _RTM_GETNSID, _NLM_F_REQUEST, 1, 0) + body
            )
            reply = netlink.recv(4096)
    except OSError:
        return -1
    position = 16 + 4  # the netlink header, then struct rtgenmsg
    if struct.unpack_from("=H", reply, 4)[0] != _RTM_NEWNSID:
        return -1
    while position + 8 <= len(reply):
        length, attribute_kind = struct.unpack_from("=HH", reply, position)
        if length < 8:
            return -1
        if attribute_kind == _NETNSA_NSID:
            return int(struct.unpack_from("=i", reply, position + 4)[0])
        position += (length + 3) & ~3
    return -1

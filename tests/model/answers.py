"""What `ip -j` and `bridge -j` say of a model's kernel, as far as podnet reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .kernel import MAIN, Device, Kernel, Route, UnknownLine

_PROTOCOLS = {"kernel": "2", "boot": "3", "static": "4"}
_SCOPES = {"link": "253", "host": "254"}


def read_json(kernel: Kernel, argv: Sequence[str]) -> list[dict[str, Any]]:
    """Answer a command that prints JSON."""
    words = [word for word in argv if word not in ("-j", "-N", "-d", "-details")]
    match words:
        case ["ip", "addr", "show"] | ["ip", "link", "show"]:
            return [_link(kernel, name, one) for name, one in kernel.devices.items()]
        case ["ip", ("-4" | "-6") as family, "route", "show", "table", table]:
            size = 4 if family == "-4" else 16
            return [
                _route(destination, one)
                for (where, destination, *_), one in kernel.routes.items()
                if where == table and one.size == size
            ]
        case ["ip", "neigh", "show", "dev", device]:
            return [
                {"dst": address, "lladdr": mac, "state": ["PERMANENT"]}
                for (where, address), mac in kernel.neighbours.items()
                if where == device
            ]
        case ["bridge", "fdb", "show", "dev", device]:
            return [
                {"mac": mac, "ifname": device, "dst": remote, "state": "permanent"}
                for (where, mac), remotes in kernel.fdb.items()
                if where == device
                for remote in remotes
            ]
        case ["ip", *_, "rule", "show"]:
            own = [(0, "local"), (32766, MAIN), (32767, "default")]
            return [
                {"priority": priority, "src": "all", "table": table}
                for priority, table in sorted([*own, *kernel.rules])
            ]
    raise UnknownLine(f"no answer to {' '.join(argv)}")


def way(kernel: Kernel, line: str) -> dict[str, Any] | None:
    """Answer `route get [fibmatch] ADDRESS [from SOURCE]`; None where there is no route."""
    words = [word for word in line.split() if word not in ("route", "get", "fibmatch")]
    address = words[0]
    if words[1:2] not in ([], ["from"]):
        raise UnknownLine(line)
    if kernel.holder(address):
        return {"type": "local", "dst": address, "dev": "lo"}
    found = kernel.lookup(address)
    if found is None:
        return None
    entry: dict[str, Any] = {"dst": address, "dev": found.device}
    if found.via:
        entry["gateway"] = found.via
    entry["prefsrc"] = found.source or next(
        (
            cidr.partition("/")[0]
            for device, cidr in kernel.addresses
            if device == found.device and (":" in cidr) == (":" in address)
        ),
        "",
    )
    return entry


def _link(kernel: Kernel, name: str, one: Device) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "ifindex": one.number,
        "ifname": name,
        "flags": ["BROADCAST", "UP", "LOWER_UP"] if one.up else ["BROADCAST"],
        "mtu": one.mtu,
        "address": one.mac,
        "addr_info": [
            {"local": cidr.partition("/")[0], "prefixlen": int(cidr.partition("/")[2])}
            for device, cidr in kernel.addresses
            if device == name
        ],
    }
    if one.alias:
        entry["ifalias"] = one.alias
    if one.master:
        entry["master"] = one.master
    if one.kind != "nic":
        entry["linkinfo"] = {"info_kind": one.kind}
    if one.kind == "vxlan":
        local = "local6" if ":" in one.local else "local"
        entry["linkinfo"]["info_data"] = {
            "id": one.vni,
            "port": one.port,
            local: one.local,
            "learning": one.learning,
        }
    return entry


def _route(destination: str, one: Route) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "dst": "default" if one.length == 0 else destination,
        "dev": one.device,
        "protocol": _PROTOCOLS.get(one.protocol, one.protocol),
        "flags": ["onlink"] if one.onlink else [],
    }
    if one.via and (":" in one.via) != (one.size == 16):
        entry["via"] = {"family": "inet6", "host": one.via}
    elif one.via:
        entry["gateway"] = one.via
    if one.kind != "unicast":
        entry["type"] = one.kind
    if one.scope:
        entry["scope"] = _SCOPES.get(one.scope, one.scope)
    if one.source:
        entry["prefsrc"] = one.source
    if one.metric:
        entry["metric"] = one.metric
    return entry

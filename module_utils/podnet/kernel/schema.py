"""What the JSON of iproute2 must look like where podnet reads it.

The parsers rely on these checks, which cover only the fields that they use: new or unknown fields
are no error. A check raises ValueError naming the field.
"""

from __future__ import annotations

from typing import Any

from ..core.model import pack


def link(entry: Any) -> None:
    """Check a device of `ip link` or `ip addr`."""
    _demand(isinstance(entry, dict), "entry", entry)
    _word(entry, "ifname", required=True)
    for key in ("ifindex", "mtu"):
        _number(entry, key, required=True)
    for key in ("link_index", "link_netnsid"):
        _number(entry, key, least=-1)
    for key in ("address", "ifalias"):
        _text(entry, key)
    _word(entry, "master")
    flags = entry.get("flags", [])
    _demand(
        isinstance(flags, list) and all(isinstance(flag, str) for flag in flags), "flags", flags
    )
    info = _within(entry, "linkinfo")
    _text(info, "info_kind")
    data = _within(info, "info_data")
    if info.get("info_kind") == "vxlan":
        for key in ("id", "port"):
            _number(data, key)
        for key in ("local", "local6"):
            _address(data, key)
    addresses = entry.get("addr_info", [])
    _demand(isinstance(addresses, list), "addr_info", addresses)
    for one in addresses:
        _demand(isinstance(one, dict), "addr_info", one)
        if "local" in one:
            _address(one, "local")
            _number(one, "prefixlen", most=128 if ":" in one["local"] else 32, required=True)


def route(entry: Any) -> None:
    """Check a route of `ip route`."""
    _demand(isinstance(entry, dict), "entry", entry)
    destination = entry.get("dst")
    _demand(isinstance(destination, str), "dst", destination)
    if destination != "default":
        address, slash, length = destination.partition("/")
        _address({"dst": address}, "dst")
        most = 128 if ":" in address else 32
        _demand(not slash or (length.isdigit() and int(length) <= most), "dst", destination)
    for key in ("dev", "gateway", "prefsrc"):
        _word(entry, key)
    for key in ("type", "protocol", "scope"):
        if type(entry.get(key)) is not int:
            _word(entry, key)
    _number(entry, "metric")
    via = _within(entry, "via")
    for key in ("family", "host"):
        _text(via, key)
    _demand(isinstance(entry.get("flags", []), list), "flags", entry.get("flags"))
    for key in ("nexthops", "metrics"):
        those = entry.get(key, [])
        _demand(isinstance(those, list) and all(isinstance(one, dict) for one in those), key, those)


def way(entry: Any) -> None:
    """Check an answer of `ip route get`; written for speed, because there is one for each peer."""
    if type(entry) is not dict:
        _demand(False, "entry", entry)
    for key in ("dev", "gateway", "prefsrc", "type"):
        value = entry.get(key, "x")
        if type(value) is not str or " " in value or not value.isprintable():
            _demand(key == "type" and type(value) is int, key, value)
    _text(_within(entry, "via"), "host")
    if "metrics" in entry:
        metrics = entry["metrics"]
        good = isinstance(metrics, list) and all(isinstance(one, dict) for one in metrics)
        _demand(good, "metrics", metrics)
        for one in metrics:
            if type(one.get("mtu")) is int:
                _number(one, "mtu", least=1, most=65536)


def neighbour(entry: Any) -> None:
    """Check an entry of `ip neigh`."""
    _demand(isinstance(entry, dict), "entry", entry)
    _address(entry, "dst", required=True)
    _word(entry, "lladdr")
    _demand(isinstance(entry.get("state", []), (list, str)), "state", entry.get("state"))


def fdb(entry: Any) -> None:
    """Check an entry of `bridge fdb`."""
    _demand(isinstance(entry, dict), "entry", entry)
    _word(entry, "mac", required=True)
    _address(entry, "dst")
    _word(entry, "viaIf")
    _text(entry, "state")


def _demand(holds: bool, key: str, value: Any) -> None:
    if not holds:
        raise ValueError(f"{key}: {value!r:.80}")


def _text(entry: Any, key: str) -> None:
    _demand(isinstance(entry.get(key, ""), str), key, entry.get(key))


def _word(entry: Any, key: str, required: bool = False) -> None:
    value = entry.get(key, None if required else "x")
    # A name in a batch must be one word (dev_valid_name in the kernel sees to that).
    _demand(isinstance(value, str) and len(value.split()) == 1, key, value)
    _demand(value == value.strip(), key, value)


def _number(
    entry: Any, key: str, *, least: int = 0, most: int = 2**32, required: bool = False
) -> None:
    value = entry.get(key, None if required else 0)
    _demand(type(value) is int and least <= value <= most, key, value)


def _address(entry: Any, key: str, required: bool = False) -> None:
    value = entry.get(key, None if required else "::")
    _demand(isinstance(value, str), key, value)
    try:
        pack(value)
    except ValueError as error:
        raise ValueError(f"{key}: {value!r:.80}") from error


def _within(entry: Any, key: str) -> Any:
    value = entry.get(key, {})
    _demand(isinstance(value, dict), key, value)
    return value


def nft(document: Any) -> None:
    """Check what `nft -j list` prints (libnftables-json(5))."""
    _demand(isinstance(document, dict), "document", document)
    entries = document.get("nftables", [])
    _demand(isinstance(entries, list), "nftables", entries)
    for entry in entries:
        _demand(isinstance(entry, dict), "entry", entry)
        chain = _within(entry, "chain")
        if "chain" in entry:
            _word(chain, "name", required=True)
        for key in ("family", "table", "type", "hook", "policy"):
            _text(chain, key)
        rule = _within(entry, "rule")
        if "rule" in entry:
            _number(rule, "handle", most=2**64, required=True)
        for key in ("chain", "comment"):
            _text(rule, key)
        parts = rule.get("expr", [])
        _demand(
            isinstance(parts, list) and all(isinstance(one, (dict, str)) for one in parts),
            "expr",
            parts,
        )

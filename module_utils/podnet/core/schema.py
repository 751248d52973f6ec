"""What the JSON of iproute2 must look like where podnet reads it.

The parsers rely on these checks, which cover only the fields that they use: new or unknown fields
are no error. A check raises ValueError naming the field.
"""

from __future__ import annotations

from typing import Any, Mapping

from .model import pack


def link(entry: Any) -> None:
    """Check a device of `ip link` or `ip addr`."""
    demand(isinstance(entry, dict), "entry", entry)
    word(entry, "ifname", required=True)
    for key in ("ifindex", "mtu"):
        number(entry, key, required=True)
    for key in ("link_index", "link_netnsid"):
        number(entry, key, least=-1)
    for key in ("address", "ifalias"):
        text(entry, key)
    word(entry, "master")
    flags = entry.get("flags", [])
    demand(isinstance(flags, list) and all(isinstance(flag, str) for flag in flags), "flags", flags)
    info = _within(entry, "linkinfo")
    text(info, "info_kind")
    _within(info, "info_data")
    addresses = entry.get("addr_info", [])
    demand(isinstance(addresses, list), "addr_info", addresses)
    for one in addresses:
        demand(isinstance(one, dict), "addr_info", one)
        if "local" in one:
            address(one, "local")
            number(one, "prefixlen", most=128 if ":" in one["local"] else 32, required=True)


def held(*links: Mapping[str, Any]) -> list[str]:
    """Return the addresses of devices that `link` has checked."""
    found = (one.get("local") for entry in links for one in entry.get("addr_info", ()))
    return [str(address) for address in found if address]


def route(entry: Any) -> None:
    """Check a route of `ip route`."""
    demand(isinstance(entry, dict), "entry", entry)
    destination = entry.get("dst")
    demand(isinstance(destination, str), "dst", destination)
    if destination != "default":
        base, slash, length = destination.partition("/")
        address({"dst": base}, "dst")
        most = 128 if ":" in base else 32
        demand(not slash or (length.isdigit() and int(length) <= most), "dst", destination)
    for key in ("dev", "gateway", "prefsrc"):
        word(entry, key)
    for key in ("type", "protocol", "scope"):
        if not is_whole(entry.get(key)):
            word(entry, key)
    number(entry, "metric")
    via = _within(entry, "via")
    for key in ("family", "host"):
        text(via, key)
    demand(isinstance(entry.get("flags", []), list), "flags", entry.get("flags"))
    for key in ("nexthops", "metrics"):
        those = entry.get(key, [])
        demand(isinstance(those, list) and all(isinstance(one, dict) for one in those), key, those)


def way(entry: Any) -> None:
    """Check an answer of `ip route get`; written for speed, because there is one for each peer."""
    if not isinstance(entry, dict):
        demand(False, "entry", entry)
    for key in ("dev", "gateway", "prefsrc", "type"):
        value = entry.get(key, "x")
        if not isinstance(value, str) or " " in value or not value.isprintable():
            demand(key == "type" and is_whole(value), key, value)
    text(_within(entry, "via"), "host")
    if "metrics" in entry:
        metrics = entry["metrics"]
        good = isinstance(metrics, list) and all(isinstance(one, dict) for one in metrics)
        demand(good, "metrics", metrics)
        for one in metrics:
            if is_whole(one.get("mtu")):
                number(one, "mtu", least=1, most=65536)


def neighbour(entry: Any) -> None:
    """Check an entry of `ip neigh`."""
    demand(isinstance(entry, dict), "entry", entry)
    address(entry, "dst", required=True)
    word(entry, "lladdr")
    demand(isinstance(entry.get("state", []), (list, str)), "state", entry.get("state"))


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number; to Python, true and false are some."""
    return isinstance(value, int) and not isinstance(value, bool)


def demand(holds: bool, key: str, value: Any) -> None:
    """Raise ValueError naming `key` and its value unless `holds`."""
    if not holds:
        raise ValueError(f"{key}: {value!r:.80}")


def text(entry: Any, key: str) -> None:
    """Demand that `key` is text, or missing."""
    demand(isinstance(entry.get(key, ""), str), key, entry.get(key))


def word(entry: Any, key: str, required: bool = False) -> None:
    """Demand that `key` is one word; it may be missing unless it is `required`."""
    value = entry.get(key, None if required else "x")
    # A name in a batch must be one word (dev_valid_name in the kernel sees to that).
    demand(isinstance(value, str) and len(value.split()) == 1, key, value)
    demand(value == value.strip(), key, value)


def number(
    entry: Any, key: str, *, least: int = 0, most: int = 2**32, required: bool = False
) -> None:
    """Demand that `key` is a number in a range; it may be missing unless it is `required`."""
    value = entry.get(key, None if required else 0)
    demand(is_whole(value) and least <= value <= most, key, value)


def address(entry: Any, key: str, required: bool = False) -> None:
    """Demand that `key` is an IP address; it may be missing unless it is `required`."""
    value = entry.get(key, None if required else "::")
    demand(isinstance(value, str), key, value)
    try:
        pack(value)
    except ValueError as error:
        raise ValueError(f"{key}: {value!r:.80}") from error


def _within(entry: Any, key: str) -> Any:
    value = entry.get(key, {})
    demand(isinstance(value, dict), key, value)
    return value


def nft(document: Any) -> None:
    """Check what `nft -j list` prints (libnftables-json(5))."""
    demand(isinstance(document, dict), "document", document)
    entries = document.get("nftables", [])
    demand(isinstance(entries, list), "nftables", entries)
    for entry in entries:
        demand(isinstance(entry, dict), "entry", entry)
        chain = _within(entry, "chain")
        if "chain" in entry:
            word(chain, "name", required=True)
        for key in ("family", "table", "type", "hook", "policy"):
            text(chain, key)
        rule = _within(entry, "rule")
        if "rule" in entry:
            number(rule, "handle", most=2**64, required=True)
        for key in ("chain", "comment"):
            text(rule, key)
        parts = rule.get("expr", [])
        demand(
            isinstance(parts, list) and all(isinstance(one, (dict, str)) for one in parts),
            "expr",
            parts,
        )

"""Checks for the values of `podnet_` variables.

A check takes the raw value and returns the canonical one, or raises ValueError with what is
allowed ("must be ..."). Values from ``-e name=value`` arrive as text, so checks read text, too.
"""

from __future__ import annotations

import datetime
import difflib
import functools
import re
import socket
from typing import Any, Callable, Sequence

from ..core import model, ranges
from ..core.endpoints import NAME_RULE, is_endpoint_name
from ..core.nft_words import NFT_WORDS

Check = Callable[[Any], Any]

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_PLUGIN_OPTION_DEPTH = 20
_ADDRESS = re.compile(r"[0-9a-fA-F.:]{2,45}\Z")
_LENGTH = re.compile(r"[0-9]{1,3}\Z", re.ASCII)


def show(value: object) -> str:
    """Return `value` for an error message: quoted, on one line, cut when it is long."""
    text = repr(str(value) if isinstance(value, str) else value)
    return text if len(text) <= 80 else text[:77] + "..."


def closest(name: str, known: Sequence[str]) -> str:
    """Return " (did you mean ...?)" when `known` holds something like `name`, else ""."""
    found = difflib.get_close_matches(name, known, 1, 0.6)
    return f" (did you mean {found[0]}?)" if found else ""


def boolean(value: object) -> bool:
    """Read a boolean; YAML's words for it are accepted as text."""
    word = str(value).lower() if isinstance(value, (str, int)) else ""
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("must be true or false")


def auto_or_boolean(value: object) -> str:
    """Read "auto", true or false; "auto" becomes "", the others become text."""
    if value == "auto":
        return ""
    try:
        return "true" if boolean(value) else "false"
    except ValueError:
        raise ValueError("must be auto, true or false") from None


def integer(least: int, most: int) -> Callable[[Any], int]:
    """Make a check for an integer from `least` to `most`."""

    def check(value: object) -> int:
        if isinstance(value, str) and re.match(r"[0-9]{1,9}\Z", value, re.ASCII):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(value)

    return check


def misread(value: object) -> str:
    """Return what to say of a value that YAML has read as something else than text, else "".

    YAML 1.1 reads 52:54:00:12:34:56 as a number in base 60 (yaml.org/type/int.html), "on" as true
    and 2026-01-01 as a date.
    """
    if isinstance(value, bool):
        return '; YAML read it as true or false: put it into quotes ("...")'
    if isinstance(value, (int, float)):
        return f"; YAML read it as a number: put it into quotes ({_in_base_60(value)})"
    if isinstance(value, datetime.date):
        return '; YAML read it as a date: put it into quotes ("...")'
    return ""


def _in_base_60(value: float) -> str:
    """Return what a number may have been before YAML read it in base 60, in quotes."""
    groups: list[str] = []
    rest = int(value) if value > 0 else 0
    while rest:
        rest, digits = divmod(rest, 60)
        groups.insert(0, f"{digits:02}")
    return f'"{":".join(groups)}"' if len(groups) > 4 else '"..."'


def matching(test: Callable[[object], bool], allowed: str) -> Callable[[Any], str]:
    """Make a check for text that `test` accepts; `allowed` says in words what that is."""

    def check(value: object) -> str:
        if not test(value):
            raise ValueError(f"must be {allowed}{misread(value)}")
        return str(value)

    return check


def optional(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Let an empty string (or YAML's null) stand for "not set"."""
    return lambda value: "" if value is None or value == "" else check(value)


def word(*allowed: str) -> Callable[[Any], str]:
    """Make a check for one of a few words; a misspelt one gets the closest as a hint."""

    def check(value: object) -> str:
        if isinstance(value, str) and value in allowed:
            return str(value)
        hint = closest(value, allowed) if isinstance(value, str) else ""
        *others, last = allowed
        raise ValueError(f"must be {', '.join(others)} or {last}{hint}")

    return check


def switch(other: str) -> Callable[[Any], str]:
    """Make a check for on, off or the word `other`, as text; YAML reads on and off as booleans."""
    check = word(other, "on", "off")

    def switched(value: object) -> str:
        return check(("off", "on")[value] if isinstance(value, bool) else value)

    return switched


def mtu(value: object) -> str:
    """Read podnet_mtu: "auto", "portable", or a number of bytes, as text.

    576 is the least that IPv4 hosts must take (RFC 791), 65535 the most that Linux allows here.
    """
    if isinstance(value, str) and value in ("auto", "portable"):
        return str(value)
    try:
        return str(integer(576, 65535)(value))
    except ValueError:
        raise ValueError("must be auto, portable, or a number of bytes from 576 to 65535") from None


def pairs(value: object) -> str:
    """Read podnet_probe_pairs: "all", "ring", or a number of hosts, as text."""
    if isinstance(value, str) and value in ("all", "ring"):
        return str(value)
    try:
        return str(integer(1, 999999)(value))
    except ValueError:
        raise ValueError("must be all, ring, or a number of hosts from 1 to 999999") from None


def address(family: int) -> Callable[[Any], tuple[str, int | None]]:
    """Make a check for a node's address, with or without "/length".

    The check returns (canonical address, prefix length or None).
    """
    bits = 32 if family == 4 else 128
    other = 10 - family
    example = "192.0.2.11 or 192.0.2.11/24" if family == 4 else "2001:db8::11 or 2001:db8::11/64"

    def check(value: object) -> tuple[str, int | None]:
        text, slash, length = str(value).partition("/")
        number = _number(text, family) if isinstance(value, str) else None
        if number is None:
            found = isinstance(value, str) and _number(text, other) is not None
            belongs = "podnet_node_ip6" if family == 4 else "podnet_node_ip"
            hint = f"; an IPv{other} address belongs in {belongs}" if found else ""
            hint = hint or misread(value)
            raise ValueError(f"must be an IPv{family} address such as {example}{hint}")
        if not slash:
            return _text(number, family), None
        if not _LENGTH.match(length) or not 1 <= int(length) <= bits:
            raise ValueError(f"must have a prefix length from 1 to {bits} after the slash")
        return _text(number, family), int(length)

    return check


def cidr(family: int) -> Callable[[Any], str]:
    """Make a check for a CIDR without host bits; it returns the canonical spelling."""
    bits = 32 if family == 4 else 128
    other = 10 - family
    example = "10.244.0.0/16" if family == 4 else "fd00:10:244::/48"

    def check(value: object) -> str:
        text, slash, length = str(value).partition("/")
        number = _number(text, family) if isinstance(value, str) else None
        if number is None:
            found = isinstance(value, str) and _number(text, other) is not None
            hint = f"; this is IPv{other}, set the variable of that family" if found else ""
            raise ValueError(f"must be an IPv{family} CIDR such as {example}{hint}")
        if not slash or not _LENGTH.match(length) or int(length) > bits:
            raise ValueError(f"must be a CIDR with a length from 0 to {bits}, such as {example}")
        mask = (1 << (bits - int(length))) - 1
        if number & mask:
            fixed = _text(number & ~mask, family)
            raise ValueError(f"has host bits set: write {fixed}/{int(length)}")
        return f"{_text(number, family)}/{int(length)}"

    return check


def _number(text: str, family: int) -> int | None:
    # Without this, a NUL in the text would make inet_pton raise ValueError instead of OSError.
    if not _ADDRESS.match(text):
        return None
    try:
        raw = socket.inet_pton(socket.AF_INET if family == 4 else socket.AF_INET6, text)
    except OSError:
        return None
    return int.from_bytes(raw, "big")


def _text(number: int, family: int) -> str:
    return model.unpack(number.to_bytes(4 if family == 4 else 16, "big"))


def endpoints(value: object) -> list[dict[str, str]]:
    """Read podnet_endpoints: a list of {name, address, address6}.

    Whether an address lies in the node's subnet is checked later.
    """
    if not isinstance(value, (list, tuple)):
        raise ValueError("must be a list of {name: ..., address: ...}")
    names: set[str] = set()
    checked: list[dict[str, str]] = []
    for entry in value:
        if not isinstance(entry, dict) or "name" not in entry:
            raise ValueError("must be a list of {name: ..., address: ...}")
        unknown = [key for key in entry if key not in ("name", "address", "address6")]
        if unknown:
            raise ValueError(f"must not hold {show(unknown[0])}: known are name, address, address6")
        name = entry["name"]
        if not is_endpoint_name(name):
            raise ValueError(f"must not name an endpoint {show(name)}: {NAME_RULE}")
        if name in names:
            raise ValueError(f"must not name two endpoints {name}")
        names.add(name)
        one = {"name": str(name)}
        for key, family in (("address", 4), ("address6", 6)):
            given = entry.get(key)
            if given is None or given == "":
                continue
            number = _number(given, family) if isinstance(given, str) else None
            if number is None:
                raise ValueError(
                    f"must give endpoint {name} an IPv{family} {key}, not {show(given)}"
                )
            one[key] = _text(number, family)
        checked.append(one)
    return checked


def _split(value: object) -> object:
    """Return text with commas as a list, anything else as it is."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _items(value: object, allowed: str) -> list[str]:
    """Read a list of text; text with commas is one, too (``-e name=a,b``)."""
    value = _split(value)
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"must be {allowed}")
    for one in value:
        if not isinstance(one, str):
            raise ValueError(f"must be {allowed}; {show(one)} is none{misread(one)}")
    return [str(one) for one in value]


def reserved(value: object) -> list[str]:
    """Read podnet_reserved: addresses, ranges and CIDRs, as `core/ranges.py` spells them."""
    found = _items(
        value,
        "a list of addresses, ranges or CIDRs such as 10.244.1.9, 10.244.1.9-10.244.1.20 or"
        " 10.244.1.16/28",
    )
    return list(dict.fromkeys(_range(one) for one in found))


# A group's list may name addresses of thousands of nodes, and each of these has the whole list.
@functools.lru_cache(maxsize=65536)
def _range(text: str) -> str:
    if "/" in text:
        return ranges.of_cidr(_any_cidr(text)).text()
    ends = [one.strip() for one in text.split("-")]
    family = 6 if ":" in text else 4
    numbers = [_number(one, family) for one in ends]
    if len(ends) > 2 or None in numbers:
        raise ValueError(
            f"must hold addresses, ranges and CIDRs of one family each; {show(text)} is none"
        )
    first, last = (int(one) for one in (numbers[0], numbers[-1]) if one is not None)
    if first > last:
        raise ValueError(f"must hold ranges from low to high: write {ends[1]}-{ends[0]}")
    return ranges.Range(4 if family == 4 else 16, first, last).text()


def _any_cidr(text: str) -> str:
    """Return the canonical spelling of a CIDR of either family."""
    try:
        return str(cidr(6 if ":" in text else 4)(text))
    except ValueError as error:
        raise ValueError(f"must hold CIDRs without host bits; {show(text)} {error}") from error


def cidrs(value: object) -> list[str]:
    """Read a list of CIDRs of both families: in order, without those that lie in another one."""
    found = []
    for one in _items(value, "a list of CIDRs such as 10.0.0.0/8 or 2001:db8::/32"):
        if "/" not in one and _number(one, 6 if ":" in one else 4) is not None:
            raise ValueError(
                f"must hold CIDRs; {show(one)} is an address: write"
                f" {one}/{128 if ':' in one else 32}"
            )
        found.append(ranges.of_cidr(_any_cidr(one)))
    # A wider one comes before those in it.
    wide: list[ranges.Range] = []
    for span in sorted(set(found), key=lambda one: (one.size, one.first, -one.last)):
        if not wide or not span.is_inside(wide[-1]):
            wide.append(span)
    return [span.cidr() for span in wide]


def plugins(value: object) -> list[Any]:
    """Read podnet_cni_extra_plugins: a list of plugin types or of objects with a "type"."""
    allowed = 'must be a list of plugin names such as portmap, or of objects with a "type"'
    if not isinstance(value, (list, tuple)):
        raise ValueError(allowed)
    for entry in value:
        kind = entry.get("type") if isinstance(entry, dict) else entry
        if not model.is_file_name(kind):
            raise ValueError(f"{allowed}; {show(entry)} is neither")
    return [_plain(entry, 0) for entry in value]


def _plain(value: Any, depth: int) -> Any:
    """Copy a value into plain Python types: the plan document must not hold Ansible's own."""
    if depth > _PLUGIN_OPTION_DEPTH:
        raise ValueError(f"must not nest deeper than {_PLUGIN_OPTION_DEPTH} levels")
    if isinstance(value, dict):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    return str(value)


def host_names(value: object) -> list[str]:
    """Read a list of host names; text with commas is one, too (``-e podnet_release=n3,n4``)."""
    value = _split(value)
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
        raise ValueError("must be a list of host names")
    return [str(one) for one in value]


def line(value: object) -> str:
    """Read one line of printable text without spaces at its ends."""
    if not isinstance(value, str) or not value.isprintable() or value != value.strip():
        raise ValueError("must be one line of printable text")
    return str(value)


_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_:=~-]{0,99}\Z")
_URL = re.compile(r"(https?://|file:///|/)[!-~]+\Z")
_CHECKSUM = re.compile(r"(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})\Z")
interface = matching(
    model.is_interface_name,
    "an interface name: 1 to 15 letters, digits, '_', '.' and '-', beginning with one of the first"
    " two",
)
directory = matching(
    model.is_directory, "an absolute directory of letters, digits, '_', '.' and '-', without '..'"
)


def text_check(pattern: re.Pattern[str], allowed: str) -> Check:
    """Make a check for text that matches `pattern` or is empty."""
    return optional(
        matching(lambda value: isinstance(value, str) and bool(pattern.match(value)), allowed)
    )


package = text_check(_PACKAGE, "the name of a package")
url = text_check(_URL, "a URL (http, https, file) or an absolute path, without spaces")
checksum = text_check(_CHECKSUM, "sha256: or sha512: and the digest in lower case")
conflist_name = matching(
    lambda value: model.is_file_name(value) and str(value).endswith(".conflist"),
    "a plain file name that ends in .conflist",
)
_network_name = matching(
    model.is_network_name, "1 to 15 lower case letters, digits and '-', beginning with a letter"
)


def network_name(value: object) -> str:
    """Read podnet_name, which also names a table of nft's."""
    name = str(_network_name(value))
    if name in NFT_WORDS:
        raise ValueError(
            "must not be a word of nft's own language (of 0.9.8, 1.0.6 or 1.1.3), because the "
            "network's nft table has this name, too: take another"
        )
    return name


mac = optional(
    matching(model.is_mac, "a unicast MAC address such as 02:00:0a:f4:01:00, in lower case")
)


def interval(value: object) -> str:
    """Read how often a timer does something, for systemd (model.INTERVAL); empty is never."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return str(text_check(model.INTERVAL, "a time such as 60, 30s, 5min or 1h")(value))


_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\Z")


def node_endpoint(value: object) -> str:
    """Read where peers send to: "none", or an address or name, with or without a port.

    IPv6 addresses with a port are in brackets (RFC 3986, section 3.2.2).
    """
    if value is None or value == "":
        return ""
    allowed = (
        "must be none, or an address or name with or without a port: 192.0.2.11,"
        " node1.example.com:51820, [2001:db8::11]:51820"
    )
    if not isinstance(value, str) or len(value) > 260:
        raise ValueError(f"{allowed}{misread(value)}")
    host, port = value, ""
    if value.startswith("["):
        host, closed, port = value[1:].partition("]")
        if not closed or (port and not port.startswith(":")) or _number(host, 6) is None:
            raise ValueError(allowed)
        port = port[1:]
    elif value.count(":") == 1:
        host, _mark, port = value.partition(":")
        if not port:
            raise ValueError(allowed)
    if port and (not re.match(r"[1-9][0-9]{0,4}\Z", port, re.ASCII) or int(port) > 65535):
        raise ValueError(f"{allowed}; a port is a number from 1 to 65535")
    for family in (4, 6):
        number = _number(host, family)
        if number is not None:
            text = _text(number, family)
            return (f"[{text}]:{port}" if family == 6 else f"{text}:{port}") if port else text
    labels = host.split(".")
    digits = host.replace(".", "").isdigit()
    if digits or len(host) > 253 or not all(_HOST_NAME.match(one) for one in labels):
        raise ValueError(allowed)
    return f"{host}:{port}" if port else host


shared_key = optional(
    matching(model.is_key, "32 bytes in base64 (44 characters), as `wg genpsk` prints them")
)


def _is_absolute(value: object) -> bool:
    return isinstance(value, str) and value.startswith("/") and value.isprintable()


absolute_path = matching(
    _is_absolute, "an absolute path; {{ inventory_dir }} or {{ playbook_dir }} may begin it"
)

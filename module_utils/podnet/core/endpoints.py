"""Static endpoints (named network namespaces on a node's bridge) and their addresses. Pure.

An `Entry` describes one endpoint in full. A host keeps its entries in a record,
/etc/podnet/NAME/endpoints.json, from which it can rebuild or remove them without a plan.
"""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass
from typing import Any, Iterable, Mapping, NamedTuple, Sequence

from .errors import PodnetError
from .model import (
    Endpoint,
    Node,
    Plan,
    is_inside,
    is_interface_name,
    pack,
    unpack,
)
from .ranges import free, usable

#: Begins the alias of the host's end of an endpoint's veth pair. The alias of the network's own
#: devices begins with "podnet:" instead.
MARK = "podnet-endpoint"

#: The host's end is called "ep-" and the name, and an interface name has at most 15 bytes.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,11}\Z")

#: What `_NAME` allows, in words for a message.
NAME_RULE = "1 to 12 letters, digits, '_' and '-', the first a letter or digit"


def is_endpoint_name(text: object) -> bool:
    """Whether `text` can name an endpoint, its namespace and the host's end of its veth pair."""
    return isinstance(text, str) and _NAME.match(text) is not None


@dataclass(frozen=True)
class Entry:
    """One endpoint as it must be: a namespace `name` on `bridge`, with an `mtu` in bytes.

    `address` and `address6` lie in the node's `subnet` and `subnet6` ("" without that family).
    `declared`: the plan lists it. An endpoint that was made by hand is not declared, and stays when
    the plan's list is applied.
    """

    name: str
    bridge: str
    mtu: int
    address: str = ""
    address6: str = ""
    subnet: str = ""
    subnet6: str = ""
    declared: bool = True

    @property
    def device(self) -> str:
        """The name of the host's end of the veth pair."""
        return f"ep-{self.name}"

    @property
    def mac(self) -> str:
        """The MAC of the end inside the namespace.

        It is the same each time the pair is made, so that no neighbour cache goes stale. With IPv4:
        0a:58 and the address, as container runtimes do. With IPv6 alone: 0e and the address's low
        40 bits. Both are locally administered and unicast (IEEE 802), and differ from the MACs of
        podnet's bridges and VTEPs.
        """
        raw = (
            b"\x0a\x58" + pack(self.address) if self.address else b"\x0e" + pack(self.address6)[-5:]
        )
        return ":".join(f"{byte:02x}" for byte in raw)

    @property
    def legs(self) -> list[tuple[str, str]]:
        """(address, subnet) for each family that the endpoint has."""
        both = ((self.address, self.subnet), (self.address6, self.subnet6))
        return [(address, subnet) for address, subnet in both if address]


Entries = Mapping[str, Entry]


def alias(network: str, name: str) -> str:
    """Return the mark of an endpoint's device; ip-link(8) shows it as alias."""
    return f"{MARK}:{network}:{name}"


def asked(name: str, address: str | None, address6: str | None) -> Endpoint:
    """Return the endpoint that a user asks for; raise PodnetError for a malformed address.

    Any spelling of an IPv6 address is accepted and made canonical.
    """
    for option, text, family in (
        ("address", address, socket.AF_INET),
        ("address6", address6, socket.AF_INET6),
    ):
        try:
            socket.inet_pton(family, text or ("0.0.0.0" if option == "address" else "::"))
        except (OSError, ValueError) as error:
            kind = "IPv4" if option == "address" else "IPv6"
            raise PodnetError(
                f"endpoint {name}: {option} {text!r} is no {kind} address; give one of the node's "
                "subnet, or none"
            ) from error
    six = unpack(socket.inet_pton(socket.AF_INET6, address6)) if address6 else ""
    return Endpoint(name, address or "", six)


def dump(entries: Entries) -> str | None:
    """Return the text of a record (JSON), None for no entries."""
    if not entries:
        return None
    fields = {
        name: {key: value for key, value in vars(entry).items() if key != "name"}
        for name, entry in entries.items()
    }
    return json.dumps(fields, indent=1, sort_keys=True) + "\n"


def parse(text: str | None, path: str) -> dict[str, Entry]:
    """Return the entries in the text of a record, {} for None.

    Raises PodnetError naming `path`, where the record lies, if it is damaged.

    Nothing in it is trusted: the strings go into batch files that root runs.
    """
    try:
        fields = json.loads(text) if text else {}
        entries = {name: Entry(name=name, **one) for name, one in fields.items()}
        for entry in entries.values():
            _validate(entry)
    except (ValueError, TypeError, AttributeError) as error:
        raise PodnetError(
            f"{path}: damaged ({error}); remove it and run again: podnet then recognises its own "
            "namespaces by the mark on their devices"
        ) from error
    return entries


def _validate(entry: Entry) -> None:
    holds = (
        is_endpoint_name(entry.name)
        and is_interface_name(entry.bridge)
        and isinstance(entry.mtu, int)
        and isinstance(entry.declared, bool)
        and bool(entry.legs)
        and all(is_inside(_single(address), subnet) for address, subnet in entry.legs)
    )
    if not holds:
        raise ValueError(f"{entry.name!r} is no endpoint")


def assign(
    plan: Plan,
    node: Node,
    mtu: int,
    recorded: Entries,
    leased: Iterable[str],
    *,
    only: Endpoint | None = None,
) -> dict[str, Entry]:
    """Return name -> entry for all endpoints that `node` must have.

    Without `only`: the plan's endpoints and those that were made by hand. With `only`: the recorded
    ones unchanged, and that one added or changed.

    An endpoint's address is the one asked for, else its recorded one if that lies in the subnet,
    else the subnet's highest free one that the plan does not reserve. `leased` are the addresses
    that the CNI plugin host-local has given to pods. Raises PodnetError for an address that is
    taken or cannot be used.
    """
    wanted = _wanted(node, recorded, only)
    taken: dict[str, str] = {}
    if only:
        # The addresses that the plan gives to other endpoints are taken, even before those exist.
        others = [(one.name, one.address, one.address6) for one in node.endpoints]
        others += [(one.name, one.address, one.address6) for one in recorded.values()]
        for name, *both in others:
            if name != only.name:
                taken.update({address: name for address in both if address})
    four, six = (
        _addresses(side, wanted, recorded, set(leased), taken)
        for side in (
            _Side(node.name, "address", node.subnet, node.reserved),
            _Side(node.name, "address6", node.subnet6, node.reserved),
        )
    )
    result = {} if only is None else dict(recorded)
    for one, declared in wanted:
        result[one.name] = Entry(
            name=one.name,
            bridge=plan.bridge,
            mtu=mtu,
            address=four.get(one.name, ""),
            address6=six.get(one.name, ""),
            subnet=node.subnet,
            subnet6=node.subnet6,
            declared=declared,
        )
    return result


def _wanted(node: Node, recorded: Entries, only: Endpoint | None) -> list[tuple[Endpoint, bool]]:
    """Return (endpoint, whether the plan declares it), in the plan's order."""
    declared = {one.name: one for one in node.endpoints}
    for name in [*declared, *([only.name] if only else [])]:
        if not is_endpoint_name(name):
            raise PodnetError(f"{node.name}: {name!r} cannot name an endpoint: {NAME_RULE}")
    if only is None:
        by_hand = [
            (Endpoint(one.name), False)
            for one in recorded.values()
            if not one.declared and one.name not in declared
        ]
        return [(one, True) for one in node.endpoints] + by_hand
    plans = declared.get(only.name)
    if plans is None:
        return [(only, False)]
    for given, known in ((only.address, plans.address), (only.address6, plans.address6)):
        if given and given != known:
            raise PodnetError(
                f"{node.name}: endpoint {only.name}: address {given} was asked for, and the plan "
                f"says {known or 'none'}; leave it out, or change podnet_endpoints"
            )
    return [(plans, True)]


class _Side(NamedTuple):
    """One address family of a node, with the node's subnet in it ("" without that family).

    `key` is the field of an entry that has the address: "address" or "address6". `reserved` are
    ranges of which only an endpoint that asks for it gets an address.
    """

    node: str
    key: str
    subnet: str
    reserved: Sequence[str]


def _addresses(
    side: _Side,
    wanted: Sequence[tuple[Endpoint, bool]],
    recorded: Entries,
    leased: set[str],
    taken: dict[str, str],
) -> dict[str, str]:
    """Return name -> address for one family.

    `taken` maps an address to the name of its endpoint; the chosen addresses are added to it.
    """
    node, key, subnet, reserved = side
    chosen: dict[str, str] = {}
    rest: list[str] = []
    # Endpoints that have an address go first, so that a new endpoint is not given theirs.
    for one, _other in wanted:
        asked: str = getattr(one, key)
        kept: str = getattr(recorded[one.name], key) if one.name in recorded else ""
        label = f"{node}: endpoint {one.name}: address {asked or kept}"
        wrong = place_problem(asked, subnet) if asked else ""
        if wrong:
            raise PodnetError(f"{label} {wrong}")
        if not asked and (not subnet or not kept or place_problem(kept, subnet)):
            rest.append(one.name)
            continue
        if asked in leased and asked != kept:
            raise PodnetError(
                f"{label} is in use by a pod (host-local has leased it); stop that pod, or choose "
                "another address"
            )
        chosen[one.name] = asked or kept
        other = taken.setdefault(chosen[one.name], one.name)
        if other != one.name:
            raise PodnetError(
                f"{label} is that of endpoint {other}, too; every endpoint needs its own"
            )
    for name in rest if subnet else ():
        chosen[name] = highest_free(node, name, subnet, {*taken, *leased, *reserved})
        taken[chosen[name]] = name
    return chosen


def place_problem(address: str, subnet: str) -> str:
    """Return why an endpoint cannot have `address` in a node's `subnet`, "" if it can.

    The text continues a sentence that begins with the address.
    """
    if not subnet:
        return "has a family that pods do not have: leave it out, or set the cluster CIDR for it"
    if not is_inside(_single(address), subnet):
        return f"is not in the node's subnet {subnet}: choose one from it, or none"
    _size, first, last = usable(subnet)
    reserved = {
        first - 2: "the subnet itself",
        first - 1: "the node's gateway",
        last + 1: "the broadcast address",  # IPv6 has none: there, this is outside the subnet
    }
    number = int.from_bytes(pack(address), "big")
    return f"is {reserved[number]}: choose another one, or none" if number in reserved else ""


def highest_free(node: str, name: str, subnet: str, busy: set[str]) -> str:
    """Return the highest address of `subnet` that is in none of `busy` (addresses and ranges).

    From the top, because host-local begins at the bottom. Raises PodnetError if there is none.
    """
    gaps = free(subnet, busy)
    if gaps:
        return gaps[-1].ends()[1]
    raise PodnetError(
        f"{node}: endpoint {name}: no address of {subnet} is free; stop pods, remove "
        "endpoints, reserve less, or give the node a larger subnet"
    )


def _single(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}"


def plain(entry: Entry) -> dict[str, Any]:
    """Return an entry as a module's result shows it."""
    return {
        "address": entry.address,
        "address6": entry.address6,
        "mac": entry.mac,
        "mtu": entry.mtu,
        "namespace": entry.name,
        "device": entry.device,
        "declared": entry.declared,
    }

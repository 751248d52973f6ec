"""The guard: what a run must know before only the plan's nodes may send into the overlay.

The rules are a backend's (backends/base.py), desire.py adds the nodes' addresses, and between the
phases of a switch phases.py keeps what peers may still use. Here is which change is such a switch,
and when a host goes without a guard.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Collection

from ..backends.registry import KINDS, is_same_device
from ..core.state import State, guard_of


def tables(state: State) -> list[str]:
    """Return the tables of `state` that have a guard."""
    return [table for table, chains in state.tables.items() if guard_of(chains)]


def is_moving(before: State, final: State) -> bool:
    """Whether packets of a node are about to come from another address than before.

    A guard drops them unless it knows the new address before they come, and it must know the old
    one until they have ceased: so all hosts go through the phases together. An address that is in
    the boot files was wanted by the last run; somebody has changed the kernel's state since.
    """
    if not (tables(before) or tables(final)):
        return False
    known = set("\n".join(before.boot.values()).split())
    moved = [source for _name, source in _sources(before, final)]
    for key, entry in final.entries.items():
        have = before.entries.get(key)
        if have is not None and have != entry and key[0] in final.links:
            kind = KINDS[final.links[key[0]].kind]
            # Peers of a kind without MACs prove who they are.
            if kind.has_mac and kind.remote(have) != kind.remote(entry):
                moved.append(kind.remote(entry))
    return any(one not in known for one in moved)


def is_late(before: State, final: State, addresses: Collection[str]) -> bool:
    """Whether a device of this host must keep its source address until all peers know the new one.

    `addresses` are the host's own: without the old one, the device sends nothing any more.
    """
    if not (tables(before) or tables(final)):
        return False
    return any(
        KINDS[before.links[name].kind].source(before.links[name].options) in addresses
        for name, _source in _sources(before, final)
    )


#: Where the kernel lists the connections that it tracks, if it does.
CONNECTIONS = "/proc/net/nf_conntrack"

_CONNECTION = re.compile(
    r" udp .* src=(?P<own>\S+) dst=(?P<peer>\S+) sport=\d+ dport=(?P<port>\d+) "
    r".*src=\S+ dst=(?P<seen>\S+) "
)


def translated(node: str, before: State, connections: str) -> list[str]:
    """Return a problem if peers see this host's packets come from another address than its own.

    Where a rule of somebody's does that (masquerade, SNAT), the overlay worked, and a guard would
    drop it. `connections` is the text of CONNECTIONS.
    """
    found = set()
    for name, link in before.links.items():
        kind = KINDS.get(link.kind)
        own = kind.source(link.options) if kind else ""
        if kind is None or not own:
            continue
        port = str(kind.needs(link).port)
        for one in _CONNECTION.finditer(connections):
            if (_plain(one["own"]), one["port"]) == (own, port) and _plain(one["seen"]) != own:
                found.add((name, own, _plain(one["seen"])))
    return [
        f"{node}: a rule on this host gives packets of {name} the source address {seen} instead of "
        f"{own}, and other nodes would drop them with podnet_guard. Exempt UDP to the nodes from "
        f"that rule (masquerade, SNAT), or set podnet_guard: false"
        for name, own, seen in sorted(found)
    ]


def _plain(address: str) -> str:
    """Return an address as podnet writes it; the kernel writes out all of an IPv6 one here."""
    return str(ipaddress.ip_address(address)) if ":" in address else address


def _sources(before: State, final: State) -> list[tuple[str, str]]:
    """Return (device, new source address) of the devices that get another one."""
    found = []
    for name, want in final.links.items():
        have = before.links.get(name)
        if have is None or want.kind not in KINDS or not is_same_device(have, want):
            continue
        kind = KINDS[want.kind]
        if kind.source(have.options) != kind.source(want.options):
            found.append((name, kind.source(want.options)))
    return found


def without(final: State) -> None:
    """Take the guard out of a state."""
    for table in tables(final):
        rest = tuple(one for one in final.tables.pop(table) if one is not guard_of((one,)))
        if rest:
            final.tables[table] = rest
    final.members.clear()


def lacking(node: str, release: str, error: str) -> str:
    """Return what to say of a host that cannot have the guard; `release` is its kernel's."""
    return (
        f"{node}: without podnet_guard, because its nft, or its kernel ({release}), does not take "
        f"the rules ({error}): whoever reaches the host can send packets into the overlay. Load "
        "the modules nft_fib_inet and nf_tables, limit the port by another firewall, or set "
        "podnet_guard: false to hear no more of this"
    )

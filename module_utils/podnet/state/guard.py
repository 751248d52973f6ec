"""The guard: what a run must know before only the plan's nodes may send into the overlay.

The rules are a backend's (backends/base.py), desire.py adds the nodes' addresses, and between the
phases of a switch phases.py keeps what peers may still use. Here is which change is such a switch,
and when a host goes without a guard.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Collection

from ..backends.registry import KINDS, MAIN_KINDS, is_same_device
from ..core.state import DeviceKey, State, guard_of


def tables(state: State) -> list[str]:
    """Return the tables of `state` that have a guard."""
    return [table for table, chains in state.tables.items() if guard_of(chains)]


def is_moving(before: State, final: State, addresses: Collection[str], *, unfinished: bool) -> bool:
    """Whether packets of this host are about to come from another address than before.

    Guards drop them unless they know the new address before they come, and must know the old one
    until they have ceased: so all hosts go through the phases together. `addresses` are the host's
    own: without the old one its device sends nothing any more, and there is nothing to lose.
    `unfinished`: a switch is, and peers may still have a guard that this host has no more.
    """
    if not (tables(before) or tables(final) or unfinished):
        return False
    wanted = _wanted_before(before)
    for name, want in final.links.items():
        have = before.links.get(name)
        if have is not None and want.kind in KINDS and is_same_device(have, want):
            old, new = (KINDS[want.kind].source(one.options) for one in (have, want))
            if old != new and old in addresses and new not in wanted:
                return True
    return False


def moving_peers(before: State, final: State) -> list[DeviceKey]:
    """Return the entries of peers that get another address.

    A guard forgets the old one, so these peers must be in the run: if they send from it still, they
    say so themselves (is_moving). What proves who it is needs no guard: a kind without MACs.
    """
    if not tables(final):
        return []
    wanted, found = _wanted_before(before), []
    for key, entry in final.entries.items():
        have, kind = before.entries.get(key, ""), KINDS[final.links[key[0]].kind]
        if have and kind.has_mac:
            new = kind.remote(entry)
            if new != kind.remote(have) and new not in wanted:
                found.append(key)
    return found


def _wanted_before(before: State) -> set[str]:
    """Return the words of the boot files about devices and peers.

    What is in them was wanted by the last run; somebody has changed the kernel's state since.
    """
    names = {"devices.batch", *(kind.boot_file for kind in MAIN_KINDS.values())}
    return {word for name in names for word in before.boot.get(name, "").split()}


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

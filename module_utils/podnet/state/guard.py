"""The guard: what a run must know before only the plan's nodes may send into the overlay.

The rules are a backend's (backends/base.py), desire.py adds the nodes' addresses, and between the
phases of a switch phases.py keeps what peers may still use. Here is which change is such a switch,
and when a host goes without a guard.
"""

from __future__ import annotations

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

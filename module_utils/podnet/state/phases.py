"""The state that each phase of a change ends in: make before break, on all hosts.

`prepare` adds what cannot hurt, `shift` moves the routes, `commit` removes what is no longer used.
A phase is defined by the state that it ends in; the changes follow from that (diff.py). In each
such state a host exchanges packets with hosts that are a phase behind or ahead. So a run may stop
after any phase, and a host may boot into its state.
"""

from __future__ import annotations

import re
from itertools import count

from ..backends.registry import KINDS, MAIN_KINDS, is_same_device
from ..core.model import is_address
from ..core.state import (
    BELOW,
    BRIDGE,
    Chain,
    DeviceKey,
    State,
    guard_of,
    make_rule,
    used_sets,
)
from . import forwarding
from .diff import rename_device

PREPARE, SHIFT, COMMIT, ALL = "prepare", "shift", "commit", "all"
#: `all` does at once what needs no barrier between hosts: a bootstrap, a repair, a peer that comes
#: or goes.
PHASES = (PREPARE, SHIFT, COMMIT, ALL)

RP_FILTER = "net.ipv4.conf.all.rp_filter"

#: The name, with a number after it, that an old device gets while a new one has its name.
ASIDE = "podnet-old"


def target(
    before: State, final: State, phase: str, strict: bool, held: str = "", *, late: bool = False
) -> State:
    """Return the state that `phase` ends in.

    `before` is what the host has of ours, `final` what it must have in the end. `strict` tells
    that the host drops packets that come in where replies would not go out (rp_filter=1,
    RFC 3704): then it must be loose (2) while the two directions of a pair may differ. `held` is
    the MAC of the backend's device that peers use, if the plan wants another one, else ""
    (adopt.held_mac). `late`: devices keep their options in `prepare`, because their packets would
    come from another address, which no guard of a peer's knows before the end of that phase.
    """
    if phase in (COMMIT, ALL):
        return final
    result = final.copy()
    names = {link.ifindex: name for name, link in final.links.items() if link.ifindex}
    moves: dict[str, str] = {}
    for name, link in before.links.items():
        wanted = final.links.get(name)
        if link.ifindex in names:
            # The same device under another name: it is renamed, and its entries stay with it.
            moves[name] = names[link.ifindex]
            mtu = min(link.mtu, final.links[moves[name]].mtu)
            result.links[moves[name]] = final.links[moves[name]]._replace(mtu=mtu)
        elif wanted is None:
            result.links[name] = link
        elif is_same_device(link, wanted):
            # A larger MTU only in `commit`, when all hosts are ready for it; a smaller one at once.
            result.links[name] = wanted._replace(mtu=min(link.mtu, wanted.mtu))
            if late and phase == PREPARE:
                result.links[name] = result.links[name]._replace(options=link.options)
            if held and link.mac == held and link.kind != BRIDGE:
                # Peers change to the new MAC one by one, so until `commit` the device takes packets
                # for both.
                result.links[name] = result.links[name]._replace(mac=held)
                result.tables.update(both_macs(wanted.alias, name, held, wanted.mac))
        else:
            moves[name] = _aside({*before.links, *moves.values()})
            result.links[moves[name]] = link
    _keep_entries(before, result, moves, phase)
    for destination, body in before.routes.items():
        moved = rename_device(body, moves)
        if destination not in final.routes or phase == PREPARE:
            result.routes[destination] = moved
    # A run that broke off may have moved peers to another MAC. They use it until this run moves
    # them on, so the tables that let a device take packets for two MACs stay until `commit`.
    transient = {one: chains for one, chains in before.tables.items() if one.startswith("netdev ")}
    result.tables = {**transient, **result.tables}
    _keep_guard(before, result)
    result.leftovers = {what: one for what, one in before.leftovers.items() if not one.first}
    kept = {one: have for one, have in before.accepts.items() if not one.rule.endswith(BELOW)}
    result.accepts = {**kept, **final.accepts}
    result.secrets = {**before.secrets, **final.secrets}
    for name, port in final.ports.items():
        old = before.ports.get(name, port)
        result.ports[name] = port._replace(
            mtu=min(old.mtu, port.mtu), inner_mtu=min(old.inner_mtu, port.inner_mtu)
        )
    # If `final` has it, that is the original value to put back: an earlier phase has loosened it.
    if strict or RP_FILTER in final.sysctls:
        result.sysctls[RP_FILTER] = "2"
    return result


def _keep_guard(before: State, result: State) -> None:
    """Let the guards of `result` accept what those of `before` do: peers may be a phase behind."""
    for table, chains in result.tables.items():
        new, old = guard_of(chains), guard_of(before.tables.get(table, ()))
        if new is None:
            continue
        # Only what podnet has written, as it has written it.
        kept = [
            one
            for one in (old.rules if old else ())
            if one not in new.rules and make_rule(one.text, one.tag.rpartition(" [")[0]) == one
        ]
        merged = new._replace(rules=(*new.rules, *kept))
        result.tables[table] = tuple(merged if one is new else one for one in chains)
        sets = used_sets(result.tables[table])
        known = {
            **{(table, one): "nodes6" if ":" in one else "nodes4" for one in _remotes(before)},
            **{key: name for key, name in before.members.items() if key[0] == table},
        }
        known = {key: name for key, name in known.items() if name in sets}
        result.members = {**known, **result.members}


def _remotes(before: State) -> list[str]:
    """Return the addresses that packets may come from, by the entries for peers and the boot files.

    A network that had no guard has no others. Where an earlier run, or a boot, was stopped, the
    kernel may lack what the boot files have, or have the entries of a later state.
    """
    found = []
    for (device, _mac), entry in before.entries.items():
        kind = KINDS[before.links[device].kind]
        # Peers of a kind without MACs prove who they are.
        found += [kind.remote(one) for one in entry.split(",")] if kind.has_mac else []
    texts = [before.boot.get(kind.boot_file, "") for kind in MAIN_KINDS.values() if kind.has_mac]
    texts += re.findall(r"elements = \{(.*)\}", before.boot.get("tables.nft", ""))
    words = " ".join(texts).replace(",", " ").split()
    return found + [one for one in words if is_address(one)]


def _keep_entries(before: State, result: State, moves: dict[str, str], phase: str) -> None:
    """Add to `result` what the devices of `before` have: sysctls, addresses, neighbours, entries.

    `moves` maps old names of devices to new ones.
    """
    for name, value in forwarding.renamed(before.sysctls, moves).items():
        if forwarding.device(name) in result.links:
            result.sysctls.setdefault(name, value)
    for table in ("addresses", "neighbours", "entries"):
        have: dict[DeviceKey, str] = getattr(before, table)
        kept: dict[DeviceKey, str] = getattr(result, table)
        for (device, key), value in have.items():
            moved = moves.get(device, device), key
            if table == "neighbours" and phase == PREPARE:
                # A peer's new MAC may be used only when the peer is prepared to take it.
                kept[moved] = value
            else:
                kept.setdefault(moved, value)


def both_macs(alias: str, device: str, old: str, new: str) -> dict[str, tuple[Chain, ...]]:
    """Return the table that lets a device take packets for its old and for its new MAC.

    The kernel marks a packet for another MAC than the device's as PACKET_OTHERHOST
    (eth_type_trans), and IP drops such packets (ip_rcv_core). An ingress chain runs in between
    and marks the packet as the host's.
    """
    text = f"meta pkttype other ether daddr {{ {old}, {new} }} meta pkttype set host"
    rule = make_rule(text, f"both MACs of {device} while peers change over")
    hook = f'type filter hook ingress device "{device}" priority 0'
    return {f"netdev {alias.partition(':')[2]}": (Chain("vtep", hook, (rule,)),)}


def _aside(taken: set[str]) -> str:
    return next(name for name in (f"{ASIDE}{number}" for number in count()) if name not in taken)

"""Where a phase of a change leads: make before break, on all hosts.

`prepare` adds what cannot hurt, `shift` moves the routes, `commit` removes what is no longer used.
A phase is nothing but the state that it ends in; the changes follow from that. Every such state
carries packets of hosts that are a phase behind or ahead, so a run may stop after any of them, and
so may a host that boots into it.
"""

from __future__ import annotations

from itertools import count

from . import forwarding
from .diff import is_same_device, rename_device
from .state import BELOW, Chain, DeviceKey, State, make_rule

PREPARE, SHIFT, COMMIT, ALL = "prepare", "shift", "commit", "all"
#: `all` does in one go what needs no barrier: a bootstrap, a repair, a new or a gone peer.
PHASES = (PREPARE, SHIFT, COMMIT, ALL)

RP_FILTER = "net.ipv4.conf.all.rp_filter"

#: The name that a device gets while one of its name but with another port replaces it.
ASIDE = "podnet-old"


def target(before: State, final: State, phase: str, strict: bool, held: str = "") -> State:
    """Return the state that `phase` ends in.

    `before` is what the host has of ours, `final` what it must have in the end. `strict` tells
    that the host drops packets that come in where replies would not go out (rp_filter=1,
    RFC 3704): then it must be loose while the two directions of a pair may differ. `held` is the
    VTEP's MAC that peers know, where another one is wanted.
    """
    if phase in (COMMIT, ALL):
        return final
    result = final.copy()
    names = {link.ifindex: name for name, link in final.links.items() if link.ifindex}
    moves: dict[str, str] = {}
    for name, link in before.links.items():
        wanted = final.links.get(name)
        if link.ifindex in names:
            # The same device under another name: it is renamed with all that hangs on it.
            moves[name] = names[link.ifindex]
            mtu = min(link.mtu, final.links[moves[name]].mtu)
            result.links[moves[name]] = final.links[moves[name]]._replace(mtu=mtu)
        elif wanted is None:
            result.links[name] = link
        elif is_same_device(link, wanted):
            # Larger packets only when all hosts are done; smaller ones at once.
            result.links[name] = wanted._replace(mtu=min(link.mtu, wanted.mtu))
            if held and link.mac == held and link.kind == "vxlan":
                # Peers move to the new MAC one by one, so until `commit` the device takes both.
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
    # Peers that a run before this one moved to another MAC use it until they are moved on.
    transient = {one: chains for one, chains in before.tables.items() if one.startswith("netdev ")}
    result.tables = {**transient, **result.tables}
    result.leftovers = {what: one for what, one in before.leftovers.items() if not one.first}
    kept = {one: have for one, have in before.accepts.items() if not one.rule.endswith(BELOW)}
    result.accepts = {**kept, **final.accepts}
    for name, port in final.ports.items():
        old = before.ports.get(name, port)
        result.ports[name] = port._replace(
            mtu=min(old.mtu, port.mtu), inner_mtu=min(old.inner_mtu, port.inner_mtu)
        )
    # A value of ours to put back means that an earlier phase loosened it already.
    if strict or RP_FILTER in final.sysctls:
        result.sysctls[RP_FILTER] = "2"
    return result


def _keep_entries(before: State, result: State, moves: dict[str, str], phase: str) -> None:
    """Add what hangs on the devices of `before`, which may be renamed by `moves`."""
    for name, value in forwarding.renamed(before.sysctls, moves).items():
        if forwarding.device(name) in result.links:
            result.sysctls.setdefault(name, value)
    for table in ("addresses", "neighbours", "fdb"):
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

    The kernel marks a packet for another MAC than the device's as somebody else's and IP then
    drops it (eth_type_trans, ip_rcv_core); ingress, between the two, can take the mark away.
    """
    text = f"meta pkttype other ether daddr {{ {old}, {new} }} meta pkttype set host"
    rule = make_rule(text, f"both MACs of {device} while peers change over")
    hook = f'type filter hook ingress device "{device}" priority 0'
    return {f"netdev {alias.partition(':')[2]}": (Chain("vtep", hook, (rule,)),)}


def _aside(taken: set[str]) -> str:
    return next(name for name in (f"{ASIDE}{number}" for number in count()) if name not in taken)

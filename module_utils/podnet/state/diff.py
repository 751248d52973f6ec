"""From one state to another: the ordered list of changes.

`changes(before, after)` is the only place that decides what to do. A check prints its result, a
run applies it, and a rollback is the same call with the arguments exchanged.

The order keeps packets flowing: forwarding first, then devices, addresses, neighbours, entries
for peers, and only then the routes that use them. Something is removed after what replaces it is
in place.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import Collection, Iterable, Mapping

from ..backends.registry import KINDS, is_same_device
from ..core.model import ROUTE_PROTOCOL
from ..core.state import (
    BELOW,
    BRIDGE,
    SETS,
    UNREAD,
    Accept,
    Chain,
    Change,
    DeviceKey,
    Link,
    State,
    route_device,
    used_sets,
)
from . import bridge_netfilter, forwarding, nft_rule


def is_marked(link: Link) -> bool:
    """Whether a device carries podnet's mark, of whichever network."""
    return link.alias.startswith("podnet:")


def changes(before: State, after: State) -> list[Change]:
    """Return the changes that lead from `before` to `after`, in the order to apply them."""
    before, renames = _follow_renames(before, after)
    doomed = {
        name
        for name, link in before.links.items()
        if name in after.links and not is_same_device(link, after.links[name])
    }
    gone = doomed | (before.links.keys() - after.links.keys())
    kept = _without_lost_neighbours(_without_devices(before, doomed), after)
    result: list[Change] = []
    result += leftovers(before, after, first=True)
    result += _secrets(before, after, remove=False)
    made = after.links.keys() - kept.links.keys()
    result += _sysctls(kept, after, made, turn=FIRST)
    # A peer may send larger packets than our pods accept. The bridge answers these by ICMP, a veth
    # drops them silently: so the bridge's MTU shrinks first and grows last. In between, a pod's end
    # never has a larger MTU than the host's end: it shrinks before that one and grows after it.
    result += _bridge_mtus(kept, after, shrink=True)
    result += _ports(kept, after, shrink=True)
    result += renames
    for name in sorted(doomed):
        result += _remove_link(name, before.links[name])
    # The table by which a device takes packets for two MACs (phases.both_macs) comes before the
    # device gets another MAC.
    early = [one for one in _tables(kept, after, "netdev") if one.after]
    result += early
    result += _links(kept, after)
    result += _addresses(kept, after)
    # Right after the devices, so in one batch with them: with another MAC the kernel drops the
    # neighbours on a device.
    result += _neighbours(kept, after)
    result += _sysctls(kept, after, made, turn=MADE)
    result += _ports(kept, after, shrink=False)
    result += _bridge_mtus(kept, after, shrink=False)
    result += _entries(kept, after)
    result += _routes(kept, after)
    result += [one for one in _tables(kept, after) if one not in early]
    result += _members(kept, after, remove=False)
    result += _accepts(kept, after)
    # Only now, because chains that drop see bridged packets, too, from here on.
    result += _modules(kept, after)
    result += _sysctls(kept, after, made, turn=LAST)
    result += _removals(_without_devices(kept, gone, routes=False), after)
    result += _members(kept, after, remove=True)
    result += _downs(kept, after)
    for name in sorted(gone - doomed):
        result += _remove_link(name, before.links[name])
    result += _files(kept, after)
    result += _secrets(before, after, remove=True)
    result += leftovers(before, after, first=False)
    return result


def _without_lost_neighbours(before: State, after: State) -> State:
    """Return `before` less the neighbours on devices that are about to get another MAC.

    The kernel drops them then, permanent ones too (neigh_changeaddr in net/core/neighbour.c).
    """
    changed = {
        name
        for name, link in after.links.items()
        if link.mac and name in before.links and before.links[name].mac != link.mac
    }
    if not changed:
        return before
    kept = {key: mac for key, mac in before.neighbours.items() if key[0] not in changed}
    return replace(before, neighbours=kept)


def _follow_renames(before: State, after: State) -> tuple[State, list[Change]]:
    """Return `before` with its devices named as in `after`, and the changes that name them so.

    A device of both states is recognised by its ifindex.
    """
    wanted = {link.ifindex: name for name, link in after.links.items() if link.ifindex}
    moves = {
        name: wanted[link.ifindex]
        for name, link in before.links.items()
        if wanted.get(link.ifindex, name) != name
    }
    if not moves:
        return before, []
    in_way = sorted(name for name in moves.values() if name in before.links and name not in moves)
    removals = [one for name in in_way for one in _remove_link(name, before.links[name])]
    before = _without_devices(before, in_way)
    moved = before.copy()
    moved.links = {moves.get(name, name): link for name, link in before.links.items()}
    for table in ("addresses", "neighbours", "entries"):
        entries: dict[DeviceKey, str] = getattr(before, table)
        setattr(
            moved, table, {(moves.get(dev, dev), key): val for (dev, key), val in entries.items()}
        )
    moved.routes = {dst: rename_device(body, moves) for dst, body in before.routes.items()}
    moved.sysctls = forwarding.renamed(before.sysctls, moves)
    return moved, removals + [
        # Linux >= 6.2 renames a device that is up; it keeps its addresses, routes and entries.
        Change("ip", (f"link set dev {old} name {new}",), f"link {old}", f"link {new}")
        for old, new in _in_turn(moves)
    ]


#: The name that a device has for a moment where devices exchange their names.
_MAKES_WAY = "podnet-turn"


def _in_turn(moves: dict[str, str]) -> list[tuple[str, str]]:
    """Return (old name, new name) in an order in which each new name is free when it is given."""
    waiting = dict(sorted(moves.items()))
    result = []
    while waiting:
        old = next((one for one, new in waiting.items() if new not in waiting), "")
        if old:
            result.append((old, waiting.pop(old)))
        else:
            # Each device waits for the name of another one, so one takes a name for the moment.
            old = next(iter(waiting))
            waiting[_MAKES_WAY] = waiting.pop(old)
            result.append((old, _MAKES_WAY))
    return result


def rename_device(body: str, moves: dict[str, str]) -> str:
    """Return a route's text with its device renamed where `moves` says so."""
    device = route_device(body)
    return body.replace(f"dev {device}", f"dev {moves[device]}", 1) if device in moves else body


def _without_devices(state: State, names: Iterable[str], routes: bool = True) -> State:
    """Return `state` less devices and what the kernel drops with them.

    With routes=False routes stay: those over a device that is about to be deleted are removed one
    by one before it, so that no packet is sent to a device that is being deleted.
    """
    names = set(names)
    if not names:
        return state
    rest = state.copy()
    rest.links = {name: link for name, link in state.links.items() if name not in names}
    for table in ("addresses", "neighbours", "entries"):
        entries: dict[DeviceKey, str] = getattr(state, table)
        setattr(rest, table, {key: val for key, val in entries.items() if key[0] not in names})
    if routes:
        rest.routes = {
            dst: body for dst, body in state.routes.items() if route_device(body) not in names
        }
    return rest


#: When a sysctl is set: before all else; when the devices that it belongs to are made; at the end.
FIRST, MADE, LAST = "first", "made", "last"


def _turn(key: str, value: str, made: Collection[str]) -> str:
    if key in bridge_netfilter.KEYS.values() and value == "1":
        return LAST
    return MADE if forwarding.owner(key) in made else FIRST


def _modules(before: State, after: State) -> list[Change]:
    """Return what loads modules. None is unloaded: somebody else may use it by now."""
    return [
        Change("module", (name,), "", f"module {name}")
        for name in sorted(after.modules.keys() - before.modules.keys())
    ]


def _sysctls(before: State, after: State, made: Collection[str], turn: str) -> list[Change]:
    """Return the changes of those sysctls whose turn it is.

    `made` are devices that do not exist before this list of changes creates them.
    """
    have = forwarding.of_itself(before.sysctls, after.sysctls, made)
    return [
        Change(
            "sysctl",
            (f"{key}={value}",),
            f"sysctl {key} = {have[key]}" if key in have else "",
            f"sysctl {key} = {value}",
        )
        for key, value in forwarding.ordered(after.sysctls)
        if _turn(key, value, made) == turn and have.get(key) != value
    ]


def _ports(before: State, after: State, shrink: bool) -> list[Change]:
    """Return what shrinks pods' MTUs; or what grows them, and puts strays back on the bridge."""
    result = []
    for name, port in after.ports.items():
        old = before.ports.get(name, port)
        ends: list[tuple[int, int, str, tuple[str, ...], str]] = []
        if port.inner and old.inner_mtu != port.inner_mtu:
            line = f"link set dev {port.inner} mtu {port.inner_mtu}"
            text = f"link {port.inner} in the pod behind {name} mtu "
            ends.append(
                (old.inner_mtu, port.inner_mtu, "pod", (port.namespace, line), text),
            )
        if old.mtu != port.mtu:
            line = f"link set dev {name} mtu {port.mtu}"
            ends.append((old.mtu, port.mtu, "port", (line,), f"link {name} mtu "))
        if old.stray and not port.stray and not shrink:
            bridge = next(one for one, link in after.links.items() if link.kind == BRIDGE)
            line = f"link set dev {name} master {bridge}"
            text = f"link {name} "
            result.append(Change("port", (line,), f"{text}nomaster", f"{text}master {bridge}"))
        # The pod's own end shrinks first and grows last.
        for have, want, tool, lines, text in ends if shrink else ends[::-1]:
            if (want < have) == shrink:
                result.append(Change(tool, lines, f"{text}{have}", f"{text}{want}"))
    return result


def link_text(name: str, link: Link) -> str:
    """Return a device on one line in the words of ip-link(8)."""
    text = f"link {name} type {link.kind} mtu {link.mtu}"
    if link.mac:
        text += f" address {link.mac}"
    options = KINDS[link.kind].shown(link.options) if link.kind in KINDS else link.options
    if options:
        text += f" {options}"
    if link.alias:
        text += f" alias {link.alias}"
    return text + (" up" if link.up else " down")


def add_link(name: str, link: Link) -> tuple[str, ...]:
    """Return the batch lines that create a device with all its properties."""
    # A bridge keeps an MTU only if it was changed after creation; otherwise the kernel (br_if.c,
    # br_mtu_auto_adjust) lets it follow the ports, back to 1500 when the last one leaves.
    first = link.mtu - 1 if link.kind == BRIDGE else link.mtu
    line = f"link add {name} mtu {first}"
    if link.mac:
        # Given at creation, because udev's MACAddressPolicy does not change such a MAC.
        line += f" address {link.mac}"
    line += f" type {link.kind}"
    words = KINDS[link.kind].words(link.options) if link.kind in KINDS else link.options
    if words:
        line += f" {words}"
    lines = [line, f"link set dev {name} mtu {link.mtu}"]
    if link.alias:
        # The kernel ignores an alias in `link add`.
        lines.append(f"link set dev {name} alias {_word(link.alias)}")
    if link.up:
        lines.append(f"link set dev {name} up")
    return tuple(lines)


#: Characters that a word in a batch of ip(8) cannot hold, quoted or not.
_UNSPEAKABLE = re.compile(r"[#\\\x00-\x1f\x7f]")


def _word(alias: str) -> str:
    """Return a device's alias as one word of a batch; other tools may have set any text.

    An alias that a batch cannot hold becomes the empty word, which leaves the device without one.
    """
    if _UNSPEAKABLE.search(alias) or ("'" in alias and '"' in alias):
        return "''"
    if "'" in alias:
        return f'"{alias}"'
    return f"'{alias}'" if not alias or '"' in alias or " " in alias else alias


def _links(before: State, after: State) -> list[Change]:
    result = []
    for name, want in after.links.items():
        have = before.links.get(name)
        if have is None:
            result += _new_link(name, want)
            continue
        lines = []
        if have.alias != want.alias and (want.alias or is_marked(have)):
            lines.append(f"link set dev {name} alias {_word(want.alias)}")
        if want.mac and have.mac != want.mac:
            lines.append(f"link set dev {name} address {want.mac}")
        if want.kind == BRIDGE and is_marked(want) and not is_marked(have):
            # An adopted bridge may follow the MTU of its ports (see add_link), which have the new
            # one by now; a change of its own ends that. So: larger by one, and back. A smaller MTU,
            # even for a moment, would be remembered by whoever sends then (path MTU discovery).
            lines += [f"link set dev {name} mtu {want.mtu + one}" for one in (1, 0)]
        elif want.kind != BRIDGE and have.mtu != want.mtu:
            lines.append(f"link set dev {name} mtu {want.mtu}")
        if want.kind in KINDS:
            lines += KINDS[want.kind].update(name, have.options, want.options)
        if want.up and not have.up:
            lines.append(f"link set dev {name} up")
        if lines:
            shown = have if want.mac else have._replace(mac="")
            then = want._replace(up=want.up or have.up)
            result.append(Change("ip", tuple(lines), link_text(name, shown), link_text(name, then)))
        if want.kind in KINDS:
            result += KINDS[want.kind].set_options(name, have.options, want)
    return result


def _new_link(name: str, link: Link) -> list[Change]:
    lines = add_link(name, link)
    if link.kind not in KINDS:
        return [Change("ip", lines, "", link_text(name, link))]
    kind = KINDS[link.kind]
    made = kind.made(name, link)
    rest = Change("ip", lines[1:] if made else lines, "", link_text(name, link))
    return [*made, rest, *kind.set_options(name, "", link)]


def _secrets(before: State, after: State, *, remove: bool) -> list[Change]:
    """Return what writes files that only root may read, or what removes them."""
    result = []
    for path in sorted(before.secrets.keys() | after.secrets.keys()):
        old, new = before.secrets.get(path), after.secrets.get(path)
        if old != new and (new is None) == remove:
            said = [f"file {path} ({one})" if one is not None else "" for one in (old, new)]
            result.append(Change("secret", (path,), *said))
    return result


def _downs(before: State, after: State) -> list[Change]:
    """Return what takes devices down: late, because the kernel then drops their routes, too."""
    result = []
    for name, want in after.links.items():
        have = before.links.get(name)
        if have is not None and have.up and not want.up:
            line = f"link set dev {name} down"
            shown = want._replace(up=True)
            result.append(Change("ip", (line,), link_text(name, shown), link_text(name, want)))
    return result


def _bridge_mtus(before: State, after: State, shrink: bool) -> list[Change]:
    """Return what shrinks, or what grows, the MTUs of bridges.

    Bridges that are made or adopted are left out: `_links` sets their MTU.
    """
    result = []
    for name, want in after.links.items():
        have = before.links.get(name)
        if have is None or want.kind != BRIDGE or have.mtu == want.mtu:
            continue
        adopted = is_marked(want) and not is_marked(have)
        if not adopted and (want.mtu < have.mtu) == shrink:
            line, text = f"link set dev {name} mtu {want.mtu}", f"link {name} mtu "
            result.append(Change("ip", (line,), f"{text}{have.mtu}", f"{text}{want.mtu}"))
    return result


def _remove_link(name: str, link: Link) -> list[Change]:
    removed = KINDS[link.kind].removed(name, link) if link.kind in KINDS else []
    return removed or [Change("ip", (f"link del dev {name}",), link_text(name, link), "")]


def _addresses(before: State, after: State) -> list[Change]:
    result = []
    for (device, cidr), flags in after.addresses.items():
        if (device, cidr) not in before.addresses:
            text = f"addr {cidr} dev {device}"
            result.append(Change("ip", (f"addr replace {cidr} dev {device}{flags}",), "", text))
    return result


def _neighbours(before: State, after: State) -> list[Change]:
    result = []
    have = before.neighbours
    for key, mac in after.neighbours.items():
        old = have.get(key)
        if old != mac:
            device, address = key
            text = f"neigh {address} dev {device} lladdr "
            result.append(
                Change(
                    "ip",
                    (f"neigh replace {address} lladdr {mac} dev {device} nud permanent",),
                    text + old if old else "",
                    text + mac,
                )
            )
    return result


def _entries(before: State, after: State) -> list[Change]:
    """Return what adds and changes the entries of devices for their peers."""
    have = before.entries
    return [
        KINDS[after.links[key[0]].kind].entry(key, have.get(key, ""), entry)
        for key, entry in after.entries.items()
        if key not in have or not KINDS[after.links[key[0]].kind].is_alike(have[key], entry)
    ]


def route_line(destination: str, body: str) -> str:
    """Return the batch line that sets a route, with our protocol unless `body` names another."""
    protocol = "" if " proto " in f" {body} " else f" proto {ROUTE_PROTOCOL}"
    kind, _mark, rest = body.partition(" ") if body.startswith("type ") else ("", "", body)
    if kind:
        kind, _mark, rest = rest.partition(" ")
        kind += " "
    return " ".join(f"route replace {kind}{destination} {rest}{protocol}".split())


def _routes(before: State, after: State) -> list[Change]:
    result = []
    have = before.routes
    for destination, body in after.routes.items():
        old = have.get(destination)
        if old != body:
            result.append(
                Change(
                    "ip",
                    (route_line(destination, body),),
                    f"route {destination} {old}" if old is not None else "",
                    f"route {destination} {body}",
                )
            )
    return result


def _removals(before: State, after: State) -> list[Change]:
    """Return the removal of what `after` lacks, routes first."""
    result = []
    for destination, body in before.routes.items():
        if destination not in after.routes:
            device = route_device(body)
            line = f"route del {destination}" + (f" dev {device}" if device else "")
            result.append(Change("ip", (line,), f"route {destination} {body}", ""))
    for (device, address), mac in before.neighbours.items():
        if (device, address) not in after.neighbours:
            line = f"neigh del {address} dev {device}"
            text = f"neigh {address} dev {device} lladdr {mac}"
            result.append(Change("ip", (line,), text, ""))
    for (device, cidr), _other in before.addresses.items():
        if (device, cidr) not in after.addresses:
            line = f"addr del {cidr} dev {device}"
            result.append(Change("ip", (line,), f"addr {cidr} dev {device}", ""))
    for key, entry in before.entries.items():
        if key not in after.entries:
            result.append(KINDS[before.links[key[0]].kind].entry(key, entry, ""))
    return result


def full_name(table: str) -> str:
    """Return a table's family and name; a bare name's family is inet."""
    return table if " " in table else f"inet {table}"


def chain_text(table: str, chains: tuple[Chain, ...]) -> str:
    """Return a table as lines of nft(8), without the comments that identify rules."""
    full = full_name(table)
    lines = [f"table {full} set {name} {{ type {SETS[name]}; }}" for name in used_sets(chains)]
    for chain in chains:
        lines.append(f"table {full} chain {chain.name} {{ {chain.hook}; policy accept; }}")
        lines += [f"table {full} chain {chain.name} {rule.text}" for rule in chain.rules]
    return "\n".join(lines)


def table_lines(
    table: str, chains: tuple[Chain, ...], members: Mapping[DeviceKey, str]
) -> tuple[str, ...]:
    """Return an nft script that replaces a table in one transaction; `members` are as in `State`.

    `add` before `delete` makes the deletion succeed where there is no table (nft(8)); packets
    never see the table missing, because nft -f is atomic.
    """
    full = full_name(table)
    lines = [f"add table {full}", f"delete table {full}"]
    if chains:
        lines.append(f"table {full} {{")
        for name in used_sets(chains):
            lines += [f"  set {name} {{", f"    type {SETS[name]};"]
            own = sorted(
                one for (owner, one), kind in members.items() if (owner, kind) == (table, name)
            )
            lines += [f"    elements = {{ {', '.join(own)} }};"] if own else []
            lines.append("  }")
        for chain in chains:
            lines.append(f"  chain {chain.name} {{")
            lines.append(f"    {chain.hook}; policy accept;")
            lines += [f'    {rule.text} comment "{rule.tag}"' for rule in chain.rules]
            lines.append("  }")
        lines.append("}")
    return tuple(lines)


_DEVICE = re.compile(r' device "[^"]*"')


def _signature(chains: tuple[Chain, ...]) -> list[tuple[str, str, list[str]]]:
    # nft's JSON does not tell the device of a chain in every version; the rules' comments do.
    return [
        (chain.name, _DEVICE.sub("", chain.hook), [rule.tag for rule in chain.rules])
        for chain in chains
    ]


def _are_alike(old: tuple[Chain, ...], new: tuple[Chain, ...]) -> bool:
    """Whether two tables do the same; of a rule that could not be read only the comment counts."""
    if _signature(old) != _signature(new):
        return False
    pairs = [
        (one.text, other.text)
        for first, second in zip(old, new)
        for one, other in zip(first.rules, second.rules)
    ]
    return all(
        UNREAD in (one[: len(UNREAD)], other[: len(UNREAD)]) or nft_rule.are_alike(one, other)
        for one, other in pairs
    )


def _tables(before: State, after: State, family: str = "") -> list[Change]:
    result = []
    # Members that come are added by changes of their own (_members), in the same transaction.
    stay = {key: name for key, name in after.members.items() if before.members.get(key) == name}
    for table in _other_tables(before, after):
        if table.startswith(family):
            old, new = before.tables.get(table, ()), after.tables.get(table, ())
            texts = chain_text(table, old), chain_text(table, new)
            result.append(Change("nft", table_lines(table, new, stay), *texts))
    return result


def _other_tables(before: State, after: State) -> list[str]:
    """Return the tables whose chains differ; each is replaced as a whole."""
    return [
        table
        for table in sorted(before.tables.keys() | after.tables.keys())
        if not _are_alike(before.tables.get(table, ()), after.tables.get(table, ()))
    ]


def _members(before: State, after: State, *, remove: bool) -> list[Change]:
    """Return the changes of sets: what comes; or, with `remove`, what goes.

    So a peer's new address is in before its old one is out. Those that go with a table that is
    replaced need no command, and are told with those that come.
    """
    other = _other_tables(before, after)
    result = []
    for (table, element), name in (before if remove else after).members.items():
        if (after if remove else before).members.get((table, element)) != name:
            verb = "delete" if remove else "add"
            change = _member(table, element, name, verb)
            if not (remove and table in other):
                result.append(change)
    if not remove:
        result += [
            _member(table, element, name, "delete")._replace(lines=())
            for (table, element), name in before.members.items()
            if table in other and after.members.get((table, element)) != name
        ]
    return result


def _member(table: str, element: str, name: str, verb: str) -> Change:
    text = f"table {full_name(table)} set {name} element {element}"
    line = f"{verb} element {full_name(table)} {name} {{ {element} }}"
    return Change("nft", (line,), *((text, "") if verb == "delete" else ("", text)))


def _accepts(before: State, after: State) -> list[Change]:
    """Return the changes of our rules in other tools' chains."""
    new, old = [], []
    for one in after.accepts:
        if one not in before.accepts and not one.rule.endswith(BELOW):
            line = f"insert rule {one.chain} {one.rule}"
            if one.tool != "nft":
                line = f"{one.tool} -w -I {one.chain} {one.rule}"
            new.append(Change(_owner(one), (line,), "", " ".join(one)))
    for one, handles in before.accepts.items():
        if one not in after.accepts:
            lines = [f"delete rule {one.chain} handle {handle}" for handle in handles]
            if one.tool != "nft":
                rule = one.rule[: -len(BELOW)] if one.rule.endswith(BELOW) else one.rule
                lines = [f"{one.tool} -w -D {one.chain} {rule}"] * max(1, len(handles))
            old.append(Change(_owner(one), tuple(lines), " ".join(one), ""))
    # A rule below one that drops is moved up: deleted, then inserted, because iptables -D deletes
    # the first equal rule, which would be the new one.
    moved = [change for change in old if change.before.endswith(BELOW)]
    return moved + new + [change for change in old if change not in moved]


def leftovers(before: State, after: State, first: bool) -> list[Change]:
    """Return the removal of another tool's leftovers: those that are `first`, or all others.

    With `first` it also returns what brings back those that only `after` has, as in a rollback.
    """
    result = [
        Change(one.tool, one.lines, what, "")
        for what, one in before.leftovers.items()
        if what not in after.leftovers and one.first == first
    ]
    if first:
        result += [
            Change(one.tool, one.back, "", what)
            for what, one in after.leftovers.items()
            if what not in before.leftovers and one.back
        ]
    return result


def _owner(one: Accept) -> str:
    return "nft" if one.tool == "nft" else "iptables"


def _files(before: State, after: State) -> list[Change]:
    result = []
    for tool, old, new in (
        ("boot", before.boot, after.boot),
        ("file", before.files, after.files),
    ):
        # Those that go, go the other way round: what names another file is the last of the two.
        gone = sorted(old.keys() - new.keys(), reverse=True)
        for path in [*sorted(new.keys()), *gone]:
            if old.get(path) != new.get(path):
                texts = _file_text(path, old.get(path)), _file_text(path, new.get(path))
                result.append(Change(tool, (path,), *texts))
    return result


def _file_text(path: str, content: str | None) -> str:
    if content is None:
        return ""
    if content.startswith("-> "):
        return f"file {path} {content}"
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    return f"file {path} ({content.count(chr(10))} lines, sha256 {digest})"

"""What would fail half-way through a change, found before anything is changed on any host.

`questions` says what must be known of a host for the change ahead, `kernel/preflight.py` finds it
out, and `problems` judges. A host that has nothing to do is asked next to nothing.
"""

from __future__ import annotations

from typing import Any, Collection, Mapping, NamedTuple, Sequence

from ..backends.base import Needs
from ..backends.registry import KINDS, is_same_device
from ..core.model import Node
from ..core.state import Link, State, route_device
from .phases import ASIDE

_DEFAULT6 = "net.ipv6.conf.default.disable_ipv6"


class Rename(NamedTuple):
    """A device that is up and is to get another name; `can`: its kind has nothing against it."""

    kind: str
    old: str
    new: str
    can: bool


class Questions(NamedTuple):
    """What to ask a host.

    `device` is a backend's device which is to be made or brought up, None for none. `renames` are
    devices that are up and get another name. `disabled6` are the sysctls disable_ipv6 of
    the devices that need IPv6. `own_port`: the device's UDP port is that of the one that makes way
    for it.
    """

    device: Link | None = None
    renames: tuple[Rename, ...] = ()
    disabled6: tuple[str, ...] = ()
    own_port: bool = False

    @property
    def needs(self) -> Needs | None:
        """What `device` needs."""
        return KINDS[self.device.kind].needs(self.device) if self.device else None


class Facts(NamedTuple):
    """What a host answered, as far as it was asked.

    `makes`: its kernel can make such a device. `holder`: who has the device's UDP port, "" for
    nobody. `can_rename`: its kernel can rename devices that are up; `release` is that kernel's.
    `values` are those of the sysctls `disabled6`, None on a kernel without IPv6.
    """

    makes: bool = True
    holder: str = ""
    can_rename: bool = True
    release: str = ""
    values: Mapping[str, str] | None = {}


def questions(before: State, final: State, in_phases: bool) -> Questions:
    """Return what a host must be asked before it goes from `before` to `final`.

    `in_phases`: old and new devices exist beside each other for a while (phases.py).
    """
    device, own_port = None, False
    for name, link in final.links.items():
        if link.kind in KINDS and not any(
            one.up and is_same_device(one, link) for one in before.links.values()
        ):
            device, own_port = link, _has_port(before.links.get(name), link)
    renames, disabled6 = _renames(before, final, in_phases), _disabled6(before, final)
    return Questions(device, renames, disabled6, own_port)


def _has_port(have: Link | None, want: Link) -> bool:
    """Whether the device that is there holds the port of the one that is wanted."""
    if have is None or not have.up or have.kind not in KINDS:
        return False
    return KINDS[have.kind].needs(have).port == KINDS[want.kind].needs(want).port


def _renames(before: State, final: State, in_phases: bool) -> tuple[Rename, ...]:
    names = {link.ifindex: name for name, link in final.links.items() if link.ifindex}
    found = []
    for name, link in before.links.items():
        wanted = final.links.get(name)
        if names.get(link.ifindex, name) != name:
            can = link.kind not in KINDS or KINDS[link.kind].can_rename
            found.append(Rename(link.kind, name, names[link.ifindex], can))
        elif in_phases and wanted is not None and not is_same_device(link, wanted):
            kind = KINDS.get(link.kind)
            can = kind is None or kind.can_stand_aside(link.options, wanted.options)
            found.append(Rename(link.kind, name, ASIDE, can))
    return tuple(one for one in found if before.links[one.old].up)


def _disabled6(before: State, final: State) -> tuple[str, ...]:
    devices = {device for device, cidr in final.addresses if ":" in cidr}
    devices |= {route_device(body) for dst, body in final.routes.items() if ":" in dst} - {""}
    return tuple(
        dict.fromkeys(
            # A device that is yet to be made takes the default.
            f"net.ipv6.conf.{device.replace('.', '/')}.disable_ipv6"
            if device in before.links or device not in final.links
            else _DEFAULT6
            for device in sorted(devices)
        )
    )


def problems(
    node: Node,
    asked: Questions,
    facts: Facts,
    links: Sequence[Mapping[str, Any]],
    ours: Collection[str],
) -> list[str]:
    """Return what stands in the way, a sentence each that says the way out.

    `links` are all devices of the host as `ip -j -d addr` prints them; `ours` names those that are
    this network's, and those whose name it needs.
    """
    found = []
    if asked.device:
        kind = KINDS[asked.device.kind]
        if not facts.makes:
            found.append(kind.lacking(node.name, facts.release))
        holder = "" if asked.own_port else facts.holder
        found += kind.port_problems(node.name, asked.device, holder, links, ours)
    found += _ipv6_problems(node, asked, facts)
    return found


def rename_problems(node: Node, asked: Questions, facts: Facts) -> list[str]:
    """Return the renames that the host cannot make, a sentence each.

    A switch goes around them: over a device with another name and port (Planner.detour).
    """
    return [
        _rename_problem(node, facts, one.kind, one.old, one.new)
        for one in asked.renames
        if not (facts.can_rename and one.can)
    ]


def _rename_problem(node: Node, facts: Facts, kind: str, old: str, new: str) -> str:
    names = KINDS[kind]
    why = f"{node.name}: its kernel ({facts.release}) does not rename a device that is up, as "
    why += "Linux 6.2 does"
    if not names.can_rename:
        why = f"{node.name}: {old} is a process's device, which cannot get another name"
    if new == ASIDE:
        return (
            f"{why}, and {old} has to stand beside its successor for a while. Set "
            f"{names.variable} to another name together with this change"
        )
    return (
        f"{why}, and {old} would have to become {new}. Keep {names.variable}: {old}, or "
        f"change {names.beside} together with the name: then the new device "
        "stands beside the old one"
    )


def _ipv6_problems(node: Node, asked: Questions, facts: Facts) -> list[str]:
    way_out = "or set podnet_cluster_cidr6 to empty on a network without IPv6"
    if asked.disabled6 and facts.values is None:
        return [
            f"{node.name}: IPv6 is off in the kernel (ipv6.disable=1), and the plan has IPv6. Boot "
            f"without that parameter, {way_out}"
        ]
    off = [key for key in asked.disabled6 if (facts.values or {}).get(key) == "1"]
    if not off:
        return []
    return [
        f"{node.name}: IPv6 is off ({', '.join(f'{key}=1' for key in off)}), and the plan has "
        f"IPv6. Set it to 0, in /etc/sysctl.d as well, {way_out}"
    ]


#: Why nothing can be written where another thing is in a directory's place.
NO_DIRECTORY = "it is not a directory"


def full_or_read_only(node: str, where: Mapping[str, str]) -> list[str]:
    """Return a sentence for each directory in `where`: directory -> why it cannot be written."""
    return [
        f"{node}: {directory} cannot be written: {reason}. podnet keeps its files there; "
        + ("move it away" if reason == NO_DIRECTORY else "mount it for writing, or make room")
        for directory, reason in where.items()
    ]


def refusal(node: str, found: Sequence[str]) -> str:
    """Return one message for all problems of a host."""
    if len(found) == 1:
        return found[0]
    lines = [one[len(node) + 2 :] if one.startswith(f"{node}: ") else one for one in found]
    return "\n".join([f"{node}: {len(found)} things are in the way:", *(f"  {it}" for it in lines)])

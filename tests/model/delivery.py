"""What happens to a packet between two pods, by the tables of their hosts alone.

The way is split where it leaves the sender's host: `send` says as what it leaves, `receive` what
the other host makes of it. Both are functions of one host's state.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .kernel import Kernel, UnknownLine, device_key, number, prefix

#: Bytes around a pod's packet: RFC 7348, section 5, by the family of the outer addresses.
OVERHEAD = {4: 50, 16: 70}

#: is_skb_forwardable() in net/core/dev.c leaves room for a VLAN tag.
SLACK = 4


class Underlay(NamedTuple):
    """The network between hosts: segments (CIDRs), joined by a router that knows no pod."""

    segments: tuple[str, ...]
    mtu: int = 1500

    def segment(self, address: str) -> str:
        """Return the segment of an address, "" for none."""
        size, value = number(address)
        for cidr in self.segments:
            its, length, first = prefix(cidr)
            if its == size and value >> (size * 8 - length) == first:
                return cidr
        return ""


class Frame(NamedTuple):
    """What leaves a host for another one.

    `to` is the node's address that it goes to. For VXLAN, `vni`, `port` and `mac` (the inner
    destination) are set and `outer` is the sender's address. `pieces`: it had to be fragmented.
    """

    source: str
    target: str
    size: int
    to: str
    vni: int = 0
    port: int = 0
    mac: str = ""
    outer: str = ""
    pieces: bool = False

    def __str__(self) -> str:
        """Say it in a person's words."""
        if not self.vni:
            return f"sends it plain to {self.to}"
        return f"sends it in VXLAN (VNI {self.vni}, port {self.port}, inner MAC {self.mac}) to {self.to}"


class Lost(NamedTuple):
    """Why a packet ended.

    `waits`: it is queued for a neighbour, not dropped yet. `told`: the sender hears that it was too
    large for the next link (RFC 1191, RFC 8201), so it sends smaller ones.
    """

    why: str
    waits: bool = False
    told: bool = False


def send(
    kernel: Kernel, bridge: str, ends: tuple[str, str], size: int, net: Underlay
) -> Frame | Lost:
    """Return as what a pod's packet of `size` bytes leaves its host."""
    source, target = ends
    port = next((name for name in kernel.pods if _is_port(kernel, name, bridge)), "")
    if not port:
        return Lost(f"no pod is attached to {bridge}")
    if size > kernel.devices[port].mtu + SLACK:
        return Lost(f"{size} bytes do not fit through {port}, MTU {kernel.devices[port].mtu}")
    wrong = accept(kernel, bridge, source)
    if wrong:
        return Lost(wrong)
    route = kernel.lookup(target)
    if route is None:
        return Lost(f"no route to {target}")
    device = kernel.devices[route.device]
    if size > device.mtu:
        return Lost(f"{size} bytes do not fit into {route.device}, MTU {device.mtu}", told=True)
    gateway = route.via or target
    if device.kind != "vxlan":
        return _on_underlay(
            kernel, Frame(source, target, size, gateway), gateway, route.device, net
        )
    mac = kernel.neighbours.get((route.device, gateway))
    if mac is None:
        return Lost(f"no neighbour {gateway} on {route.device}", waits=True)
    remotes = kernel.fdb.get((route.device, mac), ())
    if len(remotes) != 1:
        return Lost(f"FDB of {route.device} has {len(remotes)} entries for {mac}")
    (remote,) = remotes
    if not kernel.holder(device.local):
        return Lost(f"{device.local}, the local address of {route.device}, is not on this host")
    outer = kernel.lookup(remote)
    if outer is None:
        return Lost(f"no route to {remote}, the peer of {route.device}")
    frame = Frame(source, target, size, remote, device.vni, device.port, mac, device.local)
    whole = size + OVERHEAD[number(remote)[0]]
    if whole > kernel.devices[outer.device].mtu:
        frame = frame._replace(pieces=True)
    return _on_underlay(kernel, frame, outer.via or remote, outer.device, net)


def _on_underlay(
    kernel: Kernel, frame: Frame, gateway: str, device: str, net: Underlay
) -> Frame | Lost:
    if not kernel.devices[device].up:
        return Lost(f"{device} is down")
    if kernel.devices[device].kind != "nic":
        return Lost(f"{device} leads to no other host")
    here = {
        net.segment(cidr.partition("/")[0]) for name, cidr in kernel.addresses if name == device
    }
    if net.segment(gateway) not in here:
        return Lost(f"nobody answers for {gateway} on {device}")
    # A router has a way to the nodes of all segments, and none to pods: theirs is `gateway`'s host.
    if not net.segment(frame.to):
        return Lost(f"{gateway} knows no way to {frame.to}")
    return frame


def receive(kernel: Kernel, bridge: str, frame: Frame) -> Lost | None:
    """Return why a host does not hand a frame to its pod, None when it does."""
    device = kernel.holder(frame.to)
    if not device or kernel.devices[device].kind != "nic":
        return Lost(f"{frame.to} is not on this host")
    if frame.vni:
        wrong = _outer(kernel, device, frame)
        if wrong:
            return Lost(wrong)
        name = next(
            (
                name
                for name, one in kernel.devices.items()
                if one.kind == "vxlan" and one.up and (one.vni, one.port) == (frame.vni, frame.port)
            ),
            "",
        )
        if not name:
            return Lost(f"no device takes VNI {frame.vni} on port {frame.port}")
        device = name
        mac = kernel.devices[device].mac
        if mac != frame.mac and not _takes_mac(kernel, device, frame.mac):
            return Lost(f"{device} has the MAC {mac}, the packet is for {frame.mac}")
    wrong = accept(kernel, device, frame.source)
    if wrong:
        return Lost(wrong)
    route = kernel.lookup(frame.target)
    if route is None:
        return Lost(f"no route to {frame.target}")
    if route.device != bridge or route.via:
        way = f"via {route.via} {route.device}".removeprefix("via  ")
        return Lost(f"{frame.target} is routed to {way}, not to {bridge}")
    if frame.size > kernel.devices[bridge].mtu:
        mtu = kernel.devices[bridge].mtu
        return Lost(f"{frame.size} bytes do not fit into {bridge}, MTU {mtu}", told=True)
    for name, pod in kernel.pods.items():
        if _is_port(kernel, name, bridge):
            least = min(kernel.devices[name].mtu, pod.mtu)
            if frame.size <= least + SLACK:
                return None
            return Lost(f"{frame.size} bytes do not fit through {name}, MTU {least}")
    return Lost(f"no pod is attached to {bridge}")


def _outer(kernel: Kernel, device: str, frame: Frame) -> str:
    """Return why the VXLAN packet itself is not taken, "" when it is."""
    return _guarded(kernel, device, frame) or _reverse(kernel, device, frame.outer)


#: The forms that rules of the guard have (Vxlan.guard) -> whether they accept or drop.
_GUARD = {
    r"udp dport (?P<port>\d+) iifname != \{ (?P<but>.*) \} ip6? saddr @(?P<set>\w+) accept": True,
    r"meta nfproto ipv(?P<family>\d) udp dport (?P<port>\d+) @th,96,24 != (?P<vni>\d+) accept": True,
    r"meta nfproto ipv(?P<family>\d) udp dport (?P<port>\d+) fib daddr type != unicast "
    r"counter drop": False,
}


def _guarded(kernel: Kernel, device: str, frame: Frame) -> str:
    """Return why the guard drops a VXLAN packet to this host, "" when it does not."""
    for table, chains in kernel.tables.items():
        for _, hook, rules in chains:
            if "hook prerouting" not in hook:
                continue
            for text, tag in rules:
                accepts, matches = _judge(kernel, table, device, frame, text)
                if matches and accepts:
                    break
                if matches:
                    return f"the guard drops what comes from {frame.outer} ({tag})"
    return ""


def _judge(kernel: Kernel, table: str, device: str, frame: Frame, text: str) -> tuple[bool, bool]:
    """Return (whether a rule accepts, whether it is about this packet)."""
    for form, accepts in _GUARD.items():
        found = re.fullmatch(form, text)
        if found:
            given = found.groupdict()
            family = "6" if ":" in frame.outer else "4"
            known = kernel.sets.get((table, given.get("set", "")), frozenset())
            return accepts, (
                device not in given.get("but", "").split(", ")
                and given.get("family", family) == family
                and int(given["port"]) == frame.port
                and int(given.get("vni", -1)) != frame.vni
                and ("set" not in given or frame.outer in known)
            )
    raise UnknownLine(f"nft {text}")


def accept(kernel: Kernel, device: str, source: str) -> str:
    """Return why a device does not forward what came in from `source`, "" when it does."""
    if device not in kernel.devices or not kernel.devices[device].up:
        return f"{device} is not up"
    if ":" in source:
        if kernel.sysctls["net.ipv6.conf.all.forwarding"] == "0":
            return "IPv6 is not forwarded"
        return ""
    if kernel.sysctls[device_key("net.ipv4.conf.{}.forwarding", device)] == "0":
        return f"{device} does not forward IPv4"
    return _reverse(kernel, device, source)


def _reverse(kernel: Kernel, device: str, source: str) -> str:
    """Return why the reverse path filter (RFC 3704, ip-sysctl.rst) drops, "" when it does not."""
    if ":" in source:
        return ""
    own = device_key("net.ipv4.conf.{}.rp_filter", device)
    mode = max(int(kernel.sysctls[own]), int(kernel.sysctls["net.ipv4.conf.all.rp_filter"]))
    if mode == 0:
        return ""
    route = kernel.lookup(source)
    if route is None:
        return f"rp_filter {mode} of {device}: no route back to {source}"
    if mode == 1 and route.device != device:
        return f"rp_filter 1 of {device}: the way back to {source} is {route.device}"
    return ""


def _is_port(kernel: Kernel, name: str, bridge: str) -> bool:
    port = kernel.devices.get(name)
    return port is not None and port.up and port.master == bridge


def _takes_mac(kernel: Kernel, device: str, mac: str) -> bool:
    """Whether a chain on the device's ingress makes packets for `mac` the host's (phases.both_macs)."""
    for chains in kernel.tables.values():
        for _, hook, rules in chains:
            if f'hook ingress device "{device}"' in hook:
                return any(mac in text and "pkttype set host" in text for text, _ in rules)
    return False

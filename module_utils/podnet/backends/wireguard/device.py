"""WireGuard devices: their port, key and peers, as wg(8) prints and sets them.

The kernel makes them where it has the module; elsewhere a process wireguard-go does, whose device
ip(8) shows as a tun device.
"""

from __future__ import annotations

import hashlib
import re
import time
from typing import Any, Collection, Mapping, NamedTuple, Sequence

from ...core.model import is_inside
from ...core.state import Change, DeviceKey, Link
from ..base import DeviceKind, Entries, HostTools, Needs

#: The variable that names the device.
VARIABLE = "podnet_wireguard_device"

#: Seconds: what keeps a NAT's mapping (wg(8)); RFC 4787 lets one end after 30 s without packets.
KEEPALIVE = 25

#: Seconds after which a session cannot be used any more (REJECT_AFTER_TIME).
_SESSION = 180

#: How many peers one call of wg(8) sets.
_AT_ONCE = 100

_NONE = "(none)"


def directory(network: str) -> str:
    """Return where a network's keys lie on a host."""
    return f"/etc/podnet/{network}"


def key_file(network: str, key: str) -> str:
    """Return the path of the private key that belongs to the public key `key`.

    Each has a file of its own, so that two devices can stand beside each other, and a host that
    boots in between finds the key of each.
    """
    return f"{directory(network)}/wireguard-{hashlib.sha256(key.encode()).hexdigest()[:12]}.key"


#: What the name of such a file is like.
KEY_FILE = re.compile(r"wireguard-[0-9a-f]{12}\.key\Z")


def psk_file(network: str) -> str:
    """Return the path of the key that all hosts share."""
    return f"{directory(network)}/wireguard.psk"


def fingerprint(psk: str) -> str:
    """Return 16 hex digits that tell a shared key from others and do not tell the key."""
    return hashlib.sha256(f"podnet {psk}".encode()).hexdigest()[:16]


class PortAndKey(NamedTuple):
    """A device's UDP port and its public key, "" for none."""

    port: int
    key: str = ""

    def text(self) -> str:
        """Return them in the words of wg(8)."""
        return f"listen-port {self.port}" + (f" public-key {self.key}" if self.key else "")

    @classmethod
    def read(cls, text: str) -> PortAndKey:
        """Return what `text` made the text of; port 0 for the empty text."""
        words = text.split(" ")
        return cls(int(words[1]), words[3] if len(words) > 3 else "") if len(words) > 1 else cls(0)


class Peer(NamedTuple):
    """What a device knows of a peer.

    `allowed` are the CIDRs of its pods, in order. `endpoints` are the addresses with ports that it
    may be reached at, any if there is none; a device has one. `keepalive` is in seconds, 0 for
    none. `psk` is the shared key's fingerprint and `file` its path, "" where it is not known.
    """

    allowed: tuple[str, ...]
    endpoints: tuple[str, ...] = ()
    keepalive: int = 0
    psk: str = ""
    file: str = ""

    def text(self) -> str:
        """Return it as an entry."""
        return " ".join(
            (
                ",".join(self.allowed) or "-",
                f"endpoint {'|'.join(self.endpoints) or '-'}",
                f"keepalive {self.keepalive}",
                f"psk {self.psk or '-'}",
                *([self.file] if self.file else []),
            )
        )

    @classmethod
    def read(cls, text: str) -> Peer:
        """Return what `text` made the text of."""
        words = ["" if word == "-" else word for word in text.split(" ")]
        return cls(
            tuple(words[0].split(",")) if words[0] else (),
            tuple(words[2].split("|")) if words[2] else (),
            int(words[4]),
            words[6],
            words[7] if len(words) > 7 else "",
        )

    def words(self, key: str, old: Peer | None = None) -> str:
        """Return the words of `wg set` for all but the endpoint, which must come last.

        `old` is what the device knows of the peer. Only new CIDRs are set: wg(8) takes the old ones
        away first, and a packet that comes in this moment is lost.
        """
        found = f"peer {key}"
        if old is None or old.allowed != self.allowed:
            found += f" allowed-ips {','.join(self.allowed)}"
        found += f" persistent-keepalive {self.keepalive}"
        if self.file or not self.psk:
            # An empty file takes the shared key away.
            found += f" preshared-key {self.file or '/dev/null'}"
        return found


class WireguardDevice(DeviceKind):
    """A device of the kernel's; its entries are the peers: public key -> `Peer`."""

    entries = "peers"
    title = "WireGuard device"
    entry_title = "WireGuard peer"
    checks_source = True
    variable = VARIABLE
    beside = "podnet_wireguard_port"
    boot_file = "wireguard"
    show = r"""wg show "$device" listen-port | sed "s/^/port $device /"
    wg show "$device" public-key | sed "s/^/key $device /"
    wg show "$device" allowed-ips | sort | sed "s/^/peer $device /; s/\t/ /g" """.rstrip()
    make = r"""[ ! -s wireguard ] || while read -r what device _ _ _ way; do
    [ "$what $way" = "device userspace" ] || continue
    ip link show dev "$device" >/dev/null 2>&1 && continue
    systemctl reset-failed "podnet-wireguard-$device.servic[e]"
    systemd-run --quiet --collect --service-type=forking --unit="podnet-wireguard-$device" \
      --property="OnFailure=podnet-wait@$name.service" wireguard-go "$device" &&
      wg show "$device" listen-port >/dev/null || status=1
  done <wireguard"""
    # A peer that is there already may have moved: its device knows the endpoint better. To one that
    # is new, or has rebooted with the host, packets of an old session may be under way for minutes:
    # a keepalive begins a new one at once (wg(8)). CIDRs that are right are not set again, because
    # wg(8) takes them away first.
    replay = r"""[ ! -s wireguard ] || while read -r what device rest; do
    set -- $rest
    case $what in
    device)
      [ "$(wg show "$device" listen-port)" = "$1" ] ||
        wg set "$device" listen-port "$1" || status=1
      [ "$(wg show "$device" public-key)" = "$3" ] ||
        wg set "$device" private-key "$2" || status=1
      wg show "$device" allowed-ips | tr '\t ' ' ,' >"$seen.peers"
      ;;
    peer)
      # KEY allowed-ips CIDRS persistent-keepalive SECONDS [preshared-key FILE] [endpoint ADDRESS]
      own=${rest%% endpoint *}
      if grep -qxF -e "$1 $3" "$seen.peers"; then
        wg set "$device" peer "$1" ${own#* * * } || status=1
      elif grep -q -e "^$1 " "$seen.peers"; then
        wg set "$device" peer $own || status=1
      else
        wg set "$device" peer $rest && wg set "$device" peer "$1" persistent-keepalive @KEEPALIVE &&
          wg set "$device" peer "$1" persistent-keepalive "$5" || status=1
      fi
      ;;
    esac
  done <wireguard
  rm -f "$seen.peers" """.rstrip().replace("@KEEPALIVE", str(KEEPALIVE))

    def plain_options(self, options: str) -> dict[str, Any]:
        """Return port and public_key."""
        own = PortAndKey.read(options)
        return {"port": own.port, "public_key": own.key}

    def plain_entry(self, key: DeviceKey, entry: str) -> dict[str, str]:
        """Return dev, public_key, allowed_ips, endpoint, keepalive and the fingerprint psk."""
        peer = Peer.read(entry)
        return {
            "dev": key[0],
            "public_key": key[1],
            "allowed_ips": ",".join(peer.allowed),
            "endpoint": "|".join(peer.endpoints),
            "keepalive": str(peer.keepalive),
            "psk": peer.psk,
        }

    def check(self, data: Mapping[str, Any]) -> None:
        """Check nothing: ip(8) knows no options of such a device."""

    def options(self, data: Mapping[str, Any]) -> str:
        """Return "": see `own_options`."""
        return ""

    def own_options(self, device: str, tools: HostTools) -> str:
        """Return `listen-port PORT [public-key KEY]`."""
        own = (
            (tools.output(["wg", "show", device, "dump"], "") or "").partition("\n")[0].split("\t")
        )
        if len(own) < 4 or not own[2].isdigit():
            return PortAndKey(0).text()
        return PortAndKey(int(own[2]), "" if own[1] == _NONE else own[1]).text()

    def words(self, options: str) -> str:
        """Return "": wg(8) sets all of them."""
        return ""

    def set_options(self, name: str, have: str, want: Link) -> list[Change]:
        """Return the change of port and key."""
        old, new = PortAndKey.read(have), PortAndKey.read(want.options)
        words = f" listen-port {new.port}" if old.port != new.port else ""
        if new.key and old.key != new.key:
            words += f" private-key {key_file(want.alias.partition(':')[2], new.key)}"
        if not words:
            return []
        text = f"wg {name} "
        return [
            Change("wg", (f"set {name}{words}",), text + have if have else "", text + want.options)
        ]

    def is_same(self, one: str, other: str) -> bool:
        """Whether port and key are the same: with others, peers would not know the device.

        One that has no key, or is to get none yet, may have any.
        """
        have, want = PortAndKey.read(one), PortAndKey.read(other)
        return have.port == want.port and (have.key == want.key or "" in (have.key, want.key))

    def can_stand_aside(self, have: str, want: str) -> bool:
        """Whether the ports differ: two devices cannot share one."""
        return self.can_rename and PortAndKey.read(have).port != PortAndKey.read(want).port

    def update(self, name: str, have: str, want: str) -> list[str]:
        """Return nothing: see `set_options`."""
        return []

    def read(self, device: str, tools: HostTools) -> Entries:
        """Return the peers of a device."""
        found: Entries = {}
        said = tools.output(["wg", "show", device, "dump"], "") or ""
        for line in said.splitlines()[1:]:
            words = ["" if word == _NONE else word for word in line.split("\t")]
            if len(words) < 8:
                continue
            key, psk, endpoint, allowed, _other, _other, _other, keepalive = words[:8]
            found[device, key] = Peer(
                tuple(sorted(allowed.split(","))) if allowed else (),
                (endpoint,) if endpoint else (),
                int(keepalive) if keepalive.isdigit() else 0,
                fingerprint(psk) if psk else "",
            ).text()
        return found

    def is_alike(self, have: str, want: str) -> bool:
        """Whether all is equal; any endpoint will do where none is wanted."""
        old, new = Peer.read(have), Peer.read(want)
        return (old.allowed, old.keepalive, old.psk) == (
            new.allowed,
            new.keepalive,
            new.psk,
        ) and _is_there(old, new)

    def remote(self, entry: str) -> str:
        """Return the address of the endpoint, "" for none."""
        endpoints = Peer.read(entry).endpoints
        return endpoints[0].rpartition(":")[0].strip("[]") if endpoints else ""

    def carrier(self, entries: Entries, device: str, mac: str, address: str) -> DeviceKey | None:
        """Return the peer whose allowed-ips have the longest prefix with `address` in it."""
        best, found = -1, None
        single = f"{address}/{128 if ':' in address else 32}"
        for key, entry in entries.items():
            for cidr in Peer.read(entry).allowed if key[0] == device else ():
                length = int(cidr.partition("/")[2])
                if length > best and is_inside(single, cidr):
                    best, found = length, key
        return found

    def envelope(self, options: str) -> str:
        """Return the UDP port."""
        return f"UDP port {PortAndKey.read(options).port}"

    def session(self, key: DeviceKey, tools: HostTools) -> tuple[str, bool]:
        """Return when the last handshake was; without a session in the last minutes, false.

        A session ends after REJECT_AFTER_TIME, 180 s (section 6.1 of the paper).
        """
        said = tools.output(["wg", "show", key[0], "latest-handshakes"], "") or ""
        last = dict(line.split("\t", 1) for line in said.splitlines() if "\t" in line).get(
            key[1], ""
        )
        if not last.isdigit() or int(last) == 0:
            return "no handshake yet", False
        ago = max(int(time.time()) - int(last), 0)
        return f"latest handshake {ago} s ago", ago <= _SESSION

    def entry(self, key: DeviceKey, old: str, new: str) -> Change:
        """Return the change of a peer; an endpoint that will do stays as it is."""
        device, public = key
        text = f"peer {public} dev {device} allowed-ips "
        if not new:
            return Change("wg", (f"set {device} peer {public} remove",), text + old, "")
        peer = Peer.read(new)
        known = Peer.read(old) if old else None
        words = peer.words(public, known)
        if peer.endpoints and not (known and _is_there(known, peer)):
            words += f" endpoint {peer.endpoints[0]}"
        return Change("wg", (f"set {device} {words}",), text + old if old else "", text + new)

    def boot_text(self, links: Mapping[str, Link], entries: Entries) -> str:
        """Return a line for each device and each peer; the replay's `make` and `replay` read it."""
        lines = []
        for name, link in sorted(links.items()):
            own = PortAndKey.read(link.options)
            way = "kernel" if link.kind == "wireguard" else "userspace"
            file = key_file(link.alias.partition(":")[2], own.key)
            lines.append(f"device {name} {own.port} {file} {own.key or '-'} {way}\n")
            for (device, public), entry in sorted(entries.items()):
                if device == name:
                    peer = Peer.read(entry)
                    end = f" endpoint {peer.endpoints[0]}" if peer.endpoints else ""
                    words = peer.words(public).partition(" ")[2]
                    lines.append(f"peer {device} {words}{end}\n")
        return "".join(lines)

    def needs(self, link: Link) -> Needs:
        """Return the UDP port."""
        return Needs(
            PortAndKey.read(link.options).port,
            4,
            "wireguard",
            "link add podnet-try type wireguard",
        )

    def lacking(self, node: str, release: str) -> str:
        """Return what may hold the module, and what does without it."""
        return (
            f"{node}: the kernel ({release}) has no WireGuard (module wireguard, "
            "CONFIG_WIREGUARD, Linux 5.6 or newer). Install the package with the kernel's further "
            "modules (linux-modules-extra-..., kernel-modules-extra), or install wireguard-go and "
            "set podnet_wireguard_userspace: true for this host"
        )

    def port_problems(
        self,
        node: str,
        wanted: Link,
        holder: str,
        links: Sequence[Mapping[str, Any]],
        ours: Collection[str],
    ) -> list[str]:
        """Return who else has the port."""
        if not holder:
            return []
        port = PortAndKey.read(wanted.options).port
        return [
            f"{node}: UDP port {port} is in use by {holder}, and WireGuard needs it. Set "
            "podnet_wireguard_port to another number, or stop what uses it"
        ]


class UserspaceDevice(WireguardDevice):
    """A device of a process wireguard-go, which a unit of systemd's keeps.

    When the process dies, its device is gone; the unit that waits for what the network lacks then
    makes all anew.
    """

    like = "wireguard"
    can_rename = False

    def made(self, name: str, link: Link) -> list[Change]:
        """Return the start of the process, and a question that it answers when it is ready.

        Until then it may still set the device's MTU.
        """
        network = link.alias.partition(":")[2]
        line = (
            f"systemd-run --quiet --collect --service-type=forking --unit={unit(name)}"
            f" --property=OnFailure=podnet-wait@{network}.service wireguard-go {name}"
        )
        # The unit of a process that died is in the way.
        clear = f"systemctl reset-failed {if_any(name)}"
        ready = f"wg show {name} listen-port"
        return [Change("command", (clear, line, ready), "", f"unit {unit(name)}.service")]

    def removed(self, name: str, link: Link) -> list[Change]:
        """Return the end of the process, which takes its device with it."""
        line = f"systemctl stop {if_any(name)}"
        # It has made the directory for its sockets and leaves it.
        sweep = "find /run -maxdepth 1 -name wireguard -empty -delete"
        text = (
            f"unit {unit(name)}.service\nlink {name} type {link.kind} mtu {link.mtu} {link.options}"
        )
        return [Change("command", (line, sweep), text, "")]

    def needs(self, link: Link) -> Needs:
        """Return the UDP port, and the module for tun devices."""
        needs = super().needs(link)
        return needs._replace(module="tun", trial="tuntap add dev podnet-try mode tun")

    def lacking(self, node: str, release: str) -> str:
        """Return what wireguard-go needs."""
        return (
            f"{node}: the kernel ({release}) has neither WireGuard nor tun devices (module tun, "
            "/dev/net/tun), which wireguard-go needs. Load the module, or give the container the "
            "device"
        )


def _is_there(have: Peer, want: Peer) -> bool:
    return not want.endpoints or bool(set(have.endpoints) & set(want.endpoints))


def unit(device: str) -> str:
    """Return the name of the unit, without its type, of a device's process."""
    return f"podnet-wireguard-{device}"


def if_any(device: str) -> str:
    """Return a pattern for systemctl(1) that fits this unit alone: none there is no error."""
    return f"{unit(device)}.servic[e]"


def commands(lines: Sequence[str]) -> list[list[str]]:
    """Return the commands for lines of the tool wg: some hundred peers take one."""
    found: list[list[str]] = []
    count = 0
    for line in lines:
        verb, device, *words = line.split(" ")
        joins = words[0] == "peer" and count < _AT_ONCE
        if joins and found and found[-1][1:4] == [verb, device, "peer"]:
            found[-1] += words
            count += 1
        else:
            found.append(["wg", verb, device, *words])
            count = 1
    return found

"""VXLAN devices: their options and FDB, as the kernel has them and as commands set them."""

from __future__ import annotations

import re
from typing import Any, Collection, Mapping, NamedTuple, Sequence

from ...core import schema
from ...core.errors import PodnetError
from ...core.state import Change, DeviceKey, Link
from ..base import DeviceKind, Entries, HostTools, Needs

#: flannel's names for its VXLAN devices, IPv4 and IPv6.
FLANNELS = re.compile(r"flannel(-v6)?\.[0-9]+\Z")

#: The variable that names the device.
VARIABLE = "podnet_vxlan_device"


#: The device feature that lets somebody below fill in inner checksums (ethtool(8)).
TX_CHECKSUM = "tx-checksum-ip-generic"


class Options(NamedTuple):
    """The options of a VXLAN device; `local` is "" for none.

    `tx_checksum` is on or off for the feature TX_CHECKSUM; "" if it is not known of a device that
    is there, or if one that is wanted may have either.
    """

    vni: int
    port: int
    local: str
    learning: bool = False
    tx_checksum: str = ""

    def words(self) -> str:
        """Return those that ip-link(8) knows, in its words."""
        local = f" local {self.local}" if self.local else ""
        return f"id {self.vni} dstport {self.port}{local} {'' if self.learning else 'no'}learning"

    def text(self) -> str:
        """Return all."""
        feature = f" {TX_CHECKSUM} {self.tx_checksum}" if self.tx_checksum else ""
        return self.words() + feature

    @classmethod
    def read(cls, text: str) -> Options:
        """Return what `text` made the text of."""
        known, _name, feature = text.partition(f" {TX_CHECKSUM} ")
        words = known.split(" ")
        local = words[5] if len(words) > 6 else ""
        return cls(int(words[1]), int(words[3]), local, words[-1] == "learning", feature)


class VxlanDevice(DeviceKind):
    """A VTEP; its entries are the FDB: MAC -> the remote VTEP's address.

    " via DEVICE" follows the address where the plan names an interface. An entry that another tool
    made may have several remotes, with commas between them.
    """

    has_mac = True
    entries = "fdb"
    title = "VXLAN device"
    entry_title = "FDB entry"
    variable = VARIABLE
    beside = "podnet_vxlan_vni or podnet_vxlan_port"
    show = r"""bridge fdb show dev "$device" | sed -n "s/\(.* dst .*\)/fdb $device \1/p"
    features | while read -r one value; do
      [ "$one" != "$device" ] || ethtool -k "$one" | sed -n "s/^@FEATURE: \([onf]*\).*/$one \1/p"
    done""".replace("@FEATURE", TX_CHECKSUM)
    boot_file = "fdb.batch"
    # Comments of fdb.batch are for ethtool, which reads no batch.
    replay = r"""[ ! -s fdb.batch ] || named fdb.batch | bridge -force -batch - || status=1
  features | while read -r device value; do
    ethtool -K "$device" @FEATURE "$value" >/dev/null || exit 1
  done || status=1""".replace("@FEATURE", TX_CHECKSUM)
    functions = r"""features() {
  [ ! -s fdb.batch ] || sed -n "s/^# @FEATURE //p" fdb.batch
}
""".replace("@FEATURE", TX_CHECKSUM)

    def plain_options(self, options: str) -> dict[str, Any]:
        """Return vni, port, local, learning and tx_checksum (on, off, or "" for not known)."""
        return Options.read(options)._asdict()

    def plain_entry(self, key: DeviceKey, entry: str) -> dict[str, str]:
        """Return dev, lladdr and dst."""
        return {"dev": key[0], "lladdr": key[1], "dst": entry}

    def check(self, data: Mapping[str, Any]) -> None:
        """Check id, port and local."""
        for key in ("id", "port"):
            schema.number(data, key)
        for key in ("local", "local6"):
            schema.address(data, key)

    def options(self, data: Mapping[str, Any]) -> str:
        """Return `id VNI dstport PORT [local ADDRESS] [no]learning`."""
        local = data.get("local") or data.get("local6") or ""
        learning = bool(data.get("learning", False))
        return Options(data.get("id", 0), data.get("port", 0), local, learning).text()

    def source(self, options: str) -> str:
        """Return `local`."""
        return Options.read(options).local

    def own_options(self, device: str, tools: HostTools) -> str:
        """Return TX_CHECKSUM, "" where there is no ethtool."""
        try:
            said = tools.output(["ethtool", "-k", device], "") or ""
        except PodnetError:
            return ""
        found = re.search(rf"^\s*{TX_CHECKSUM}: (on|off)\b", said, re.MULTILINE)
        return f"{TX_CHECKSUM} {found[1]}" if found else ""

    def words(self, options: str) -> str:
        """Return the words that ip-link(8) knows."""
        return Options.read(options).words()

    def shown(self, options: str) -> str:
        """Return the same: what ethtool sets has a line of its own."""
        return self.words(options)

    def tools(self, options: str) -> Sequence[str]:
        """Return what sets TX_CHECKSUM."""
        return ("ethtool",) if Options.read(options).tx_checksum else ()

    def set_options(self, name: str, have: str, want: Link) -> list[Change]:
        """Return the change of TX_CHECKSUM."""
        # A new device has it on.
        old = Options.read(have).tx_checksum if have else "on"
        new = Options.read(want.options).tx_checksum
        if new in ("", old):
            return []
        text = f"device {name} {TX_CHECKSUM} "
        command = f"ethtool -K {name} {TX_CHECKSUM} {new}"
        return [Change("command", (command,), text + old if have and old else "", text + new)]

    def is_same(self, one: str, other: str) -> bool:
        """Whether only `local` differs: ip-link(8) takes no other option again but id."""
        have, want = Options.read(one), Options.read(other)
        return (
            have._replace(local="", tx_checksum="") == want._replace(local="", tx_checksum="")
            # The kernel refuses to change the family of `local` (vxlan_nl2conf in vxlan_core.c),
            # and ip-link(8) has no word that unsets it.
            and (":" in have.local) == (":" in want.local)
            and (want.local != "" or have.local == "")
        )

    def update(self, name: str, have: str, want: str) -> list[str]:
        """Return the line that changes `local`."""
        options = Options.read(want)
        if Options.read(have).words() == options.words():
            return []
        return [f"link set dev {name} type vxlan id {options.vni} local {options.local}"]

    def read(self, device: str, tools: HostTools) -> Entries:
        """Return the permanent FDB entries that have a remote."""
        result: Entries = {}
        for one in tools.read_json(["bridge", "-j", "fdb", "show", "dev", device], check_entry):
            if "dst" in one and one.get("state") == "permanent":
                key = device, one["mac"]
                remote = str(one["dst"])
                if "viaIf" in one:
                    remote += f" via {one['viaIf']}"
                result[key] = f"{result[key]},{remote}" if key in result else remote
        return result

    def remote(self, entry: str) -> str:
        """Return the remote VTEP's address."""
        return entry.partition(" via ")[0]

    def envelope(self, options: str) -> str:
        """Return the UDP port and the VNI."""
        own = Options.read(options)
        return f"UDP port {own.port}, VNI {own.vni}"

    def entry(self, key: DeviceKey, old: str, new: str) -> Change:
        """Return the change of an FDB entry."""
        device, mac = key
        text = f"fdb {mac} dev {device} dst "
        gone = old.split(",") if old else []
        first, *more = new.split(",") if new else [""]
        # An entry with several remotes, which a rollback may have to bring back, can neither be
        # replaced nor made in one go (bridge(8)).
        lines = [f"fdb del {mac} dev {device} dst {one} self" for one in gone[bool(first) :]]
        if first:
            lines.append(f"fdb replace {mac} dev {device} dst {first} self permanent")
        lines += [f"fdb append {mac} dev {device} dst {one} self permanent" for one in more]
        return Change("bridge", tuple(lines), text + old if old else "", text + new if new else "")

    def is_flannels(self, name: str) -> bool:
        """Whether it is called as flannel calls its own."""
        return FLANNELS.match(name) is not None

    def adoption_problem(self, name: str, link: Mapping[str, Any]) -> str:
        """Demand that it does not learn, which cannot be changed by podnet without a gap."""
        data = link.get("linkinfo", {}).get("info_data", {})
        if not data.get("learning"):
            return ""
        return (
            f"{name} learns addresses, which podnet's does not. Turn it off, which loses "
            f"nothing: ip link set {name} type vxlan id {data.get('id')} nolearning"
        )

    def boot_text(self, links: Mapping[str, Link], entries: Entries) -> str:
        """Return the lines for `bridge -batch`; features are comments in it."""
        lines = [
            f"# {TX_CHECKSUM} {name} {feature}\n"
            for name, link in sorted(links.items())
            for feature in [Options.read(link.options).tx_checksum]
            if feature
        ]
        lines += [
            f"fdb replace {mac} dev {device} dst {remote.split(',')[0]} self permanent\n"
            for (device, mac), remote in sorted(entries.items())
        ]
        return "".join(lines)

    def needs(self, link: Link) -> Needs:
        """Return the UDP port, which VXLAN devices of one mode share."""
        options = Options.read(link.options)
        return Needs(
            options.port,
            6 if ":" in options.local else 4,
            "vxlan",
            "link add podnet-try type vxlan id 1 dstport 1",
        )

    def lacking(self, node: str, release: str) -> str:
        """Return which package may hold the module."""
        return (
            f"{node}: the kernel ({release}) has no VXLAN (module vxlan). Install the "
            "package with the kernel's further modules (linux-modules-extra-..., "
            "kernel-modules-extra), or set podnet_backend to host-gw"
        )

    def port_problems(
        self,
        node: str,
        wanted: Link,
        holder: str,
        links: Sequence[Mapping[str, Any]],
        ours: Collection[str],
    ) -> list[str]:
        """Return who else has the port; VXLAN devices share one only in the same mode.

        vxlan_find_sock and vxlan_vni_in_use in drivers/net/vxlan/vxlan_core.c.
        """
        found = []
        vni, port, *_others = Options.read(wanted.options)
        on_port = [one for one in vteps(links) if one.port == port]
        for one in on_port:
            if one.name in ours:
                continue
            if one.mode and one.up:
                found.append(
                    f"{node}: {one.name} on the host holds UDP port {port} in another mode "
                    f"({one.mode}), so no other VXLAN device can be brought up there. Set "
                    f"podnet_vxlan_port to another number, or remove the device if nothing needs "
                    f"it (ip link del {one.name})"
                )
            elif not one.mode and one.vni == vni:
                found.append(
                    f"{node}: {one.name} on the host uses VNI {vni} and port {port} "
                    "already. Set podnet_vxlan_vni or podnet_vxlan_port to another number"
                )
        if holder and not any(one.up for one in on_port):
            found.append(
                f"{node}: UDP port {port} is in use by {holder}, and VXLAN needs it. "
                "Set podnet_vxlan_port to another number, or stop what uses it"
            )
        return found


class Vtep(NamedTuple):
    """A VXLAN device of the host.

    `mode` is "", or the flag (external, gbp, gpe) that keeps devices without it off its UDP port.
    """

    name: str
    vni: int
    port: int
    mode: str
    up: bool


def vteps(links: Sequence[Mapping[str, Any]]) -> list[Vtep]:
    """Return the VXLAN devices among `links`, all devices of a host."""
    found = []
    for link in links:
        info = link.get("linkinfo", {})
        if info.get("info_kind") == "vxlan":
            data = info.get("info_data", {})
            mode = next((key for key in ("external", "gbp", "gpe") if data.get(key)), "")
            name, up = str(link["ifname"]), "UP" in link.get("flags", ())
            found.append(Vtep(name, data.get("id", 0), data.get("port", 0), mode, up))
    return found


def check_entry(entry: Any) -> None:
    """Check an entry of `bridge fdb`; raise ValueError."""
    schema.demand(isinstance(entry, dict), "entry", entry)
    schema.word(entry, "mac", required=True)
    schema.address(entry, "dst")
    schema.word(entry, "viaIf")
    schema.text(entry, "state")

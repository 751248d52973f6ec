"""Put a host exactly into the state that flannel leaves: its commands, word for word."""

from __future__ import annotations

import json
import re
from typing import Any, Protocol

PLUGINS = "/usr/lib/cni"
CIDR, CIDR6 = "10.244.0.0/16", "fd00:244::/48"
MACS = {0: "3e:6b:9c:01:22:a0", 1: "7a:10:4f:be:03:51", 2: "c6:00:d1:7e:98:0c"}

#: Subnets as flannel gives them with etcd: any free one.
SUBNETS = {0: "10.244.25", 1: "10.244.3", 2: "10.244.77"}

#: With dual stack flannel has a second device, with a MAC of its own.
SUBNETS6 = {0: "fd00:244:0:19", 1: "fd00:244:0:3", 2: "fd00:244:0:4d"}
MACS6 = {0: "ae:22:5b:70:11:09", 1: "5e:9f:34:c8:20:7b", 2: "96:0d:4c:e1:8a:36"}

CONFLIST = {
    "name": "cbr0",
    "cniVersion": "0.3.1",
    "plugins": [
        {"type": "flannel", "delegate": {"hairpinMode": True, "isDefaultGateway": True}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}


class Host(Protocol):
    """A host of either kind: of namespaces alone, or of the lab."""

    def run(self, *command: str) -> str:
        """Run a command there; return what it prints."""
        ...


def run_flannel(
    host: Host,
    number: int,
    count: int,
    backend: str,
    rules: str,
    *,
    underlay: str = "eth0",
    addresses: dict[int, tuple[str, str]] | None = None,
    six: bool = False,
) -> None:
    """What a flanneld did on host `number` of `count`; `rules`: iptables-nft, -legacy or nft.

    `addresses` are the hosts' own, IPv4 and IPv6; `six` means dual stack.
    """
    ends = addresses or {
        one: (f"192.0.2.{11 + one}", f"fd00:2::{11 + one}") for one in range(count)
    }
    subnet, subnet6 = SUBNETS[number], SUBNETS6[number]
    mtu = 1450 if backend == "vxlan" else 1500
    if backend == "vxlan":
        sh(
            host,
            f"ip link add flannel.1 address {MACS[number]} mtu {mtu} "
            f"type vxlan id 1 dev {underlay} local {ends[number][0]} dstport 8472 nolearning",
            "sysctl -qw net.ipv6.conf.flannel/1.accept_ra=0",
            f"ip addr add {subnet}.0/32 dev flannel.1",
            "ip link set flannel.1 up",
        )
    if backend == "vxlan" and six:
        sh(
            host,
            # The kernel allows no more over IPv6.
            f"ip link add flannel-v6.1 address {MACS6[number]} mtu 1430 "
            f"type vxlan id 1 dev {underlay} local {ends[number][1]} dstport 8472 nolearning",
            "sysctl -qw net.ipv6.conf.flannel-v6/1.accept_ra=0",
            f"ip addr add {subnet6}::/128 dev flannel-v6.1 nodad",
            "ip link set flannel-v6.1 up",
        )
    for other in range(count):
        if other != number:
            add_peer(host, other, backend, end=ends[other], underlay=underlay, six=six)
    if rules == "nft":
        host.run("nft", _nft(subnet, subnet6 if six else ""))
    else:
        _iptables(host, f"{subnet}.0/24", CIDR, rules)
        if six:
            _iptables(host, f"{subnet6}::/64", CIDR6, rules.replace("ip", "ip6", 1))
    environment = f"FLANNEL_NETWORK={CIDR}\nFLANNEL_SUBNET={subnet}.1/24\n"
    if six:
        environment += f"FLANNEL_IPV6_NETWORK={CIDR6}\nFLANNEL_IPV6_SUBNET={subnet6}::1/64\n"
    environment += f"FLANNEL_MTU={mtu}\nFLANNEL_IPMASQ=true\n"
    write(host, "/run/flannel/subnet.env", environment)
    write(host, "/etc/cni/net.d/10-flannel.conflist", json.dumps(CONFLIST))


def add_peer(
    host: Host, other: int, backend: str, *, end: tuple[str, str], underlay: str, six: bool
) -> None:
    """Program one peer as flanneld does; `end` are the peer's own addresses."""
    vtep, vtep6 = f"{SUBNETS[other]}.0", f"{SUBNETS6[other]}::"
    if backend == "host-gw":
        lines = [f"ip route add {vtep}/24 via {end[0]} dev {underlay}"]
        lines += [f"ip -6 route add {vtep6}/64 via {end[1]} dev {underlay}"] * six
        sh(host, *lines)
        return
    sh(
        host,
        f"ip neigh replace {vtep} lladdr {MACS[other]} dev flannel.1 nud permanent",
        f"bridge fdb replace {MACS[other]} dev flannel.1 self dst {end[0]} permanent",
        f"ip route replace {vtep}/24 via {vtep} dev flannel.1 onlink",
    )
    if six:
        sh(
            host,
            f"ip neigh replace {vtep6} lladdr {MACS6[other]} dev flannel-v6.1 nud permanent",
            f"bridge fdb replace {MACS6[other]} dev flannel-v6.1 self dst {end[1]} permanent",
            f"ip route replace {vtep6}/64 via {vtep6} dev flannel-v6.1 metric 1024 onlink",
        )


def _nft(subnet: str, subnet6: str) -> str:
    return "\n".join(
        [
            _nft_table("ip", "flannel-ipv4", f"{subnet}.0/24", CIDR, "224.0.0.0/4"),
            _nft_table("ip6", "flannel-ipv6", f"{subnet6}::/64", CIDR6, "ff00::/8")
            if subnet6
            else "table ip6 flannel-ipv6 { chain postrtg { type nat hook postrouting "
            "priority srcnat; policy accept; }; }",
        ]
    )


def _nft_table(family: str, table: str, pods: str, cidr: str, multicast: str) -> str:
    return f"""
table {family} {table} {{
  chain postrtg {{
    type nat hook postrouting priority srcnat; policy accept;
    meta mark 0x4000 return
    {family} saddr {pods} {family} daddr {cidr} return
    {family} saddr {cidr} {family} daddr {pods} return
    {family} saddr != {pods} {family} daddr {cidr} return
    {family} saddr {cidr} {family} daddr != {multicast} masquerade fully-random
    {family} saddr != {cidr} {family} daddr {cidr} masquerade fully-random
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    {family} saddr {cidr} accept
    {family} daddr {cidr} accept
  }}
}}"""


def _iptables(host: Host, pods: str, cidr: str, tool: str) -> None:
    multicast = "ff00::/8" if ":" in cidr else "224.0.0.0/4"
    for table, chain, entry, rules in (
        (
            "nat",
            "FLANNEL-POSTRTG",
            "POSTROUTING",
            [
                "-m mark --mark 0x4000/0x4000 {c} -j RETURN",
                f"-s {pods} -d {cidr} {{c}} -j RETURN",
                f"-s {cidr} -d {pods} {{c}} -j RETURN",
                f"! -s {cidr} -d {pods} {{c}} -j RETURN",
                f"-s {cidr} ! -d {multicast} {{c}} -j MASQUERADE --random-fully",
                f"! -s {cidr} -d {cidr} {{c}} -j MASQUERADE --random-fully",
            ],
        ),
        (
            "filter",
            "FLANNEL-FWD",
            "FORWARD",
            [f"-s {cidr} {{c}} -j ACCEPT", f"-d {cidr} {{c}} -j ACCEPT"],
        ),
    ):
        comment = (
            '-m comment --comment "flanneld ' + ("masq" if table == "nat" else "forward") + '"'
        )
        sh(
            host,
            f"{tool} -t {table} -N {chain}",
            f"{tool} -t {table} -A {entry} {comment} -j {chain}",
            *(f"{tool} -t {table} -A {chain} {rule.format(c=comment)}" for rule in rules),
        )


def delegated(number: int, backend: str, six: bool = False) -> dict[str, Any]:
    """Return what the flannel plugin hands to `bridge` and `host-local`, as a list of plugins."""
    ranges = [[{"subnet": f"{SUBNETS[number]}.0/24"}]]
    ranges += [[{"subnet": f"{SUBNETS6[number]}::/64"}]] * six
    return {
        "cniVersion": "0.3.1",
        "name": "cbr0",
        "plugins": [
            {
                "type": "bridge",
                "hairpinMode": True,
                "isDefaultGateway": True,
                "isGateway": True,
                "ipMasq": False,
                "mtu": 1450 if backend == "vxlan" else 1500,
                "ipam": {
                    "type": "host-local",
                    "ranges": ranges,
                    "routes": [{"dst": CIDR}, *[{"dst": CIDR6}] * six],
                },
            }
        ],
    }


def add_pod(host: Host, number: int, backend: str, six: bool = False) -> None:
    """Attach a pod as the flannel plugin does, with its note about it."""
    whole = delegated(number, backend, six)
    config = {"cniVersion": whole["cniVersion"], "name": whole["name"], **whole["plugins"][0]}
    write(host, "/var/lib/cni/flannel/pod", json.dumps(config))
    host.run("ip", "netns", "add", "pod")
    _call(host, "ADD", config)


def remove_pod(host: Host, network: str) -> None:
    """What a runtime does with the configuration of today."""
    config = {
        "cniVersion": "0.3.1",
        "name": network,
        "type": "bridge",
        "bridge": "cni0",
        "ipam": {"type": "host-local", "ranges": [[{"subnet": CIDR}]]},
    }
    _call(host, "DEL", config)
    host.run("ip", "netns", "del", "pod")


def _call(host: Host, command: str, config: dict[str, Any]) -> None:
    write(host, "/tmp-conf.json", json.dumps(config), directory="/run")
    host.run(
        "sh",
        "-ec",
        f"CNI_COMMAND={command} CNI_CONTAINERID=pod CNI_NETNS=/run/netns/pod CNI_IFNAME=eth0 "
        f"CNI_PATH={PLUGINS} {PLUGINS}/bridge </run/tmp-conf.json; rm /run/tmp-conf.json",
    )


def write(host: Host, path: str, text: str, directory: str = "") -> None:
    target = directory + path
    host.run("sh", "-ec", 'mkdir -p "$(dirname "$1")"; printf %s "$2" >"$1"', "sh", target, text)


def sh(host: Host, *commands: str) -> None:
    host.run("sh", "-ec", "\n".join(commands))


def left(host: Host, underlay: str = "eth0") -> str:
    """Return whatever on the host still says flannel, but for the device's name."""
    text = "\n".join(
        [
            host.run("nft", "list", "ruleset"),
            host.run("iptables-legacy-save"),
            host.run("ip6tables-legacy-save"),
            host.run("ip", "route", "show", "proto", "boot"),
            host.run("ip", "-6", "route", "show", "proto", "boot"),
            host.run("sh", "-c", "ip -br link show type vxlan | grep -v '^flannel.1 '; true"),
            host.run(
                "sh",
                "-c",
                "ls -d /run/flannel /var/lib/cni/flannel /var/lib/cni/networks/cbr0 /etc/cni/net.d/*flannel* 2>/dev/null; true",
            ),
            host.run("bridge", "fdb", "show", "dev", underlay),
        ]
    )
    return "\n".join(
        line
        for line in text.splitlines()
        if re.search("flannel|cbr0|10\\.244\\.", line, re.IGNORECASE)
        # podnet's rules, by their comments.
        and not re.search(r"\[[0-9a-f]{8}\]", line)
    )

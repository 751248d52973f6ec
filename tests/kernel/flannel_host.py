"""Put a host exactly into the state that flannel leaves: its commands, word for word."""

from __future__ import annotations

import json
import re

from tests.kernel.netns_hosts import PLUGINS, Host

CIDR = "10.244.0.0/16"
MACS = {0: "3e:6b:9c:01:22:a0", 1: "7a:10:4f:be:03:51", 2: "c6:00:d1:7e:98:0c"}

#: Subnets as flannel gives them with etcd: any free one.
SUBNETS = {0: "10.244.25", 1: "10.244.3", 2: "10.244.77"}

CONFLIST = {
    "name": "cbr0",
    "cniVersion": "0.3.1",
    "plugins": [
        {"type": "flannel", "delegate": {"hairpinMode": True, "isDefaultGateway": True}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}


def address(number: int) -> str:
    return f"192.0.2.{11 + number}"


def run_flannel(host: Host, number: int, count: int, backend: str, rules: str) -> None:
    """What a flanneld did on host `number` of `count`; `rules`: iptables-nft, -legacy or nft."""
    subnet = SUBNETS[number]
    mtu = 1450 if backend == "vxlan" else 1500
    if backend == "vxlan":
        sh(
            host,
            f"ip link add flannel.1 address {MACS[number]} mtu {mtu} "
            f"type vxlan id 1 dev eth0 local {address(number)} dstport 8472 nolearning",
            "sysctl -qw net.ipv6.conf.flannel/1.accept_ra=0",
            f"ip addr add {subnet}.0/32 dev flannel.1",
            "ip link set flannel.1 up",
        )
    for other in range(count):
        if other != number:
            add_peer(host, other, backend)
    if rules == "nft":
        host.run("nft", _nft(subnet))
    else:
        _iptables(host, subnet, rules)
    environment = (
        f"FLANNEL_NETWORK={CIDR}\nFLANNEL_SUBNET={subnet}.1/24\n"
        f"FLANNEL_MTU={mtu}\nFLANNEL_IPMASQ=true\n"
    )
    write(host, "/run/flannel/subnet.env", environment)
    write(host, "/etc/cni/net.d/10-flannel.conflist", json.dumps(CONFLIST))


def add_peer(host: Host, other: int, backend: str) -> None:
    vtep = f"{SUBNETS[other]}.0"
    if backend == "host-gw":
        host.ip(f"route add {vtep}/24 via {address(other)} dev eth0")
        return
    sh(
        host,
        f"ip neigh replace {vtep} lladdr {MACS[other]} dev flannel.1 nud permanent",
        f"bridge fdb replace {MACS[other]} dev flannel.1 self dst {address(other)} permanent",
        f"ip route replace {vtep}/24 via {vtep} dev flannel.1 onlink",
    )


def _nft(subnet: str) -> str:
    pods = f"{subnet}.0/24"
    return f"""
table ip flannel-ipv4 {{
  chain postrtg {{
    type nat hook postrouting priority srcnat; policy accept;
    meta mark 0x4000 return
    ip saddr {pods} ip daddr {CIDR} return
    ip saddr {CIDR} ip daddr {pods} return
    ip saddr != {pods} ip daddr {CIDR} return
    ip saddr {CIDR} ip daddr != 224.0.0.0/4 masquerade fully-random
    ip saddr != {CIDR} ip daddr {CIDR} masquerade fully-random
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    ip saddr {CIDR} accept
    ip daddr {CIDR} accept
  }}
}}
table ip6 flannel-ipv6 {{
  chain postrtg {{ type nat hook postrouting priority srcnat; policy accept; }}
}}"""


def _iptables(host: Host, subnet: str, tool: str) -> None:
    pods = f"{subnet}.0/24"
    for table, chain, entry, rules in (
        (
            "nat",
            "FLANNEL-POSTRTG",
            "POSTROUTING",
            [
                "-m mark --mark 0x4000/0x4000 {c} -j RETURN",
                f"-s {pods} -d {CIDR} {{c}} -j RETURN",
                f"-s {CIDR} -d {pods} {{c}} -j RETURN",
                f"! -s {CIDR} -d {pods} {{c}} -j RETURN",
                f"-s {CIDR} ! -d 224.0.0.0/4 {{c}} -j MASQUERADE --random-fully",
                f"! -s {CIDR} -d {CIDR} {{c}} -j MASQUERADE --random-fully",
            ],
        ),
        (
            "filter",
            "FLANNEL-FWD",
            "FORWARD",
            [f"-s {CIDR} {{c}} -j ACCEPT", f"-d {CIDR} {{c}} -j ACCEPT"],
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


def add_pod(host: Host, number: int, backend: str) -> None:
    """Attach a pod with what the flannel plugin hands to `bridge` and `host-local`."""
    config = {
        "cniVersion": "0.3.1",
        "name": "cbr0",
        "type": "bridge",
        "hairpinMode": True,
        "isDefaultGateway": True,
        "isGateway": True,
        "ipMasq": False,
        "mtu": 1450 if backend == "vxlan" else 1500,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": f"{SUBNETS[number]}.0/24"}]],
            "routes": [{"dst": CIDR}],
        },
    }
    write(host, "/tmp-conf.json", json.dumps(config), directory="/run")
    write(host, "/var/lib/cni/flannel/pod", json.dumps(config))
    host.ip("netns add pod")
    host.run(
        "sh",
        "-ec",
        "CNI_COMMAND=ADD CNI_CONTAINERID=pod CNI_NETNS=/run/netns/pod CNI_IFNAME=eth0 "
        f"CNI_PATH={PLUGINS} {PLUGINS}/bridge </run/tmp-conf.json; rm /run/tmp-conf.json",
    )


def remove_pod(host: Host, network: str) -> None:
    """What a runtime does with the configuration of today."""
    config = {
        "cniVersion": "0.3.1",
        "name": network,
        "type": "bridge",
        "bridge": "cni0",
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/16"}]]},
    }
    write(host, "/tmp-conf.json", json.dumps(config), directory="/run")
    host.run(
        "sh",
        "-ec",
        "CNI_COMMAND=DEL CNI_CONTAINERID=pod CNI_NETNS=/run/netns/pod CNI_IFNAME=eth0 "
        f"CNI_PATH={PLUGINS} {PLUGINS}/bridge </run/tmp-conf.json; rm /run/tmp-conf.json",
    )
    host.ip("netns del pod")


def write(host: Host, path: str, text: str, directory: str = "") -> None:
    target = directory + path
    host.run("sh", "-ec", 'mkdir -p "$(dirname "$1")"; printf %s "$2" >"$1"', "sh", target, text)


def sh(host: Host, *commands: str) -> None:
    host.run("sh", "-ec", "\n".join(commands))


def left(host: Host) -> str:
    """Return whatever on the host still says flannel, but for the device's name."""
    text = "\n".join(
        [
            host.run("nft", "list", "ruleset"),
            host.run("iptables-legacy-save"),
            host.run("ip", "route", "show", "proto", "boot"),
            host.run(
                "sh",
                "-c",
                "ls -d /run/flannel /var/lib/cni/flannel /var/lib/cni/networks/cbr0 /etc/cni/net.d/*flannel* 2>/dev/null; true",
            ),
            host.run("bridge", "fdb", "show", "dev", "eth0"),
        ]
    )
    return "\n".join(
        line
        for line in text.splitlines()
        if re.search("flannel|cbr0|10\\.244\\.", line, re.IGNORECASE)
        # podnet's rules, by their comments.
        and not re.search(r"\[[0-9a-f]{8}\]", line)
    )

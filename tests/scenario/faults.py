"""Faults of a dual-stack vxlan network of three hosts, each with the hop and the words that name it:
molecule/trace breaks one after the other.
"""

from __future__ import annotations

from typing import NamedTuple

#: Pods of n1, n2 and n3: the endpoint `web` of each.
WEB = {
    4: {"n1": "10.244.0.254", "n2": "10.244.1.254", "n3": "10.244.2.254"},
    6: {f"n{one + 1}": f"fd00:10:244:{one}:ffff:ffff:ffff:ffff" for one in range(3)},
}
#: The lab's router, which is no node.
ENDS = {"outside": "192.0.2.1", "node": "192.0.2.12"}
OUTSIDE = {4: "192.0.2.1", 6: "2001:db8:1::1"}

VTEP = "flannel.1"
#: What repairs a host by itself, without a controller.
REPLAY = "sh /etc/podnet/replay podnet"
_MADE = "ip link add flannel.1 address 02:00:0a:f4:01:00 mtu 1450 type vxlan {} local 192.0.2.12"


class Fault(NamedTuple):
    """A command that breaks the way from n1's pod, and what trace must say of it.

    `host` is where it is run and `mend` takes it back. `where` is the host, `key` the hop, `words`
    a part of its fault. `end` is the host whose pod is asked, or one of ENDS.
    """

    host: str
    command: str
    mend: str
    where: str
    key: str
    words: str
    end: str = "n2"
    family: int = 4


_CHAIN = "add table inet t; add chain inet t c {{ type filter hook {} priority 0; policy {}; }}"

FAULTS: dict[str, Fault] = {
    "a route is deleted": Fault(
        "n1", "ip route del 10.244.1.0/24", "{replay}", "n1", "route", "10.244.1.0/24 is missing"
    ),
    "a route leads to another node": Fault(
        "n1",
        f"ip route replace 10.244.1.0/24 via 10.244.2.0 dev {VTEP} onlink proto 112",
        "{replay}",
        "n1",
        "route",
        "via 10.244.2.0 (n3) dev flannel.1, and not via 10.244.1.0 (n2)",
    ),
    "a narrower route": Fault(
        "n1",
        "ip route add 10.244.1.128/25 via 192.0.2.13",
        "ip route del 10.244.1.128/25",
        "n1",
        "route",
        "a narrower route than the plan's takes it: 10.244.1.128/25",
    ),
    "a blackhole": Fault(
        "n1",
        "ip route add blackhole 10.244.1.254/32",
        "ip route del blackhole 10.244.1.254/32",
        "n1",
        "route",
        "10.244.1.254/32 type blackhole",
    ),
    "the way back is missing": Fault(
        "n2", "ip route del 10.244.0.0/24", "{replay}", "n2", "route", "10.244.0.0/24 is missing"
    ),
    "the guard does not know the node": Fault(
        "n2",
        "nft delete element inet podnet nodes4 '{ 192.0.2.11 }'",
        "{replay}",
        "n2",
        "guard",
        "drops what comes from 192.0.2.11 (n1)",
    ),
    "a neighbour is missing": Fault(
        "n1",
        f"ip neigh del 10.244.1.0 dev {VTEP}",
        "{replay}",
        "n1",
        "neighbour",
        "does not know the MAC of 10.244.1.0 (n2)",
    ),
    "a neighbour is wrong": Fault(
        "n1",
        f"ip neigh replace 10.244.1.0 lladdr 02:00:00:00:00:09 dev {VTEP} nud permanent",
        "{replay}",
        "n1",
        "neighbour",
        "at 02:00:00:00:00:09 on flannel.1, and the plan says 02:00:0a:f4:01:00",
    ),
    "an FDB entry is missing": Fault(
        "n1",
        f"bridge fdb del 02:00:0a:f4:01:00 dev {VTEP} self",
        "{replay}",
        "n1",
        "entry",
        "flannel.1 has no FDB entry for it",
    ),
    "an FDB entry is wrong": Fault(
        "n1",
        f"bridge fdb replace 02:00:0a:f4:01:00 dev {VTEP} dst 192.0.2.13 self permanent",
        "{replay}",
        "n1",
        "entry",
        "sends to 192.0.2.13 (n3), and the plan wants 192.0.2.12 (n2)",
    ),
    "the FDB entry of the way back is wrong": Fault(
        "n2",
        f"bridge fdb replace 02:00:0a:f4:00:00 dev {VTEP} dst 192.0.2.77 self permanent",
        "{replay}",
        "n2",
        "entry",
        "sends to 192.0.2.77, and the plan wants 192.0.2.11 (n1)",
    ),
    "the VXLAN device is down": Fault(
        "n1", f"ip link set {VTEP} down", "{replay}", "n1", "device", "flannel.1 is down"
    ),
    "the VXLAN device is gone": Fault(
        "n2", f"ip link del {VTEP}", "{replay}", "n2", "device", "flannel.1 does not exist"
    ),
    "another VNI": Fault(
        "n2",
        f"ip link del {VTEP}; {_MADE.format('id 7 dstport 8472 nolearning')}; "
        f"ip link set {VTEP} up",
        f"ip link del {VTEP}; {{replay}}",
        "n2",
        "device",
        "flannel.1 has id 7 dstport 8472",
    ),
    "another port": Fault(
        "n2",
        f"ip link del {VTEP}; {_MADE.format('id 1 dstport 4789 nolearning')}; "
        f"ip link set {VTEP} up",
        f"ip link del {VTEP}; {{replay}}",
        "n2",
        "device",
        "flannel.1 has id 1 dstport 4789",
    ),
    "the bridge does not forward": Fault(
        "n1",
        "sysctl -qw net.ipv4.conf.cni0.forwarding=0",
        "sysctl -qw net.ipv4.conf.cni0.forwarding=1",
        "n1",
        "forwarding",
        "net.ipv4.conf.cni0.forwarding=0",
    ),
    "the VXLAN device does not forward": Fault(
        "n2",
        "sysctl -qw net.ipv4.conf.flannel/1.forwarding=0",
        "sysctl -qw net.ipv4.conf.flannel/1.forwarding=1",
        "n2",
        "forwarding",
        "net.ipv4.conf.flannel/1.forwarding=0",
    ),
    "IPv6 is not forwarded": Fault(
        "n2",
        "sysctl -qw net.ipv6.conf.all.forwarding=0",
        "sysctl -qw net.ipv6.conf.all.forwarding=1",
        "n2",
        "forwarding",
        "net.ipv6.conf.all.forwarding=0",
        family=6,
    ),
    "a strict reverse path filter": Fault(
        "n2",
        "sysctl -qw net.ipv4.conf.flannel/1.rp_filter=1; "
        "ip route replace 10.244.0.0/24 via 192.0.2.11 dev host0 proto 112",
        "sysctl -qw net.ipv4.conf.flannel/1.rp_filter=0; ip route replace 10.244.0.0/24 "
        f"via 10.244.0.0 dev {VTEP} onlink proto 112",
        "n2",
        "reverse path",
        "comes in by flannel.1, and the kernel would answer 10.244.0.254 by host0",
    ),
    "a forward chain of nft drops": Fault(
        "n2",
        f"nft '{_CHAIN.format('forward', 'drop')}'",
        "nft delete table inet t",
        "n2",
        "firewall",
        "nft table inet t, chain c drops it: its policy",
    ),
    "a forward chain of nft drops on the way out": Fault(
        "n1",
        f"nft '{_CHAIN.format('forward', 'accept')}; "
        "add rule inet t c ip daddr 10.244.1.0/24 drop'",
        "nft delete table inet t",
        "n1",
        "firewall",
        "nft table inet t, chain c drops it",
    ),
    "FORWARD of iptables drops": Fault(
        "n1",
        "iptables -P FORWARD DROP",
        "iptables -P FORWARD ACCEPT",
        "n1",
        "firewall",
        "FORWARD drops it: its policy",
    ),
    "FORWARD of iptables drops IPv6": Fault(
        "n2",
        "ip6tables -I FORWARD -s fd00:10:244::/48 -j REJECT",
        "ip6tables -D FORWARD -s fd00:10:244::/48 -j REJECT",
        "n2",
        "firewall",
        "FORWARD drops it: -A FORWARD -s fd00:10:244::/48 -j REJECT",
        family=6,
    ),
    "the input chain has no place for VXLAN": Fault(
        "n2",
        f"nft '{_CHAIN.format('input', 'drop')}; add rule inet t c tcp dport 22 accept; "
        "add rule inet t c udp dport 53 accept; add rule inet t c meta l4proto icmp accept'",
        "nft delete table inet t",
        "n2",
        "input",
        "drops what comes in for flannel.1: nft table inet t, chain c drops it: its policy",
    ),
    "INPUT of iptables drops VXLAN": Fault(
        "n2",
        "iptables -I INPUT -p udp --dport 8472 -j DROP",
        "iptables -D INPUT -p udp --dport 8472 -j DROP",
        "n2",
        "input",
        "--dport 8472 -j DROP",
    ),
    "the input chain of a node drops what pods send to it": Fault(
        "n2",
        f"nft '{_CHAIN.format('input', 'accept')}; add rule inet t c ip saddr 192.0.2.11 drop'",
        "nft delete table inet t",
        "n2",
        "firewall",
        "nft table inet t, chain c drops it",
        end="node",
    ),
    "a policy rule": Fault(
        "n1",
        "ip rule add pref 100 from 10.244.0.0/16 lookup 100; "
        "ip route add default via 192.0.2.1 table 100",
        "ip rule del pref 100; ip route flush table 100",
        "n1",
        "rules",
        'the policy rule "100: from 10.244.0.0/16 lookup 100" takes it',
    ),
    "the underlay's MTU is too small": Fault(
        "n1",
        "ip link set host0 mtu 1400",
        "ip link set host0 mtu 1500",
        "n1",
        "outer",
        "1450 + 50 = 1500 bytes at most, and host0 carries 1400 on the way to n2",
    ),
    "the pod's default route is gone": Fault(
        "n1",
        "ip -n web route del default",
        "ip -n web route add default via 10.244.0.1 proto 112",
        "n1",
        "pod route",
        "the pod has no route to 10.244.1.254",
    ),
    "the answering pod's default route is gone": Fault(
        "n2",
        "ip -n web -6 route del default",
        "ip -n web -6 route add default via fd00:10:244:1::1 proto 112",
        "n2",
        "pod route",
        "the pod has no route to fd00:10:244:0:ffff:ffff:ffff:ffff",
        family=6,
    ),
    "the pod's link is down": Fault(
        "n2",
        "ip -n web link set eth0 down",
        "ip -n web link set eth0 up; {replay}",
        "n2",
        "pod",
        "in the pod, eth0 is down",
    ),
    "the veth pair's end is down": Fault(
        "n2", "ip link set ep-web down", "ip link set ep-web up", "n2", "veth", "ep-web is down"
    ),
    "the veth pair's end is on no bridge": Fault(
        "n2",
        "ip link set ep-web nomaster",
        # The host itself has answered the pod meanwhile, with another MAC.
        "ip link set ep-web master cni0; ip -n web neigh flush dev eth0",
        "n2",
        "veth",
        "ep-web is on no bridge",
    ),
    "the host has another MAC of the pod": Fault(
        "n2",
        "ip neigh replace 10.244.1.254 lladdr 02:00:00:00:00:09 dev cni0 nud permanent",
        "ip neigh del 10.244.1.254 dev cni0",
        "n2",
        "neighbour",
        "10.244.1.254 is at 02:00:00:00:00:09 for the host",
    ),
    "the pod has another MAC of its gateway": Fault(
        "n1",
        "ip -n web neigh replace 10.244.0.1 lladdr 02:00:00:00:00:09 dev eth0 nud permanent",
        "ip -n web neigh del 10.244.0.1 dev eth0",
        "n1",
        "pod neighbour",
        "the pod sends to 02:00:00:00:00:09, and cni0 has 0a:00:0a:f4:00:00",
    ),
    "the masquerade is missing": Fault(
        "n1",
        "nft delete table inet podnet",
        "{replay}",
        "n1",
        "masquerade",
        "nothing gives it the address of n1",
        end="outside",
    ),
    "the bridge is down": Fault(
        "n2", "ip link set cni0 down", "{replay}", "n2", "bridge", "cni0 is down"
    ),
    "the bridge has no address": Fault(
        "n2",
        "ip addr del 10.244.1.1/24 dev cni0",
        "{replay}",
        "n2",
        "bridge",
        "cni0 has no address 10.244.1.1",
    ),
    "IPv6 is off on the VXLAN device": Fault(
        "n1",
        "sysctl -qw net.ipv6.conf.flannel/1.disable_ipv6=1",
        "sysctl -qw net.ipv6.conf.flannel/1.disable_ipv6=0; {replay}",
        "n1",
        "device",
        "IPv6 is off on flannel.1",
        family=6,
    ),
    "another MAC at the other node's address": Fault(
        "n1",
        "ip neigh replace 192.0.2.12 lladdr 02:00:00:00:00:09 dev host0 nud permanent",
        "ip neigh del 192.0.2.12 dev host0",
        "n1",
        "underlay",
        "192.0.2.12 is at 02:00:00:00:00:09 on host0, and n2 has ",
    ),
    "the other node has lost its address": Fault(
        "n2",
        "ip link set host0 down",
        "ip link set host0 up; "
        "until ip -6 addr show dev host0 -tentative | grep -q 2001:; do sleep 0.2; done; "
        "until ip route show default | grep -q .; do sleep 0.2; done; {replay}",
        "n2",
        "address",
        "podnet_node_ip 192.0.2.12 is on no interface of the host",
    ),
}

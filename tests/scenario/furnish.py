"""Put things of other people's on a lab's hosts, and record the state that reset must restore.

python -m tests.scenario.furnish LAB
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

from lab import Lab

from .cluster import record_file, take

#: Near relatives of what podnet makes: what it must neither touch nor remove. MACs are given, so that
#: a host that was furnished again after a reboot is the same.
_IP = """\
link add br-other address 02:99:00:00:00:04 type bridge mcast_snooping 0
link set br-other addrgenmode none
link set br-other up
address add 203.0.113.129/25 dev br-other
link add vx-other address 02:99:00:00:00:05 type vxlan id 999 dstport 4999 local {address} nolearning
link set vx-other addrgenmode none
link set vx-other up
route add 203.0.113.64/26 via {router} dev host0
route add 198.18.7.0/24 via {router} dev host0 protocol 113
route add 198.18.8.0/24 via {router} dev host0 protocol 112 table 77
neighbour add 203.0.113.200 lladdr 02:99:00:00:00:01 dev br-other nud permanent
neighbour add {free} lladdr 02:99:00:00:00:02 dev host0 nud permanent
"""

_BRIDGE = "fdb add 02:99:00:00:00:03 dev vx-other dst {router}\n"

_NFT = """\
table ip other {
  set addresses { type ipv4_addr; elements = { 203.0.113.130 } }
  chain postrouting {
    type nat hook postrouting priority 100;
    ip saddr @addresses ip daddr 203.0.113.7 masquerade
  }
  chain forward {
    type filter hook forward priority 0;
    ip saddr 203.0.113.66 drop;
  }
}
table inet podnetlike {
  chain forward { type filter hook forward priority 10; }
}
"""

_FILES = {
    "/etc/cni/net.d/99-other.conflist": '{"cniVersion": "0.4.0", "name": "other", "plugins": []}\n',
    "/etc/sysctl.d/50-other.conf": "# somebody else's\n",
}


def furnish(lab: Lab, name: str) -> None:
    """Furnish one host."""
    host = lab.hosts[name]
    words = {
        "address": host.address,
        "router": host.segment.router,
        "free": str(host.segment.network[5]),
    }
    lab.run(name, ["ip", "-batch", "-"], stdin=_IP.format(**words))
    lab.run(name, ["bridge", "-batch", "-"], stdin=_BRIDGE.format(**words))
    lab.run(name, ["nft", "-f", "-"], stdin=_NFT)
    for path, text in _FILES.items():
        lab.run(name, ["install", "-D", "-m", "0644", "/dev/stdin", path], stdin=text)


def main() -> int:
    """Furnish the hosts of the lab that is named; record their state."""
    lab = Lab(sys.argv[1])
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: furnish(lab, name), lab.hosts))
    record_file(lab).write_text(json.dumps(take(lab)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Networks that are made up, as report.yml sees them: of 3, 50 and 500 hosts."""

from __future__ import annotations

from typing import Any

from podnet.plan import plan_run
from podnet.report.data import data

MOMENT = 1_700_000_000

#: Names of hosts and messages that would break out of a page that does not escape them.
HOSTILE = "</script><script>alert(1)</script>\"'<b>&amp;{{ 7*7 }}]]>\x07"


def plan(tmp_path: Any, hosts: int, **variables: Any) -> dict[str, Any]:
    """Return what podnet_plan returns for so many hosts, in segments of 125."""
    inventory = [
        {
            "name": f"n{number}",
            "podnet_node_ip": f"192.168.{number // 125}.{number % 125 + 1}/24",
            "podnet_allocations_file": str(tmp_path / "podnet_allocations.yml"),
            **variables,
        }
        for number in range(1, hosts + 1)
    ]
    if hosts > 256:
        inventory = [{**one, "podnet_cluster_cidr": "10.128.0.0/12"} for one in inventory]
    file = str(tmp_path / "podnet_allocations.yml")
    return plan_run.run(inventory, file, [], write=False)


def look(pending: int = 0, **more: Any) -> dict[str, Any]:
    """Return what podnet_info returns."""
    return {
        "pending": {"network": pending, "cni": 0, "endpoints": 0, "total": pending, "mtu": 1450},
        "state": {
            "links": {"flannel.1": {"kind": "vxlan", "mtu": 1450, "up": True}},
            "routes": {"10.244.1.0/24": "via 10.244.1.0 dev flannel.1 onlink"},
            "neighbours": [
                {"dev": "flannel.1", "address": "10.244.1.0", "lladdr": "02:00:00:00:00:01"}
            ],
            "record": {"podnet_version": "0.9.0"},
        },
        "cni": {
            "path": "/etc/cni/net.d/10-podnet.conflist",
            "first": "/etc/cni/net.d/10-podnet.conflist",
            "others": [],
            "aside": [],
            "addresses": {"ipv4": {"size": 253, "used": 12, "free": 241}},
        },
        "warnings": [],
        **more,
    }


def network(
    tmp_path: Any,
    hosts: int,
    broken: tuple[tuple[int, int], ...] = (),
    *,
    gone: tuple[int, ...] = (),
    drifted: tuple[int, ...] = (),
    what: str = "TCP: no reply; UDP and ICMP pass",
    traces: tuple[dict[str, Any], ...] = (),
    before: dict[str, Any] | None = None,
    moment: int = MOMENT,
    **variables: Any,
) -> dict[str, Any]:
    """Return the report's data; hosts are given by their numbers, `broken` are ways."""
    names = [f"n{number}" for number in range(1, hosts + 1)]
    looked: dict[str, Any] = {name: look() for name in names}
    made: dict[str, Any] = {}
    probed: dict[str, Any] = {}
    for number, name in enumerate(names, 1):
        made[name] = {
            "pod": {
                "address": f"10.244.{number % 256}.5",
                "address6": "",
                "mtu": 1450,
                "udp": 1,
                "tcp": 2,
            }
        }
        failures = [
            {
                "kind": kind,
                "node": f"n{node}",
                "family": 4,
                "address": f"10.244.{node % 256}.5",
                "word": "no-tcp",
                "what": what,
            }
            for source, node in broken
            if source == number
            for kind in ("pod", "host")
        ]
        peers = [one for one in names if one != name and int(one[1:]) not in gone]
        probed[name] = {
            "asked": 10 * len(peers),
            "answered": 10 * len(peers) - len(failures),
            "failures": failures,
            "notes": [],
            "outside": [],
            "peers": peers,
        }
    for number in gone:
        looked[f"n{number}"] = {"unreachable": True, "msg": "Failed to connect to the host via ssh"}
        made[f"n{number}"] = probed[f"n{number}"] = None
    for number in drifted:
        looked[f"n{number}"] = look(3, warnings=["the chain ufw-forward drops pods' packets"])
    return data(
        plan(tmp_path, hosts, **variables),
        looked,
        made,
        probed,
        moment=moment,
        before=before,
        traces=traces,
    )

"""Look at one packet's way over this host: ask a few probes, read, judge. Nothing is changed."""

from __future__ import annotations

from typing import Any, Mapping

from ..core.model import Plan
from ..kernel import run
from ..kernel import trace as edge
from ..kernel.find_pod import find_pod
from ..probe import icmp
from ..state.desire import own_node
from ..trace.judge import legs


def find(plan: Plan, name: str, family: int, which: str) -> dict[str, Any]:
    """Return the pod of this host that `which` names (a namespace, an address, "" for any)."""
    run.demand_root()
    return find_pod(plan, own_node(plan, name), family, which)._asdict()


def look(
    plan: Plan, name: str, local: str, remote: str, role: str, *, any_pod: bool = False
) -> dict[str, Any]:
    """Return ``{facts, out, in}``: what was read, and the hops from and to the pod `local`.

    `any_pod`: nobody has named that address; if no pod has it, it stands for one.
    """
    run.demand_root()
    node = own_node(plan, name)
    family = 6 if ":" in remote else 4
    pod = find_pod(plan, node, family, local)
    names = [plan.bridge, pod.host_end]
    # Probes come first: they fill the neighbour tables that are read then.
    first = edge.read(plan, node, pod, remote, role)
    names += [first["carrier"], first["outer"]["device"]]
    before = edge.counters(names)
    probes = _probe(first)
    if any(one["from"] == "host" and not one["ok"] for one in probes):
        # Only when the kernel has asked for its MAC again it is known whether the node is there.
        edge.settle(str(first["outer"]["device"]), _next_node(first))
    facts = edge.read(plan, node, pod, remote, role)
    after = edge.counters(names)
    facts["probes"], facts["any_pod"] = probes, any_pod
    facts["dropped"] = {
        key: after[key] - before.get(key, 0) for key in after if after[key] > before.get(key, 0)
    }
    return {"facts": facts, **legs(plan, node, facts)}


def _probe(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Ask the other end from the pod, and the next node from the host, by ICMP echo."""
    asked: list[icmp.Probe] = []
    namespaces: dict[str, str] = {}
    pod = facts["pod"]
    if pod["namespace"]:
        namespaces["pod"] = pod["namespace"]
        mtu = int((pod["link"] or {}).get("mtu", 0))
        sizes = [icmp.SMALL] + ([mtu] if mtu > icmp.SMALL else [])
        asked += [icmp.Probe("pod", facts["remote"], size) for size in sizes]
    hop = _next_node(facts)
    if hop and not hop.startswith("fe80"):
        namespaces["host"] = ""
        asked.append(icmp.Probe("host", hop))
    answers = icmp.run(asked, namespaces) if asked else []
    return [
        {
            "from": one.source,
            "to": one.address,
            "size": one.size,
            "ok": answer.ok,
            "error": answer.error,
            "router": answer.router,
        }
        for one, answer in zip(asked, answers)
    ]


def _next_node(facts: Mapping[str, Any]) -> str:
    """Return the address on the underlay to which the packet goes next, "" for none."""
    outer = facts["outer"]
    if outer["kind"]:
        return str(outer["remote"] or outer["planned_remote"])
    return str((facts["out"]["answer"] or {}).get("gateway", ""))

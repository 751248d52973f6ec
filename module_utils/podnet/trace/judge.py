"""Judge what was read on one host: the hops of both directions, in the packet's order."""

from __future__ import annotations

from typing import Any, Mapping

from ..core.model import Node, Plan, is_inside
from ..core.plain_view import view_from_plain
from ..state import bridge_netfilter
from ..state.planned_way import wanted
from . import filters, pod, routing, wrapping
from .hop import Hop, Scene


def leave(scene: Scene) -> list[Hop]:
    """Return the hops from the pod to the underlay, or to another pod of this host."""
    bridge = scene.plan.bridge
    scene.add(pod.pod(scene, False), pod.route(scene), pod.gateway_mac(scene), pod.veth(scene))
    scene.add(pod.bridge(scene) if scene.is_inside else None)
    if scene.same_node and not scene.to_host:
        if bridge_netfilter.is_on(scene.facts["sysctls"], scene.family):
            scene.add(filters.passed(scene, "out"))
        return scene.hops
    if not scene.is_own:
        scene.add(routing.reverse_path(scene, bridge, scene.local, "out"))
        if not scene.to_host:
            scene.add(routing.forwards(scene, bridge))
    scene.add(routing.rules(scene, "out"), routing.route_out(scene), filters.passed(scene, "out"))
    if not scene.to_host:
        scene.add(
            filters.masquerade(scene) if scene.is_inside else None,
            wrapping.device(scene, scene.carrier),
            wrapping.neighbour(scene),
            wrapping.entry(scene),
            wrapping.outer(scene),
            filters.outer_out(scene),
            wrapping.underlay(scene),
        )
    return scene.hops


def arrive(scene: Scene) -> list[Hop]:
    """Return the hops from the underlay, or from another pod of this host, to the pod."""
    carrier = scene.carrier
    if not scene.same_node:
        if not scene.to_host:
            scene.add(
                wrapping.own_address(scene),
                filters.guard(scene),
                filters.outer_in(scene),
                wrapping.device(scene, carrier),
                wrapping.source(scene),
                routing.reverse_path(scene, carrier, scene.remote, "in"),
            )
            if not scene.is_own:
                scene.add(routing.forwards(scene, carrier))
        scene.add(routing.rules(scene, "in"), routing.route_in(scene), filters.passed(scene, "in"))
    scene.add(pod.bridge(scene) if scene.is_inside else None)
    if not scene.same_node:
        scene.add(pod.known_mac(scene))
    scene.add(pod.fdb(scene), pod.veth(scene), pod.pod(scene, True))
    return scene.hops


def legs(plan: Plan, node: Node, facts: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return ``{out, in}``: the hops of packets from the pod, and of those to it."""
    view = view_from_plain(facts["view"]) if facts["view"] else None
    final = wanted(plan, node, view)
    peer = owner(plan, str(facts["remote"]))
    found = {}
    for key, judged in (("out", leave), ("in", arrive)):
        hops = judged(Scene(plan, node, final, facts, peer))
        found[key] = [
            {name: value for name, value in one._asdict().items() if value} for one in hops
        ]
    return found


def owner(plan: Plan, address: str) -> Node | None:
    """Return the node in whose subnet an address is, None for none."""
    single = f"{address}/{128 if ':' in address else 32}"
    for node in plan.nodes.values():
        for subnet in (node.subnet, node.subnet6):
            if subnet and is_inside(single, subnet):
                return node
    return None

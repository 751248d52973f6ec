"""The way of a packet from the underlay into a pod, or from another pod of the same host."""

from __future__ import annotations

from ..backends.registry import KINDS
from . import parts
from .hop import Hop, Scene, is_up, neighbour_text, state_of


def arrive(scene: Scene) -> list[Hop]:
    """Return the hops from the underlay to the pod."""
    if not scene.same_node:
        _through_the_host(scene)
    scene.add(parts.bridge(scene))
    if not scene.same_node:
        scene.add(neighbour(scene))
    scene.add(fdb(scene), parts.veth(scene), pod(scene))
    return scene.hops


def _through_the_host(scene: Scene) -> None:
    carrier = scene.carrier
    wrapped = scene.final.links.get(carrier)
    if wrapped is not None and wrapped.kind in KINDS:
        kind = KINDS[wrapped.kind]
        needs = kind.needs(wrapped)
        scene.add(
            parts.firewall(
                scene,
                "input",
                "input",
                f"do the input chains let the outer packets in (UDP port {needs.port})?",
                f"a firewall drops what comes in for {carrier}",
                f"accept UDP port {needs.port} from the nodes in that chain",
            ),
            parts.device(scene, carrier),
            source(scene),
        )
    scene.add(
        parts.reverse_path(scene, carrier, scene.remote, "in"),
        parts.forwards(scene, carrier),
        parts.rules(scene, "in"),
        route(scene),
        parts.firewall(
            scene,
            "firewall",
            "in",
            f"do the host's chains let it from {carrier} to {scene.plan.bridge}?",
            "a firewall drops pods' packets",
            f"{scene.repair()} puts podnet's accept rules into chains that drop by policy "
            "(podnet_manage_forward); a rule that means pods is for you to remove",
        ),
    )


def source(scene: Scene) -> Hop | None:
    """Judge whether the device takes packets of that sender from that peer."""
    outer = scene.facts["outer"]
    if not outer["kind"] or not KINDS[outer["kind"]].checks_source:
        return None
    kind = KINDS[outer["kind"]]
    question = f"does {scene.carrier} take packets of {scene.remote} from that {kind.entry_title}?"
    want = outer["planned"][0] if outer["planned"] else ""
    if outer["key"] == want:
        return Hop("entry", question, f"yes: {outer['key']} has {outer['entry'].split(' ')[0]}")
    fault = f"{scene.carrier} takes {scene.remote} from {outer['key'] or 'nobody'} only, and it comes from {want}"
    return Hop("entry", question, outer["key"] or "none", want, fault, scene.repair(), "device")


def route(scene: Scene) -> Hop:
    """Judge the route that leads to the pod."""
    found = scene.facts["in"]
    bridge = scene.plan.bridge
    if found is None:
        fault = f"by no device packets from {scene.remote} could come in"
        return Hop("route", "which route leads to the pod?", "not asked", "", fault, scene.repair(), "device")
    question = f"which route leads to the pod? ({found['asked']})"
    answer = found["answer"]
    plan = f"{scene.subnet} dev {bridge}"
    if answer is None:
        because = "bridge"
        why = f"the kernel has no route to {scene.local} ({found['error']})"
        if "cross-device" in found["error"]:
            because = "reverse path"
        elif scene.family == 4 and _word(scene, scene.carrier) == "0":
            because = "forwarding"
        elif scene.link(scene.carrier) is None:
            because = "device"
        elif scene.facts["rules"]["in"]:
            because = "rules"
        return Hop("route", question, found["error"], plan, why, scene.repair(), because)
    said = found["entry"] or str(answer)
    said += f", table {found['table']}" if found["table"] else ""
    if str(answer.get("type", "unicast")) == "local":
        return Hop("route", question, f"{said}: an address of {scene.node.name} itself")
    device = str(answer.get("dev", ""))
    if device == bridge:
        return Hop("route", question, said)
    fault = f"it is sent by {device} ({found['entry']}), and pods are behind {bridge}"
    because = "rules" if found["table"] else "bridge"
    cidr = found["entry"].split(" ", 1)[0]
    mend = scene.repair()
    if not found["table"] and cidr != "default" and int(cidr.partition("/")[2] or 0) > int(
        scene.subnet.partition("/")[2] or 0
    ):
        mend = scene.on_host(f"ip -{scene.family} route del {cidr} dev {device}")
    return Hop("route", question, said, plan, fault, mend, because)


def _word(scene: Scene, device: str) -> str:
    return scene.sysctl(f"net.ipv4.conf.{device.replace('.', '/')}.forwarding")


def neighbour(scene: Scene) -> Hop | None:
    """Judge the pod's MAC as the host knows it."""
    if _is_local(scene):
        return None
    found = scene.facts["pod"]
    bridge = scene.plan.bridge
    told, mac, state = neighbour_text(scene.local, scene.facts["pod_neighbour"])
    want = str((found["link"] or {}).get("address", ""))
    question = f"which MAC has {scene.local} on {bridge}?"
    fault = mend = because = ""
    if not found["namespace"]:
        if "FAILED" in state:
            told += "; nobody has it"
    elif mac and want and mac != want:
        fault = f"{scene.local} is at {mac} for the host, and the pod has {want}"
        mend = scene.on_host(f"ip neigh del {scene.local} dev {bridge}")
    elif "FAILED" in state or "INCOMPLETE" in state:
        fault = f"the pod does not answer for {scene.local} ({state})"
        because, mend = "pod", "see the pod's device"
    return Hop("neighbour", question, told, want if fault else "", fault, mend, because)


def _is_local(scene: Scene) -> bool:
    answer = (scene.facts["in"] or {}).get("answer") or {}
    return str(answer.get("type", "unicast")) == "local"


def fdb(scene: Scene) -> Hop | None:
    """Judge the port behind which the bridge knows the pod's MAC."""
    pod_ = scene.facts["pod"]
    if not pod_["namespace"] or not pod_["host_end"]:
        return None
    mac = str((pod_["link"] or {}).get("address", ""))
    ports = [str(one.get("ifname", "")) for one in scene.facts["fdb"]]
    question = f"behind which port does {scene.plan.bridge} know {mac}?"
    answer = ", ".join(dict.fromkeys(ports)) or "not learned, so it is flooded to all ports"
    fault = mend = ""
    if ports and pod_["host_end"] not in ports:
        fault = f"{scene.plan.bridge} sends {mac} to {ports[0]}, and the pod is behind {pod_['host_end']}"
        mend = scene.on_host(f"bridge fdb del {mac} dev {ports[0]} master")
    return Hop("fdb", question, answer, pod_["host_end"] if fault else "", fault, mend)


def pod(scene: Scene) -> Hop:
    """Judge the pod at the end."""
    found = scene.facts["pod"]
    question = f"has a pod the address {scene.local}, and is its device up?"
    if _is_local(scene):
        return Hop("pod", question, f"{scene.local} is an address of {scene.node.name} itself")
    if not found["namespace"]:
        if scene.facts["role"] == "from":
            answer = f"no pod has it; {scene.local} stands for a pod of {scene.node.name}"
            return Hop("pod", question, answer)
        fault = f"no pod of {scene.node.name} has {scene.local}"
        mend = "name an address that a pod has, or HOST for any pod of a host"
        return Hop("pod", question, "no pod has it", "", fault, mend)
    name, link = found["device"], found["link"]
    answer = f"{found['namespace']}: {state_of(name, link)}"
    fault = mend = ""
    if not is_up(link):
        fault = f"in the pod, {state_of(name, link)}"
        mend = scene.on_host(f"nsenter --net={found['namespace']} ip link set {name} up")
    return Hop("pod", question, answer, "up" if fault else "", fault, mend)

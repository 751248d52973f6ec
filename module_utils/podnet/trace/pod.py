"""Hops of the pod itself: its device, its route, its veth pair, the bridge that it hangs on."""

from __future__ import annotations

from ..core import schema
from ..core.model import offset, split_cidr
from .hop import Hop, Scene, ipv6_off, is_off, is_up, neighbour_text, state_of


def pod_device(scene: Scene, question: str) -> Hop:
    """Judge the pod's own end of its veth pair."""
    found = scene.facts["pod"]
    name, link = found["device"], found["link"]
    answer = f"{found['namespace']}: {state_of(name, link)}"
    if is_up(link):
        return Hop("pod", question, answer)
    fault = f"in the pod, {state_of(name, link)}"
    mend = scene.on_host(f"nsenter --net={found['namespace']} ip link set {name} up")
    because = () if is_off(link) else ("veth",)
    return Hop("pod", question, answer, "up", fault, mend, because)


def _gateway(scene: Scene) -> str:
    """Return the bridge's address, which pods have as their gateway."""
    return offset(split_cidr(scene.subnet)[0], 1) if scene.subnet else ""


def route(scene: Scene) -> Hop | None:
    """Judge the route that the pod takes."""
    found = scene.facts["pod"]
    if not found["namespace"]:
        return None
    question = f"in the pod, which route leads to {scene.remote}?"
    gateway = _gateway(scene)
    plan = (
        f"on-link dev {found['device']}"
        if scene.same_node
        else f"via {gateway} dev {found['device']}"
    )
    answer = found["answer"]
    namespace = found["namespace"]
    six = " -6" if scene.family == 6 else ""
    default = f"nsenter --net={namespace} ip{six} route add default via {gateway}"
    mend = scene.on_host(default)
    if answer is None:
        fault = f"the pod has no route to {scene.remote} ({found['error']})"
        return Hop("pod route", question, found["error"], plan, fault, mend, ("pod",))
    via = str(answer.get("gateway", ""))
    said = found["entry"] or f"{'via ' + via + ' ' if via else 'on-link '}dev {answer.get('dev')}"
    fault = note = ""
    if str(answer.get("dev")) != found["device"]:
        note = f"it leaves by {answer.get('dev')}, another device of the pod: not followed further"
    elif via != ("" if scene.same_node else gateway):
        fault = f"the pod sends to {via or 'the address itself'}, and its gateway is {gateway}"
    return Hop(
        "pod route", question, said, plan if fault else "", fault, mend if fault else "", note=note
    )


def gateway_mac(scene: Scene) -> Hop | None:
    """Judge the MAC to which the pod sends."""
    found = scene.facts["pod"]
    if not found["namespace"] or not found["answer"]:
        return None
    via = str(found["answer"].get("gateway", "")) or scene.remote
    told, mac, state = neighbour_text(via, found["neighbour"])
    bridge = scene.link(scene.plan.bridge) or {}
    want = "" if scene.same_node else str(bridge.get("address", ""))
    fault = mend = ""
    because: tuple[str, ...] = ("veth", "pod", "bridge")
    remove = scene.on_host(
        f"nsenter --net={found['namespace']} ip neigh del {via} dev {found['device']}"
    )
    if "FAILED" in state or "INCOMPLETE" in state:
        fault, mend = f"nobody answers the pod for {via} ({state})", scene.repair()
    elif mac and want and mac != want:
        fault = f"the pod sends to {mac}, and {scene.plan.bridge} has {want}"
        mend = remove
    question = f"in the pod, which MAC has {via}?"
    return Hop(
        "pod neighbour",
        question,
        told,
        f"{want} ({scene.plan.bridge})" if fault else "",
        fault,
        mend,
        because,
    )


def veth(scene: Scene) -> Hop | None:
    """Judge the host's end of the pod's veth pair, and the bridge port that it is."""
    pod = scene.facts["pod"]
    name = pod["host_end"]
    if not pod["namespace"]:
        return None
    question = "is the host's end of the pod's veth pair up, and a port of the bridge?"
    if not name:
        return Hop(
            "veth",
            question,
            "the pod's device is no veth whose other end is on this host",
            note="pods of podnet's CNI configuration have one; how it is attached is not judged",
        )
    link = scene.link(name)
    master = str((link or {}).get("master", ""))
    port = (scene.facts["ports"] or [{}])[0]
    state = str(port.get("state", ""))
    fault = mend = ""
    because: tuple[str, ...] = ()
    if not is_up(link):
        fault, mend = state_of(name, link), scene.on_host(f"ip link set {name} up")
        because = () if is_off(link) else ("pod",)
    elif master != scene.plan.bridge:
        where = f"a port of {master}" if master else "on no bridge"
        fault = f"{name} is {where}"
        mend = scene.on_host(f"ip link set {name} master {scene.plan.bridge}")
    elif state not in ("", "forwarding"):
        fault = f"{name} is {state}, not forwarding"
        mend = scene.on_host(f"bridge link set dev {name} state 3")
    answer = state_of(name, link)
    if link is not None:
        answer += f", {'port of ' + master if master else 'on no bridge'}"
        answer += f", {state}" if state else ""
    plan = f"port of {scene.plan.bridge}, forwarding" if fault else ""
    return Hop("veth", question, answer, plan, fault, mend, because)


def bridge(scene: Scene) -> Hop:
    """Judge the pods' bridge."""
    name = scene.plan.bridge
    link = scene.link(name)
    flags = link.get("flags", ()) if link else ()
    held = schema.held(link or {})
    wanted = [
        cidr.partition("/")[0]
        for device, cidr in scene.final.addresses
        if device == name and (":" in cidr) == (scene.family == 6)
    ]
    lost = [one for one in wanted if one not in held]
    fault = mend = ""
    off = ipv6_off(scene, name)
    if link is None:
        fault, mend = f"{name} does not exist", scene.repair()
    elif "UP" not in flags:
        fault, mend = (
            f"{name} is down",
            f"{scene.on_host(f'ip link set {name} up')}; then {scene.repair()}",
        )
    elif off:
        fault, mend = off
    elif lost:
        fault, mend = f"{name} has no address {lost[0]}, the pods' gateway", scene.repair()
    answer = state_of(name, link).replace(", but without a carrier", ", without an active port")
    if held:
        shown = [str(one) for one in held if one and (":" in one) == (scene.family == 6)]
        answer += f", with {', '.join(shown) or 'no address of this family'}"
    return Hop(
        "bridge", "is the pods' bridge up, with their gateway's address?", answer, "", fault, mend
    )


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
        fault = f"{scene.plan.bridge} sends {mac} to {ports[0]}, and it is at {pod_['host_end']}"
        mend = scene.on_host(f"bridge fdb del {mac} dev {ports[0]} master")
    return Hop("fdb", question, answer, pod_["host_end"] if fault else "", fault, mend)


def known_mac(scene: Scene) -> Hop | None:
    """Judge the pod's MAC as the host knows it."""
    if scene.is_own:
        return None
    found = scene.facts["pod"]
    bridge = scene.plan.bridge
    told, mac, state = neighbour_text(scene.local, scene.facts["pod_neighbour"])
    want = str((found["link"] or {}).get("address", ""))
    question = f"which MAC has {scene.local} on {bridge}?"
    fault = mend = ""
    because: tuple[str, ...] = ("veth", "pod", "bridge")
    if not found["namespace"]:
        if "FAILED" in state:
            told += "; nobody has it"
    elif mac and want and mac != want:
        fault = f"{scene.local} is at {mac} for the host, and the pod has {want}"
        mend = scene.on_host(f"ip neigh del {scene.local} dev {bridge}")
    elif "FAILED" in state or "INCOMPLETE" in state:
        fault = f"the pod does not answer for {scene.local} ({state})"
        mend = "see the pod's device"
    return Hop("neighbour", question, told, want if fault else "", fault, mend, because)


def pod(scene: Scene, is_end: bool) -> Hop:
    """Judge whether a pod has the address; `is_end`: the packet is on its way to it."""
    found = scene.facts["pod"]
    question = f"has a pod the address {scene.local}, and is its device up?"
    if scene.is_own:
        return Hop("pod", question, f"{scene.local} is an address of {scene.node.name} itself")
    if found["namespace"]:
        return pod_device(scene, question)
    if scene.facts["role"] == "from" or not is_end or scene.facts.get("any_pod"):
        answer = f"no pod has it; {scene.local} stands for a pod of {scene.node.name}"
        return Hop("pod", question, answer)
    fault = f"no pod of {scene.node.name} has {scene.local}"
    mend = "name an address that a pod has, or HOST for any pod of a host"
    return Hop("pod", question, "no pod has it", "", fault, mend)

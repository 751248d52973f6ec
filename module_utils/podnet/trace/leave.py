"""The way of a packet out of a pod and off its host, or to another pod of the same host."""

from __future__ import annotations

from ..backends.registry import BACKENDS, KINDS
from ..core.model import offset, split_cidr
from ..state.planned_way import PlannedRoute, planned_route
from . import parts
from .hop import Hop, Scene, is_up, neighbour_text, state_of


def leave(scene: Scene) -> list[Hop]:
    """Return the hops from the pod to the underlay."""
    scene.add(pod(scene), pod_route(scene), pod_neighbour(scene), parts.veth(scene))
    scene.add(parts.bridge(scene))
    if scene.same_node:
        return scene.hops
    bridge = scene.plan.bridge
    scene.add(
        parts.reverse_path(scene, bridge, scene.local, "out"),
        parts.forwards(scene, bridge),
        parts.rules(scene, "out"),
        route(scene),
        parts.firewall(
            scene,
            "firewall",
            "out",
            f"do the host's chains let it from {bridge} to {out_device(scene) or scene.carrier}?",
            "a firewall drops pods' packets",
            _accept(scene),
        ),
        masquerade(scene),
        parts.device(scene, scene.carrier),
        neighbour(scene),
        entry(scene),
        outer(scene),
    )
    if scene.facts["outer"]["kind"]:
        scene.add(
            parts.firewall(
                scene,
                "output",
                "output",
                "do the host's output chains let the outer packet go?",
                "a firewall drops the outer packets",
                "accept them there",
            )
        )
    scene.add(parts.underlay(scene))
    return scene.hops


def _accept(scene: Scene) -> str:
    return (
        f"{scene.repair()} puts podnet's accept rules into chains that drop by policy "
        f"(podnet_manage_forward); a rule that means pods is for you to remove"
    )


def out_device(scene: Scene) -> str:
    """Return the device by which the kernel would send, "" for none."""
    return str((scene.facts["out"]["answer"] or {}).get("dev", ""))


def pod(scene: Scene) -> Hop:
    """Judge the pod's own device."""
    found = scene.facts["pod"]
    question = f"has a pod the address {scene.local}, and is its device up?"
    if not found["namespace"]:
        answer = f"no pod has it; {scene.local} stands for a pod of {scene.node.name}"
        return Hop("pod", question, answer)
    link = found["link"]
    name = found["device"]
    answer = f"{found['namespace']}: {state_of(name, link)}"
    fault = mend = ""
    if not is_up(link):
        fault = f"in the pod, {state_of(name, link)}"
        mend = scene.on_host(f"nsenter --net={found['namespace']} ip link set {name} up")
    return Hop("pod", question, answer, "up" if fault else "", fault, mend)


def pod_gateway(scene: Scene) -> str:
    """Return the bridge's address, which pods have as their gateway."""
    return offset(split_cidr(scene.subnet)[0], 1) if scene.subnet else ""


def pod_route(scene: Scene) -> Hop | None:
    """Judge the route that the pod takes."""
    found = scene.facts["pod"]
    if not found["namespace"]:
        return None
    question = f"in the pod, which route leads to {scene.remote}?"
    gateway = pod_gateway(scene)
    plan = f"on-link dev {found['device']}" if scene.same_node else f"via {gateway} dev {found['device']}"
    answer = found["answer"]
    namespace = found["namespace"]
    default = f"nsenter --net={namespace} ip route add default via {gateway}"
    mend = scene.on_host(default.replace("ip route", "ip -6 route") if scene.family == 6 else default)
    if answer is None:
        fault = f"the pod has no route to {scene.remote} ({found['error']})"
        return Hop("pod route", question, found["error"], plan, fault, mend, "pod")
    via = str(answer.get("gateway", ""))
    said = found["entry"] or f"{'via ' + via + ' ' if via else 'on-link '}dev {answer.get('dev')}"
    fault = note = ""
    if str(answer.get("dev")) != found["device"]:
        note = f"it leaves by {answer.get('dev')}, another device of the pod: not followed further"
    elif via != ("" if scene.same_node else gateway):
        fault = f"the pod sends to {via or 'the address itself'}, and its gateway is {gateway}"
    return Hop("pod route", question, said, plan if fault else "", fault, mend if fault else "", note=note)


def pod_neighbour(scene: Scene) -> Hop | None:
    """Judge the MAC to which the pod sends."""
    found = scene.facts["pod"]
    if not found["namespace"] or not found["answer"]:
        return None
    via = str(found["answer"].get("gateway", "")) or scene.remote
    told, mac, state = neighbour_text(via, found["neighbour"])
    bridge = scene.link(scene.plan.bridge) or {}
    want = "" if scene.same_node else str(bridge.get("address", ""))
    fault = mend = because = ""
    remove = scene.on_host(f"nsenter --net={found['namespace']} ip neigh del {via} dev {found['device']}")
    if "FAILED" in state or "INCOMPLETE" in state:
        fault, mend, because = f"nobody answers the pod for {via} ({state})", scene.repair(), "bridge"
    elif mac and want and mac != want:
        fault = f"the pod sends to {mac}, and {scene.plan.bridge} has {want}"
        mend = remove
    question = f"in the pod, which MAC has {via}?"
    return Hop("pod neighbour", question, told, f"{want} ({scene.plan.bridge})" if fault else "", fault, mend, because)


def route(scene: Scene) -> Hop:
    """Judge the route that the host takes for the pod's packet."""
    found = scene.facts["out"]
    planned = planned_route(scene.final, scene.remote)
    question = f"which route does the host take? ({found['asked']})"
    answer = found["answer"]
    if scene.peer is None or not planned.device:
        return _route_outside(scene, question)
    if answer is None:
        return _no_route(scene, question, planned)
    said = found["entry"] or str(answer)
    said += f", table {found['table']}" if found["table"] else ""
    cidr = found["entry"].split(" ", 1)[0]
    via = str(answer.get("gateway") or answer.get("via", {}).get("host") or "")
    device = str(answer.get("dev", ""))
    if (via, device) == (planned.gateway, planned.device) and cidr == planned.destination:
        return Hop("route", question, f"{said}, as the plan wants")
    leads = f"{'via ' + via + scene.owner(via) + ' ' if via else ''}dev {device}"
    mend = scene.repair()
    if found["table"]:
        fault = f"a route of table {found['table']} takes it ({leads})"
        return Hop("route", question, said, planned.text, fault, mend, "rules")
    if cidr == planned.destination:
        fault = f"the route to {cidr} leads {leads}, and not {_leads(scene, planned)}"
    elif _length(cidr) > _length(planned.destination):
        fault = f"a narrower route than the plan's takes it: {found['entry']}"
        mend = scene.on_host(f"ip -{scene.family} route del {cidr} {leads_words(via, device)}")
    else:
        fault = (
            f"the route to {planned.destination} is missing, so {cidr} takes it ({leads})"
        )
    return Hop("route", question, said, planned.text, fault, mend, "device")


def leads_words(via: str, device: str) -> str:
    """Return the words of ip-route(8) that name a route's way."""
    return f"via {via} dev {device}" if via else f"dev {device}"


def _leads(scene: Scene, planned: PlannedRoute) -> str:
    who = scene.owner(planned.gateway) if planned.gateway else ""
    return f"{'via ' + planned.gateway + who + ' ' if planned.gateway else ''}dev {planned.device}"


def _no_route(scene: Scene, question: str, planned: PlannedRoute) -> Hop:
    """Say why the kernel has no answer: what its errors mean for a packet that is forwarded."""
    found = scene.facts["out"]
    because = "device"
    bridge = scene.plan.bridge
    why = f"the kernel has no route to {scene.remote} ({found['error']})"
    if "cross-device" in found["error"]:
        because = "reverse path"
        why = f"the reverse path filter on {bridge} drops it ({found['error']})"
    elif scene.family == 4 and scene.sysctl(f"net.ipv4.conf.{bridge}.forwarding") == "0":
        because = "forwarding"
    elif found["entry"] and planned.destination == found["entry"].split(" ", 1)[0]:
        why = f"the kernel refuses it ({found['error']}), by {found['entry']}"
    elif scene.facts["rules"]["out"]:
        because = "rules"
    return Hop("route", question, found["error"], planned.text, why, scene.repair(), because)


def _route_outside(scene: Scene, question: str) -> Hop:
    found = scene.facts["out"]
    answer = found["answer"]
    if answer is None:
        because = "reverse path" if "cross-device" in found["error"] else "forwarding"
        fault = f"the host has no route to {scene.remote} ({found['error']})"
        return Hop("route", question, found["error"], "", fault, "add a route to the host", because)
    said = found["entry"] or str(answer)
    said += f", table {found['table']}" if found["table"] else ""
    kind = str(answer.get("type", "unicast"))
    if kind == "local":
        said += ": an address of this host itself"
    return Hop("route", question, f"{said}; the plan has no route of its own there")


def _length(cidr: str) -> int:
    if cidr == "default":
        return 0
    return int(cidr.partition("/")[2] or 0)


def masquerade(scene: Scene) -> Hop:
    """Judge the masquerade: packets to the outside need the host's address, pods' keep theirs."""
    word = "ip" if scene.family == 4 else "ip6"
    wanted = [
        rule.text
        for chain in scene.final.tables.get(scene.plan.name, ())
        for rule in chain.rules
        if rule.text.startswith(f"{word} ")
    ]
    have = [one for one in scene.facts["masquerade"] if one.startswith(f"{word} ")]
    table = f"nft table inet {scene.plan.name}"
    inside = scene.peer is not None
    if inside:
        question = "does the packet keep the pod's address?"
        masquerades = [one for one in have if "masquerade" in one]
        fault = ""
        if masquerades and wanted and wanted[0] not in have:
            fault = f"{table} masquerades packets between pods: the rule {wanted[0]!r} is missing"
        answer = "yes: pod to pod is not masqueraded" if not fault else f"no: {masquerades[0]}"
        return Hop("masquerade", question, answer, wanted[0] if fault else "", fault, scene.repair() if fault else "")
    question = f"does it leave with the address of {scene.node.name}?"
    if not scene.plan.masquerade:
        return Hop("masquerade", question, "no: podnet_masquerade is false, so routers outside must know the pods")
    excluded = [cidr for cidr in scene.plan.masquerade_exclude if _holds(cidr, scene)]
    if excluded:
        return Hop("masquerade", question, f"no: podnet_masquerade_exclude has {excluded[0]}, so it keeps the pod's")
    lost = [one for one in wanted if one not in have]
    if lost:
        fault = f"nothing gives it the address of {scene.node.name}, so no answer finds the way back: {table} lacks {lost[-1]!r}"
        return Hop("masquerade", question, "; ".join(have) or f"no rule in {table}", "; ".join(wanted), fault, scene.repair())
    return Hop("masquerade", question, f"yes: {have[-1]}")


def _holds(cidr: str, scene: Scene) -> bool:
    from ..core.model import is_inside

    return is_inside(f"{scene.remote}/{scene.bits}", cidr)


def neighbour(scene: Scene) -> Hop | None:
    """Judge the neighbour on the backend's device, which stands for the other node."""
    device = out_device(scene)
    want_link = scene.final.links.get(device)
    if want_link is None or want_link.kind not in KINDS or not KINDS[want_link.kind].has_mac:
        return None
    answer = scene.facts["out"]["answer"] or {}
    via = str(answer.get("gateway", "")) or scene.remote
    told, mac, _state = neighbour_text(via, scene.facts["neighbour"])
    want = scene.final.neighbours.get((device, via), "")
    fault = ""
    if want and not mac:
        fault = f"{device} does not know the MAC of {via}{scene.owner(via)}, and nobody answers for it there"
    elif want and mac != want:
        fault = f"{via} is at {mac} on {device}, and the plan says {want}"
    plan = f"{via} at {want}, permanent" if fault else ""
    question = f"which MAC has {via}{scene.owner(via)} on {device}?"
    return Hop("neighbour", question, told, plan, fault, scene.repair() if fault else "")


def entry(scene: Scene) -> Hop | None:
    """Judge the entry that leads to the other node's address: where the outer packet goes."""
    outer_ = scene.facts["outer"]
    if not outer_["kind"]:
        return None
    kind = KINDS[outer_["kind"]]
    key, planned = outer_["key"], outer_["planned"]
    question = f"which {kind.entry_title} of {outer_device(scene)} takes it?"
    want = f"{planned[0]} -> {planned[1]}" if planned else "none"
    mend = scene.repair()
    if not key:
        fault = f"{outer_device(scene)} has no {kind.entry_title} for it, so it is dropped there"
        return Hop("entry", question, "none", want, fault if planned else "", mend, "neighbour")
    said = f"{key} -> {outer_['entry']}"
    session, alive = outer_["session"]
    said += f"; {session}" if session else ""
    fault = because = ""
    remote = kind.remote(outer_["entry"])
    if planned and key != planned[0]:
        fault = f"it goes by the {kind.entry_title} {key}, and the plan wants {planned[0]}"
        because = "neighbour"
    elif planned and not kind.is_alike(outer_["entry"], planned[1]):
        fault = (
            f"the {kind.entry_title} sends to {remote or 'nobody'}{scene.owner(remote)}, "
            f"and the plan wants {kind.remote(planned[1])}{scene.owner(kind.remote(planned[1]))}"
            if remote != kind.remote(planned[1])
            else f"the {kind.entry_title} is {outer_['entry']}, and the plan wants {planned[1]}"
        )
    elif not alive:
        who = scene.peer.name if scene.peer else "the peer"
        fault = f"{who} does not answer: {session}"
        mend = f"see the hops on {who} (its device, its port in input chains), and whether both have the other's key"
    return Hop("entry", question, said, want if fault else "", fault, mend if fault else "", because)


def outer_device(scene: Scene) -> str:
    """Return the device that wraps the packet."""
    return out_device(scene) or scene.carrier


def outer(scene: Scene) -> Hop | None:
    """Judge the outer header, and whether the wrapped packet fits."""
    found = scene.facts["outer"]
    link = scene.link(found["device"])
    if link is None or scene.peer is None:
        return None
    inner = int((scene.facts["pod"]["link"] or scene.link(scene.plan.bridge) or {}).get("mtu", 0))
    room = int(link.get("mtu", 0))
    lookup = found["lookup"] if found["kind"] else scene.facts["out"]
    for one in ((lookup or {}).get("answer") or {}).get("metrics", ()):
        if isinstance(one.get("mtu"), int):
            room = min(room, one["mtu"])
    overhead = 0
    said = "no outer header: the packet travels as the pod made it"
    if found["kind"]:
        kind = KINDS[found["kind"]]
        want = scene.final.links.get(scene.carrier)
        overhead = BACKENDS[scene.plan.backend].overhead(scene.plan)
        remote = found["remote"] or found["planned_remote"]
        said = f"{found['local']} -> {remote}, {kind.envelope(want.options) if want else '?'}"
    fits = f"{inner} + {overhead} = {inner + overhead} bytes at most"
    said += f"; {fits}, and {found['device']} carries {room}"
    fault = mend = ""
    if inner and inner + overhead > room:
        fault = (
            f"large packets do not fit: {fits}, and {found['device']} carries {room} on the way to "
            f"{scene.peer.name}. Small ones pass"
        )
        wider = f"ip link set {found['device']} mtu {inner + overhead}"
        mend = f"{scene.on_host(wider)}; or {scene.repair()}, which gives pods {room - overhead}"
    question = "how is it wrapped, and does it fit?"
    return Hop("outer", question, said, "", fault, mend, partial=bool(fault))

"""Hops of the backend's device: what a packet is wrapped in, and its way to the other node."""

from __future__ import annotations

from typing import Any, Mapping

from ..backends.registry import BACKENDS, KINDS
from ..core.state import Link
from .hop import Hop, Scene, ipv6_off, is_up, neighbour_text, state_of


def device(scene: Scene, name: str) -> Hop | None:
    """Judge the backend's device; None where packets go over the underlay's own."""
    want = scene.final.links.get(name)
    if want is None or want.kind not in KINDS:
        return None
    kind = KINDS[want.kind]
    link = scene.link(name)
    question = f"is the {kind.title} up, as the plan wants it?"
    plan = f"{name}: {kind.envelope(want.options)}, from {scene.outer_address(scene.node)}"
    if link is None:
        return Hop(
            "device",
            question,
            f"{name} does not exist",
            plan,
            f"{name} does not exist",
            scene.repair(),
        )
    have = options(link, want, scene)
    # A device has options, too, that the plan leaves as they are.
    differs = kind.differs(name, have, want)
    answer = f"{state_of(name, link)}, {have if differs else kind.envelope(have)}"
    fault = mend = ""
    off = ipv6_off(scene, name)
    if link.get("linkinfo", {}).get("info_kind") != want.kind:
        fault, mend = f"{name} is no {kind.title}", scene.repair()
    elif differs:
        fault = f"{name} has {have}, and the plan wants {want.options}"
        mend = scene.repair()
    elif "UP" not in link.get("flags", ()):
        fault = f"{name} is down, and the kernel has no routes over a device that is"
        mend = scene.repair()
    elif off:
        fault, mend = off
    elif want.mac and link.get("address") != want.mac:
        fault = f"{name} has the MAC {link.get('address')}, and peers send to {want.mac}"
        mend = scene.repair()
    note = ""
    if not fault and link.get("mtu") != want.mtu:
        note = f"its MTU is {link.get('mtu')}, and the plan wants {want.mtu}"
    return Hop("device", question, answer, plan if fault else "", fault, mend, note=note)


def options(link: Mapping[str, Any], want: Link, scene: Scene) -> str:
    """Return the options that a device has, in its kind's words."""
    kind = KINDS[want.kind]
    found = [kind.options(link.get("linkinfo", {}).get("info_data", {}))]
    found.append(str(scene.facts["own_options"].get(link.get("ifname"), "")))
    return " ".join(one for one in found if one)


def neighbour(scene: Scene) -> Hop | None:
    """Judge the neighbour on the backend's device, which stands for the other node."""
    device = scene.out_device
    want_link = scene.final.links.get(device)
    if want_link is None or want_link.kind not in KINDS or not KINDS[want_link.kind].has_mac:
        return None
    answer = scene.facts["out"]["answer"] or {}
    via = str(answer.get("gateway", "")) or scene.remote
    told, mac, _state = neighbour_text(via, scene.facts["neighbour"])
    want = scene.final.neighbours.get((device, via), "")
    fault = ""
    if want and not mac:
        fault = f"{device} does not know the MAC of {via}{scene.owner(via)}, and nobody tells it"
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
        return Hop("entry", question, "none", want, fault if planned else "", mend, ("neighbour",))
    said = f"{key} -> {outer_['entry']}"
    session, alive = outer_["session"]
    said += f"; {session}" if session else ""
    fault = ""
    because: tuple[str, ...] = ()
    remote = kind.remote(outer_["entry"])
    if planned and key != planned[0]:
        fault = f"it goes by the {kind.entry_title} {key}, and the plan wants {planned[0]}"
        because = ("neighbour",)
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
        mend = (
            f"see the hops on {who} (its device, its port in input chains), and whether each has "
            f"the other's key: ansible-playbook playbooks/site.yml"
        )
    return Hop(
        "entry", question, said, want if fault else "", fault, mend if fault else "", because
    )


def outer_device(scene: Scene) -> str:
    """Return the device that wraps the packet."""
    return scene.out_device or scene.carrier


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


def own_address(scene: Scene) -> Hop | None:
    """Judge whether the host has the address to which the other node sends."""
    question = "has this host the address that the other node sends to, and is its device up?"
    if scene.facts["view_error"]:
        # It says the way out itself.
        return Hop("address", question, "no", fault=scene.facts["view_error"])
    family = str(scene.plan.underlay if scene.facts["outer"]["kind"] else scene.family)
    found = scene.facts["view"]["underlay"].get(family)
    if scene.peer is None or not found:
        return None
    address, name = found[0], found[1]
    link = scene.link(name)
    if link is None:
        return Hop("address", question, f"{address} on {name}")
    answer = f"{address}; {state_of(name, link)}"
    fault = "" if is_up(link) else state_of(name, link)
    mend = scene.on_host(f"ip link set {name} up") if fault else ""
    return Hop("address", question, answer, "", fault, mend)


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
    fault = (
        f"{scene.carrier} takes {scene.remote} from {outer['key'] or 'nobody'} only, and it comes "
        f"from {want}"
    )
    return Hop("entry", question, outer["key"] or "none", want, fault, scene.repair(), ("device",))


def underlay(scene: Scene) -> Hop:
    """Judge the way over the nodes' own network: device, route, neighbour, room for the packet."""
    outer = scene.facts["outer"]
    wrapped = bool(outer["kind"])
    lookup = outer["lookup"] if wrapped else scene.facts["out"]
    answer = (lookup or {}).get("answer") or {}
    device_name = outer["device"]
    link = scene.link(device_name)
    address = outer["remote"] or outer["planned_remote"] if wrapped else ""
    gateway = str(answer.get("gateway") or answer.get("via", {}).get("host") or "")
    target = gateway or address or scene.remote
    question = f"how does this host reach {address or target}{scene.owner(address or target)}?"
    if scene.facts["view_error"]:
        # It says the way out itself.
        return Hop("underlay", question, "not known", fault=scene.facts["view_error"])
    if wrapped and not address:
        # The hop before this one says so where that is a fault.
        return Hop("underlay", "how does this host reach the peer?", "its address is not known")
    if not answer:
        error = (lookup or {}).get("error") or "no route"
        fault = f"no way to {address or target}{scene.owner(address or target)}: {error}"
        return Hop(
            "underlay",
            question,
            error,
            "a route",
            fault,
            "add a route to the node, or mend its interface",
        )
    told, _mac, state = neighbour_text(target, outer["neighbour"])
    how = f"via {gateway}" if gateway else "on-link"
    said = f"{how} dev {device_name}; {state_of(device_name, link)}; {told}"
    fault = mend = ""
    who = scene.owner(address or target) or scene.owner(target)
    if not is_up(link):
        fault = state_of(device_name, link)
        mend = scene.on_host(f"ip link set {device_name} up")
    elif "FAILED" in state or "INCOMPLETE" in state:
        fault = (
            f"nobody answers for {target}{who} on {device_name} ({state}): it is off, or cut off"
        )
        mend = f"bring {who.strip(' ()') or target} back to the segment of {device_name}"
    note = ""
    for one in scene.facts["probes"]:
        if one["from"] == "host" and one["to"] == target and not one["ok"] and not fault:
            note = f"{target} does not answer ping from this host ({one['error']})"
    return Hop("underlay", question, said, "", fault, mend, note=note)

"""Hops that are the same on the way out and on the way in."""

from __future__ import annotations

from typing import Any, Mapping

from ..backends.registry import KINDS
from ..core.state import Link
from .hop import Hop, Scene, is_up, neighbour_text, state_of


def bridge(scene: Scene) -> Hop:
    """Judge the pods' bridge."""
    name = scene.plan.bridge
    link = scene.link(name)
    flags = link.get("flags", ()) if link else ()
    held = [one.get("local") for one in link.get("addr_info", ())] if link else []
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
        fault, mend = f"{name} is down", f"{scene.on_host(f'ip link set {name} up')}; then {scene.repair()}"
    elif off:
        fault, mend = off
    elif lost:
        fault, mend = f"{name} has no address {lost[0]}, the pods' gateway", scene.repair()
    answer = state_of(name, link).replace(", but without a carrier", ", without an active port")
    if held:
        shown = [str(one) for one in held if one and (":" in one) == (scene.family == 6)]
        answer += f", with {', '.join(shown) or 'no address of this family'}"
    return Hop("bridge", "is the pods' bridge up, with their gateway's address?", answer, "", fault, mend)


def ipv6_off(scene: Scene, device: str) -> tuple[str, str] | None:
    """Return (fault, what mends it) where IPv6 is off on a device and the packet is IPv6."""
    key = f"net.ipv6.conf.{device.replace('.', '/')}.disable_ipv6"
    if scene.family != 6 or scene.sysctl(key) != "1":
        return None
    return (
        f"IPv6 is off on {device} ({key}=1)",
        f"{scene.on_host(f'sysctl -w {key}=0')}; then {scene.repair()}",
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
            note="pods of podnet's CNI configuration have one; how this one is attached is not judged",
        )
    link = scene.link(name)
    master = str((link or {}).get("master", ""))
    port = (scene.facts["ports"] or [{}])[0]
    state = str(port.get("state", ""))
    fault = mend = ""
    if not is_up(link):
        fault, mend = state_of(name, link), scene.on_host(f"ip link set {name} up")
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
    return Hop("veth", question, answer, plan, fault, mend)


def device(scene: Scene, name: str) -> Hop | None:
    """Judge the backend's device; None where packets go over the underlay's own."""
    want = scene.final.links.get(name)
    if want is None or want.kind not in KINDS:
        return None
    kind = KINDS[want.kind]
    link = scene.link(name)
    question = f"is the {kind.title} up, as the plan wants it?"
    plan = f"{name}: {kind.envelope(want.options)}, from {_local(scene)}"
    if link is None:
        return Hop("device", question, f"{name} does not exist", plan, f"{name} does not exist", scene.repair())
    have = options(link, want, scene)
    answer = state_of(name, link)
    if have != want.options:
        answer += f", {have}"
    else:
        answer += f", {kind.envelope(have)}"
    fault = mend = ""
    off = ipv6_off(scene, name)
    if link.get("linkinfo", {}).get("info_kind") != want.kind:
        fault, mend = f"{name} is no {kind.title}", scene.repair()
    elif have != want.options:
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


def _local(scene: Scene) -> str:
    return scene.node.ip if scene.plan.underlay == 4 else scene.node.ip6


def options(link: Mapping[str, Any], want: Link, scene: Scene) -> str:
    """Return the options that a device has, in its kind's words."""
    kind = KINDS[want.kind]
    found = [kind.options(link.get("linkinfo", {}).get("info_data", {}))]
    found.append(str(scene.facts["own_options"].get(link.get("ifname"), "")))
    return " ".join(one for one in found if one)


def forwards(scene: Scene, name: str) -> Hop:
    """Judge whether the host forwards what comes in by a device."""
    if scene.family == 6:
        key = "net.ipv6.conf.all.forwarding"
        question = "does the host forward IPv6?"
    else:
        key = f"net.ipv4.conf.{name.replace('.', '/')}.forwarding"
        question = f"does the host forward what comes in by {name}?"
    value = scene.sysctl(key)
    fault = mend = ""
    if value == "0":
        fault = f"{key}=0: the host does not forward what comes in " + (
            "over IPv6" if scene.family == 6 else f"by {name}"
        )
        mend = scene.repair()
    return Hop("forwarding", question, f"{key}={value or '?'}", "1" if fault else "", fault, mend)


def reverse_path(scene: Scene, name: str, source: str, way: str) -> Hop | None:
    """Judge the reverse path filter: would an answer to `source` leave by the device `name`?

    Only IPv4 has one that is a sysctl; the greater of the values for all and for the device counts.
    """
    if scene.family == 6:
        return None
    keys = "net.ipv4.conf.all.rp_filter", f"net.ipv4.conf.{name.replace('.', '/')}.rp_filter"
    value = max((scene.sysctl(one) for one in keys), default="")
    lookup = scene.facts["reverse"][way]
    back = str((lookup["answer"] or {}).get("dev", ""))
    words = {"": "unknown", "0": "off", "1": "strict", "2": "loose"}
    answer = f"rp_filter on {name} is {words.get(value, value)}"
    answer += f"; {source} is behind {back}" if back else f"; no route to {source}"
    fault = mend = ""
    if value == "1" and back != name:
        entry = f" ({lookup['entry']})" if lookup["entry"] else ""
        fault = (
            f"the reverse path filter drops it: it comes in by {name}, and the kernel would answer "
            f"{source} by {back or 'no device'}{entry}"
        )
        mend = f"{scene.repair()} puts the route right; or {scene.on_host(f'sysctl -w {keys[1]}=2 {keys[0]}=2')}"
    elif value == "2" and not back:
        fault = f"the reverse path filter drops it: there is no route to {source}"
        mend = scene.repair()
    question = f"does the reverse path filter let it in by {name}?"
    return Hop("reverse path", question, answer, f"{source} behind {name}" if fault else "", fault, mend)


def rules(scene: Scene, way: str) -> Hop:
    """Judge the policy rules that are looked up before table main."""
    question = "does a policy rule take the packet before table main is asked?"
    found = scene.facts["rules"][way]
    sure = [one for one in found if one[3]]
    may = [one for one in found if not one[3]]
    if not found:
        return Hop("rules", question, "none (ip rule)")
    answer = "; ".join(f"{one[1]} -> {one[2]}" for one in found)
    note = "" if sure else f'it depends on a mark or the like whether "{may[0][1]}" does'
    fault = mend = ""
    if sure:
        priority, text, route = sure[0][:3]
        target = scene.remote if way == "out" else scene.local
        inside = scene.plan.cluster_cidr if scene.family == 4 else scene.plan.cluster_cidr6
        fault = f'the policy rule "{text}" takes it before table main is asked: {route}'
        if scene.peer is None and way == "out":
            # Where packets to the outside go is the administrator's decision.
            return Hop("rules", question, answer, note=f"{fault}, to {target}")
        mend = (
            f"remove the rule, or put one before it: "
            f"{scene.on_host(f'ip rule add pref {max(int(priority) - 1, 1)} to {inside} lookup main')}"
        )
    return Hop("rules", question, answer, "none" if fault else "", fault, mend, note=note)


def firewall(scene: Scene, name: str, way: str, question: str, fault: str, mend: str) -> Hop:
    """Judge what chains do to a packet; `way` is a key of the facts about firewalls.

    `fault` says what a drop means.
    """
    found = scene.facts["firewall"][way]
    for one in found:
        if one["drops"]:
            whole = len(one["drops"]) == 3 or way in ("input", "output")
            what = "it" if whole else " and ".join(one["drops"])
            said = f"{one['chain']} drops {what}: {one['by']}"
            return Hop(name, question, said, "accepted", f"{fault}: {said}", mend)
    doubts = [f"{one['chain']}: {rule}" for one in found for rule in one["doubts"]]
    names = ", ".join(one["chain"] for one in found)
    answer = f"accepted by {names}" if found else "no chain there"
    note = f"cannot be told from the rules alone: {'; '.join(doubts[:3])}" if doubts else ""
    return Hop(name, question, answer, note=note)


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
        return Hop("underlay", question, scene.facts["view_error"], "", scene.facts["view_error"], "see above")
    if not answer:
        error = (lookup or {}).get("error") or "no route"
        fault = f"no way to {address or target}{scene.owner(address or target)}: {error}"
        return Hop("underlay", question, error, "a route", fault, "add a route to the node, or mend its interface")
    told, _mac, state = neighbour_text(target, outer["neighbour"])
    said = f"{'via ' + gateway + ' ' if gateway else 'on-link '}dev {device_name}, {state_of(device_name, link).partition(' is ')[2]}; {told}"
    fault = mend = ""
    who = scene.owner(address or target) or scene.owner(target)
    if not is_up(link):
        fault = state_of(device_name, link)
        mend = scene.on_host(f"ip link set {device_name} up")
    elif "FAILED" in state or "INCOMPLETE" in state:
        fault = f"nobody answers for {target}{who} on {device_name} ({state}): the node is off, or its segment is"
        mend = f"bring {who.strip(' ()') or target} back to the segment of {device_name}"
    note = ""
    for one in scene.facts["probes"]:
        if one["from"] == "host" and one["to"] == target and not one["ok"] and not fault:
            note = f"{target} does not answer ping from this host ({one['error']})"
    return Hop("underlay", question, said, "", fault, mend, note=note)

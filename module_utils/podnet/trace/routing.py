"""Hops of routing: policy rules, routes, the reverse path filter, whether a device forwards."""

from __future__ import annotations

from ..state.planned_way import PlannedRoute, planned_route
from .hop import Hop, Scene


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
        loose = scene.on_host(f"sysctl -w {keys[0]}=2")
        mend = f"{scene.repair()} puts the route right; if it is as it must be, {loose}"
    elif value == "2" and not back:
        fault = f"the reverse path filter drops it: there is no route to {source}"
        mend = scene.repair()
    question = f"does the reverse path filter let it in by {name}?"
    return Hop(
        "reverse path", question, answer, f"{source} behind {name}" if fault else "", fault, mend
    )


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
        six = " -6" if scene.family == 6 else ""
        before = f"ip{six} rule add pref {max(int(priority) - 1, 1)} to {inside} lookup main"
        mend = f"remove the rule, or put one before it: {scene.on_host(before)}"
    return Hop("rules", question, answer, "none" if fault else "", fault, mend, note=note)


def route_out(scene: Scene) -> Hop:
    """Judge the route that the host takes for the pod's packet."""
    found = scene.facts["out"]
    planned = planned_route(scene.final, scene.remote)
    question = f"which route does the host take? ({found['asked']})"
    answer = found["answer"]
    if scene.to_host or scene.peer is None or not planned.device:
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
        return Hop("route", question, said, planned.text, fault, mend, ("rules",))
    if cidr == planned.destination:
        fault = f"the route to {cidr} leads {leads}, and not {_leads(scene, planned)}"
    elif _length(cidr) > _length(planned.destination):
        fault = f"a narrower route than the plan's takes it: {found['entry']}"
        mend = scene.on_host(f"ip -{scene.family} route del {cidr} {_words(via, device)}")
    else:
        fault = f"the route to {planned.destination} is missing, so {cidr} takes it ({leads})"
    return Hop("route", question, said, planned.text, fault, mend, ("device",))


def _words(via: str, device: str) -> str:
    """Return the words of ip-route(8) that name a route's way."""
    return f"via {via} dev {device}" if via else f"dev {device}"


def _leads(scene: Scene, planned: PlannedRoute) -> str:
    who = scene.owner(planned.gateway) if planned.gateway else ""
    return f"{'via ' + planned.gateway + who + ' ' if planned.gateway else ''}dev {planned.device}"


def _no_route(scene: Scene, question: str, planned: PlannedRoute) -> Hop:
    """Say why the kernel has no answer: what its errors mean for a packet that is forwarded."""
    found = scene.facts["out"]
    because: tuple[str, ...] = ("device",)
    bridge = scene.plan.bridge
    mend = scene.repair()
    why = f"the kernel has no route to {scene.remote} ({found['error']})"
    if "cross-device" in found["error"]:
        because = ("reverse path",)
        why = f"the reverse path filter on {bridge} drops it ({found['error']})"
    elif scene.family == 4 and scene.sysctl(f"net.ipv4.conf.{bridge}.forwarding") == "0":
        because = ("forwarding",)
    elif " type " in found["entry"]:
        because = ()
        why = f"a route refuses it ({found['error']}): {found['entry']}"
        cidr, kind = found["entry"].split(" ")[0], found["entry"].split(" type ")[1].split(" ")[0]
        mend = scene.on_host(f"ip -{scene.family} route del {kind} {cidr}")
    elif scene.facts["rules"]["out"]:
        because = ("rules",)
    return Hop("route", question, found["error"], planned.text, why, mend, because)


def _route_outside(scene: Scene, question: str) -> Hop:
    found = scene.facts["out"]
    answer = found["answer"]
    if answer is None:
        because = ("reverse path",) if "cross-device" in found["error"] else ("forwarding",)
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


def route_in(scene: Scene) -> Hop:
    """Judge the route that leads to the pod."""
    found = scene.facts["in"]
    bridge = scene.plan.bridge
    if found is None:
        fault = f"by no device packets from {scene.remote} could come in"
        return Hop(
            "route",
            "which route leads to the pod?",
            "not asked",
            "",
            fault,
            scene.repair(),
            ("device",),
        )
    question = f"which route leads to the pod? ({found['asked']})"
    answer = found["answer"]
    plan = f"{scene.subnet} dev {bridge}"
    if answer is None:
        because: tuple[str, ...] = ("bridge",)
        why = f"the kernel has no route to {scene.local} ({found['error']})"
        if "cross-device" in found["error"]:
            because = ("reverse path",)
        elif scene.family == 4 and _forwarding(scene, scene.carrier) == "0":
            because = ("forwarding",)
        elif scene.link(scene.carrier) is None:
            because = ("device",)
        elif scene.facts["rules"]["in"]:
            because = ("rules",)
        return Hop("route", question, found["error"], plan, why, scene.repair(), because)
    said = found["entry"] or str(answer)
    said += f", table {found['table']}" if found["table"] else ""
    if str(answer.get("type", "unicast")) == "local":
        return Hop("route", question, f"{said}: an address of {scene.node.name} itself")
    device = str(answer.get("dev", ""))
    if device == bridge:
        return Hop("route", question, said)
    fault = f"it is sent by {device} ({found['entry']}), and pods are behind {bridge}"
    because = ("rules",) if found["table"] else ("bridge",)
    cidr = found["entry"].split(" ", 1)[0]
    mend = scene.repair()
    if not found["table"] and _length(cidr) > _length(scene.subnet):
        mend = scene.on_host(f"ip -{scene.family} route del {cidr} dev {device}")
    return Hop("route", question, said, plan, fault, mend, because)


def _forwarding(scene: Scene, device: str) -> str:
    return scene.sysctl(f"net.ipv4.conf.{device.replace('.', '/')}.forwarding")

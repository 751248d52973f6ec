"""Hops of packet filters: chains of others, and podnet's guard and masquerade."""

from __future__ import annotations

from ..backends.registry import KINDS
from ..core.model import is_inside
from .hop import Hop, Scene


def passed(scene: Scene, way: str) -> Hop:
    """Judge what chains do to a pod's packet on its way through the host, or to it or from it."""
    bridge = scene.plan.bridge
    near, far = bridge, scene.carrier
    if way == "out":
        far = scene.out_device or far
    near = "the host itself" if scene.is_own else near
    far = "the host itself" if scene.to_host else far
    ends = (near, far) if way == "out" else (far, near)
    mend = (
        f"{scene.repair()} puts podnet's accept rules into forward chains that drop by policy "
        "(podnet_manage_forward); a rule that means pods is for you to remove"
    )
    if scene.is_own or scene.to_host:
        mend = scene.on_host("accept pods' packets in that chain")
    question = f"do the host's chains let it from {ends[0]} to {ends[1]}?"
    hop = Hop("firewall", question, "", fault="a firewall drops pods' packets", mend=mend)
    return _judged(scene, hop, way)


def outer_out(scene: Scene) -> Hop | None:
    """Judge what output chains do to the packet that wraps the pod's."""
    if not scene.facts["outer"]["kind"]:
        return None
    return _judged(
        scene,
        Hop(
            "output",
            "do the host's output chains let the outer packet go?",
            "",
            fault="a firewall drops the outer packets",
            mend="accept them in that chain",
        ),
        "output",
    )


def guard(scene: Scene) -> Hop | None:
    """Judge whether podnet's guard takes the packet that wraps the pod's from the other node."""
    senders = scene.facts["guard"]
    link = scene.final.links.get(scene.carrier)
    if senders is None or scene.peer is None or link is None:
        return None
    if link.kind not in KINDS or not KINDS[link.kind].has_mac:
        return None
    address = scene.outer_address(scene.peer)
    who = f"{address} ({scene.peer.name})"
    question = f"does podnet's guard take packets from {who}?"
    if address in senders:
        return Hop("guard", question, "yes: its set has that address")
    fault = f"podnet's guard drops what comes from {who}: its set does not have that address"
    known = f"no: it takes them from {', '.join(senders) or 'nobody'}"
    return Hop("guard", question, known, address, fault, "ansible-playbook playbooks/site.yml")


def outer_in(scene: Scene) -> Hop | None:
    """Judge what input chains do to the packet that wraps the pod's."""
    link = scene.final.links.get(scene.carrier)
    if link is None or link.kind not in KINDS:
        return None
    port = KINDS[link.kind].needs(link).port
    return _judged(
        scene,
        Hop(
            "input",
            f"do the input chains let the outer packets in (UDP port {port})?",
            "",
            fault=f"a firewall drops what comes in for {scene.carrier}",
            mend=f"{scene.on_host(f'accept UDP port {port} from the nodes in that chain')}",
        ),
        "input",
    )


def _judged(scene: Scene, hop: Hop, way: str) -> Hop:
    """Return `hop` with what chains do; it has the fault and its mending of a drop.

    `way` is a key of the facts about firewalls.
    """
    found = scene.facts["firewall"][way]
    for one in found:
        if one["drops"]:
            whole = len(one["drops"]) == 3 or way in ("input", "output")
            what = "it" if whole else " and ".join(one["drops"])
            said = f"{one['chain']} drops {what}: {one['by']}"
            return hop._replace(answer=said, plan="accepted", fault=f"{hop.fault}: {said}")
    doubts = [f"{one['chain']}: {rule}" for one in found for rule in one["doubts"]]
    names = "; ".join(one["chain"] for one in found)
    answer = f"accepted by {names}" if found else "no chain there"
    note = f"cannot be told from the rules alone: {'; '.join(doubts[:3])}" if doubts else ""
    return hop._replace(answer=answer, note=note, fault="", mend="")


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
        return Hop(
            "masquerade",
            question,
            answer,
            wanted[0] if fault else "",
            fault,
            scene.repair() if fault else "",
        )
    question = f"does it leave with the address of {scene.node.name}?"
    if not scene.plan.masquerade:
        return Hop(
            "masquerade",
            question,
            "no: podnet_masquerade is false, so routers outside must know the pods",
        )
    single = f"{scene.remote}/{scene.bits}"
    excluded = [cidr for cidr in scene.plan.masquerade_exclude if is_inside(single, cidr)]
    if excluded:
        return Hop(
            "masquerade",
            question,
            f"no: podnet_masquerade_exclude has {excluded[0]}, so it keeps the pod's",
        )
    lost = [one for one in wanted if one not in have]
    if lost:
        fault = (
            f"nothing gives it the address of {scene.node.name}, so no answer finds the way back: "
            f"{table} lacks {lost[-1]!r}"
        )
        return Hop(
            "masquerade",
            question,
            "; ".join(have) or f"no rule in {table}",
            "; ".join(wanted),
            fault,
            scene.repair(),
        )
    return Hop("masquerade", question, f"yes: {have[-1]}")

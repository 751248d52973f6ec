"""Foreign chains that drop forwarded packets by default, and podnet's accept rules in them.

A packet is forwarded only if every base chain on the forward hook accepts it (nft(8)): an accept in
podnet's own table does not help where Docker or an administrator set a policy of drop. So podnet
puts its rules at the top of that very chain, with its mark. They accept what comes from podnet's
bridge and what goes to it, which is the traffic of this host's pods and nothing else.

"Foreign" here means: not made by podnet.
"""

from __future__ import annotations

from typing import Any, Collection, Iterable, Iterator, NamedTuple

from ..core.model import Node, Plan
from ..core.state import BELOW, Accept, State, route_device
from ..core.text import listed
from ..state import nft_rule
from . import walk
from .walk import Packet, Ruleset, addresses


class Forwarder(NamedTuple):
    """A foreign base chain that pods' packets pass.

    `tool` is "nft" or the iptables program that the chain belongs to. `chain` is its name for that
    tool: "FAMILY TABLE CHAIN" or "FORWARD". `families` are those of the packets that pass it (4,
    6), `rules` the chain with all that it jumps to. `opens`: an accept of podnet's in it can help,
    because it is on the forward hook and its family is not bridge.
    """

    tool: str
    chain: str
    families: tuple[int, ...]
    rules: Ruleset
    opens: bool = True

    def __str__(self) -> str:
        """Return the chain's name for messages."""
        if self.tool == "nft":
            family, table, chain = self.chain.split(" ")
            return f"nft table {family} {table}, chain {chain}"
        return f"{self.tool} {self.chain}"


class Judgement(NamedTuple):
    """What a chain does to pods' packets.

    `drops`: it drops some, and not by a rule that is aimed at pods, so podnet may add its accept
    rules. `below`: it drops them even with podnet's rules in it, because another rule comes first.
    `named` are rules that are aimed at pods and drop packets between them, `doubts` rules that may
    drop such packets (see `walk.WalkResult`).
    """

    drops: bool
    below: bool
    named: tuple[str, ...]
    doubts: tuple[str, ...]


#: Family -> an address that stands for all that is outside of the pod network.
_WORLD = {4: "9.9.9.9", 6: "2620:fe::fe"}


def packets(
    plan: Plan, node: Node, final: State, bridged: Collection[int] = ()
) -> Iterator[tuple[bool, Packet]]:
    """Yield (whether it is between pods, packet) for each kind that this host's pods send or get.

    Packets between pods pass the devices that the routes in `final` use; packets to the outside
    and back pass a device that podnet does not know, so its name is "". Those between pods of this
    host pass chains only in the families that are `bridged` (br_netfilter); the bridge is then the
    device that they come in and go out by.
    """
    carriers = sorted({route_device(body) for body in final.routes.values()} - {plan.bridge, ""})
    for subnet, cluster in ((node.subnet, plan.cluster_cidr), (node.subnet6, plan.cluster_cidr6)):
        if not subnet:
            continue
        pods, all_pods = addresses(subnet), addresses(cluster)
        world = addresses(_WORLD[pods[0]])
        ways = [(True, device, all_pods) for device in carriers] + [(False, "", world)]
        if pods[0] in bridged:
            ways.append((True, plan.bridge, pods))
        for between, device, far in ways:
            for protocol in ("tcp", "udp", "icmp"):
                for state in ("new", "established"):
                    way = (protocol, state, all_pods)
                    yield between, Packet(plan.bridge, device, pods, far, *way)
                    if between or state == "established":
                        yield between, Packet(device, plan.bridge, far, pods, *way)


def judge(kinds: Iterable[tuple[bool, Packet]], chain: Forwarder) -> Judgement:
    """Return what `chain` does to packets of `kinds`."""
    drops = below = False
    named: dict[str, None] = {}
    doubts: dict[str, None] = {}
    for between, packet in kinds:
        if packet.family not in chain.families:
            continue
        outcome = walk.walk(chain.rules, packet)
        if between and outcome.doubts:
            doubts.update(dict.fromkeys(outcome.doubts))
        if outcome.verdict != "drop":
            continue
        if outcome.aimed:
            # Somebody wrote this rule for pods, so podnet leaves it. It is worth a warning only
            # between pods: what they may reach outside is the administrator's decision.
            named.update({outcome.by: None} if between else {})
            continue
        drops = True
        below = below or walk.walk(chain.rules, packet, with_own=True).verdict == "drop"
    return Judgement(drops, below, tuple(named), tuple(doubts))


def accepts(name: str, bridge: str, tool: str, chain: str) -> list[Accept]:
    """Return the rules that let the pods on `bridge` through one chain."""
    if tool == "nft":
        return [
            Accept(tool, chain, f'{word} "{bridge}" accept comment "podnet:{name} {way} {bridge}"')
            for word, way in (("iifname", "from"), ("oifname", "to"))
        ]
    comment = f"-m comment --comment podnet:{name} -j ACCEPT"
    return [Accept(tool, chain, f"{option} {bridge} {comment}") for option in ("-i", "-o")]


def parse_save(lines: Iterable[str], tool: str, name: str) -> list[Accept]:
    """Return network `name`'s rules in FORWARD, from the lines that `iptables -S` prints."""
    own = []
    for line in lines:
        rule = line.replace('"', "").partition("-A FORWARD ")[2].strip()
        if f" --comment podnet:{name} -j ACCEPT" in rule:
            own.append(Accept(tool, "FORWARD", rule))
    return own


def parse_chain(document: Any, chain: str, name: str) -> dict[Accept, tuple[int, ...]]:
    """Return network `name`'s rules in `chain` -> their handles in nft.

    `document` is what `nft -j list table` prints for the table that holds the chain.
    """
    own: dict[Accept, tuple[int, ...]] = {}
    for entry in document.get("nftables", ()) if isinstance(document, dict) else ():
        rule = entry.get("rule", {})
        comment = str(rule.get("comment", ""))
        if rule.get("chain") == chain.rpartition(" ")[2] and comment.startswith(f"podnet:{name} "):
            key = Accept("nft", chain, _rule(comment, rule.get("expr", ())))
            own[key] = (*own.get(key, ()), int(rule["handle"]))
    return own


def _rule(comment: str, expr: Any) -> str:
    """Return podnet's rule as `accepts` writes it, or as it is now if somebody has edited it."""
    _mark, _mark, rest = comment.partition(" ")
    way, _mark, bridge = rest.partition(" ")
    word = {"from": "iifname", "to": "oifname"}.get(way, "#")
    wanted, found = f"{word} {bridge} accept", nft_rule.text(expr)
    if found and found != wanted:
        return f'{found} comment "{comment}"'
    return f'{word} "{bridge}" accept comment "{comment}"'


def add(
    plan: Plan,
    node: Node,
    chains: Iterable[Forwarder],
    before: State,
    final: State,
    *,
    bridged: Collection[int] = (),
) -> list[str]:
    """Add the accept rules that this network needs to `final`; return messages for the user.

    A chain that has podnet's rules keeps them, even if its policy is accept now: Docker sets the
    policy again whenever it starts. Where a rule above podnet's drops pods' packets, podnet's rules
    are moved to the top. `bridged` is as in `packets`.
    """
    served = {(one.tool, one.chain) for one in before.accepts}
    kinds = list(packets(plan, node, final, bridged))
    new, told = [], []
    for chain in chains:
        if not _families(plan) & set(chain.families):
            continue
        judged = judge(kinds, chain)
        known = (chain.tool, chain.chain) in served
        if chain.opens and (known or (judged.drops and not judged.named)):
            rules = accepts(plan.name, plan.bridge, chain.tool, chain.chain)
            final.accepts.update((rule, ()) for rule in rules)
            if not known:
                new.append(str(chain))
            elif judged.below:
                _mark_below(before, rules)
        else:
            told += _warnings(chain, judged)
    if new:
        told.insert(
            0,
            f"{'; '.join(new)}: drops forwarded packets that no rule accepts, so podnet puts rules "
            f"for {plan.bridge} there, marked podnet:{plan.name} (podnet_manage_forward: false "
            "leaves such chains alone; reset removes the rules)",
        )
    return told


def _families(plan: Plan) -> set[int]:
    return {family for family, cidr in ((4, plan.cluster_cidr), (6, plan.cluster_cidr6)) if cidr}


def _mark_below(before: State, rules: Iterable[Accept]) -> None:
    for rule in rules:
        if rule in before.accepts:
            moved = rule._replace(rule=rule.rule + BELOW)
            before.accepts[moved] = before.accepts.pop(rule)


def _warnings(chain: Forwarder, judged: Judgement) -> list[str]:
    """Return warnings about a chain into which podnet puts no accept rules."""
    lines = []
    if judged.drops:
        lines.append(
            f"{chain}: drops pods' packets, and an accept of podnet's cannot help there. Pods have "
            "no network until that is changed"
        )
    if judged.named:
        lines.append(
            f"{chain}: drops packets between pods by a rule that means them: "
            f"{listed(judged.named, 3, '; ')}. podnet leaves it; remove it if pods are to reach "
            "each other"
        )
    if judged.doubts:
        lines.append(
            f"{chain}: may drop packets between pods, which cannot be told from the rules alone: "
            f"{listed(judged.doubts, 3, '; ')}. See whether verify.yml passes"
        )
    return lines


def left_alone(
    plan: Plan,
    node: Node,
    chains: Iterable[Forwarder],
    final: State,
    bridged: Collection[int] = (),
) -> list[str]:
    """Return warnings for a host where podnet may not touch `chains` (podnet_manage_forward).

    `bridged` is as in `packets`.
    """
    kinds = list(packets(plan, node, final, bridged))
    judged = [
        (chain, judge(kinds, chain)) for chain in chains if _families(plan) & set(chain.families)
    ]
    shown = "; ".join(
        str(chain) for chain, found in judged if chain.opens and found.drops and found.below
    )
    told = [
        line
        for chain, found in judged
        for line in _warnings(chain, found._replace(drops=found.drops and not chain.opens))
    ]
    if shown:
        told.insert(
            0,
            f"{shown}: drops forwarded packets that no rule accepts, and podnet_manage_forward is "
            f"false. Pods work only if rules there accept what comes from {plan.bridge} and goes "
            "to it",
        )
    return told

"""Chains of others that drop what they do not know, and our rules in them.

A packet is forwarded only if every base chain on the forward hook accepts it (nft(8)): an accept
in a table of ours does not help where Docker or an administrator set a policy of drop. So the rules
go into that very chain, first in it, and carry our mark. They accept what comes from our bridge
and what goes to it, which is the traffic of this host's pods and nothing else.
"""

from __future__ import annotations

import re
from typing import Any, Iterable, NamedTuple

from .model import Plan
from .state import Accept, State

#: Words of iptables-save(8) that make a rule drop everything: nothing but a comment before -j.
_DROPS_ALL = re.compile(r'-A \S+( -m comment --comment ("[^"]*"|\S+))? -j (DROP|REJECT)\b')


class Forwarder(NamedTuple):
    """A base chain of others on the forward hook.

    `tool` is "nft", or the iptables program that the chain belongs to, `chain` its name for that
    tool, `families` what passes it, `drops` whether a packet that no rule knows is dropped there.
    """

    tool: str
    chain: str
    families: tuple[int, ...]
    drops: bool

    def __str__(self) -> str:
        """Return how a person finds it."""
        if self.tool == "nft":
            family, table, chain = self.chain.split(" ")
            return f"nft table {family} {table}, chain {chain}"
        return f"{self.tool} {self.chain}"


def accepts(name: str, bridge: str, tool: str, chain: str) -> list[Accept]:
    """Return the rules that let the pods on `bridge` through one chain."""
    if tool == "nft":
        return [
            Accept(tool, chain, f'{word} "{bridge}" accept comment "podnet:{name} {way} {bridge}"')
            for word, way in (("iifname", "from"), ("oifname", "to"))
        ]
    comment = f"-m comment --comment podnet:{name} -j ACCEPT"
    return [Accept(tool, chain, f"{option} {bridge} {comment}") for option in ("-i", "-o")]


def parse_save(lines: Iterable[str], tool: str, name: str) -> tuple[bool, list[Accept]]:
    """Return (does FORWARD drop, rules of ours in it) from `iptables -S FORWARD`."""
    drops, own = False, []
    for line in lines:
        if line.startswith("-P "):
            drops = drops or line.split()[2:3] != ["ACCEPT"]
            continue
        rule = line.replace('"', "").partition(" FORWARD ")[2].strip()
        if f" --comment podnet:{name} -j ACCEPT" in rule:
            own.append(Accept(tool, "FORWARD", rule))
        elif _DROPS_ALL.match(line):
            drops = True
    return drops, own


def parse_chain(document: Any, chain: str, name: str) -> tuple[bool, dict[Accept, tuple[int, ...]]]:
    """Return (does the chain drop, rules of ours in it -> handles) from `nft -j list chain`."""
    drops = False
    own: dict[Accept, tuple[int, ...]] = {}
    for entry in document.get("nftables", ()) if isinstance(document, dict) else ():
        if "chain" in entry:
            drops = drops or entry["chain"].get("policy") == "drop"
        rule = entry.get("rule", {})
        comment = str(rule.get("comment", ""))
        if comment.startswith(f"podnet:{name} "):
            key = Accept("nft", chain, _rule(comment))
            own[key] = (*own.get(key, ()), int(rule["handle"]))
        elif rule:
            verdicts = [one for one in rule.get("expr", ()) if "counter" not in one]
            drops = drops or (
                len(verdicts) == 1 and ("drop" in verdicts[0] or "reject" in verdicts[0])
            )
    return drops, own


def _rule(comment: str) -> str:
    """Return the rule behind a comment of ours; nft prints it in words of its own."""
    _, _, rest = comment.partition(" ")
    way, _, bridge = rest.partition(" ")
    word = {"from": "iifname", "to": "oifname"}.get(way, "#")
    return f'{word} "{bridge}" accept comment "{comment}"'


def add(plan: Plan, chains: Iterable[Forwarder], before: State, final: State) -> list[str]:
    """Add the rules that this network needs to `final`; return what to tell, a sentence each.

    A chain that has our rules keeps them, though its policy may be accept by now: Docker sets it
    anew whenever it starts.
    """
    families = {
        family for family, cidr in ((4, plan.cluster_cidr), (6, plan.cluster_cidr6)) if cidr
    }
    served = {(one.tool, one.chain) for one in before.accepts}
    new = []
    for chain in chains:
        if not families & set(chain.families):
            continue
        if chain.drops or (chain.tool, chain.chain) in served:
            rules = accepts(plan.name, plan.bridge, chain.tool, chain.chain)
            final.accepts.update((rule, ()) for rule in rules)
            if not served & {(chain.tool, chain.chain)}:
                new.append(str(chain))
    if not new:
        return []
    return [
        f"{'; '.join(new)}: drops forwarded packets that no rule accepts, so podnet puts rules for "
        f"{plan.bridge} there, marked podnet:{plan.name} (podnet_manage_forward: false leaves "
        "such chains alone; reset removes the rules)",
    ]


def left_alone(plan: Plan, chains: Iterable[Forwarder]) -> list[str]:
    """Return what to tell where podnet must not touch such chains."""
    shown = "; ".join(str(one) for one in chains if one.drops)
    if not shown:
        return []
    return [
        f"{shown}: drops forwarded packets that no rule accepts, and podnet_manage_forward is "
        f"false. Pods work only if rules there accept what comes from {plan.bridge} and goes to it"
    ]

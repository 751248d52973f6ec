"""Read the chains that pods' packets pass and podnet did not make: nft, both kinds of iptables."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Sequence

from ..core.state import Accept
from ..firewall import iptables, nft
from ..firewall.forward import Forwarder, parse_chain, parse_save
from .run import SEARCH, nft_document, run

#: Names of foreign tables and chains that podnet accepts: identifiers as in nft(8), because they go
#: into batches and boot files.
_NAME = re.compile(r"[A-Za-z0-9_./-]+\Z")

_FAMILIES = {"ip": (4,), "ip6": (6,), "inet": (4, 6), "bridge": (4, 6)}

#: nft table in which iptables-nft(8) keeps its chain FORWARD -> the program that writes there.
_IPTABLES_NFT = {"ip filter": "iptables-nft", "ip6 filter": "ip6tables-nft"}

#: Family -> (iptables-legacy program, the name it has on some hosts, the kernel's list of tables).
LEGACY = {
    4: ("iptables-legacy", "iptables", "/proc/net/ip_tables_names"),
    6: ("ip6tables-legacy", "ip6tables", "/proc/net/ip6_tables_names"),
}


def read(name: str) -> tuple[dict[Accept, tuple[int, ...]], list[Forwarder]]:
    """Return (network `name`'s rules in foreign chains -> their nft handles, all such chains).

    A rule of iptables has no handle: there is one 0 for each copy of it. It takes one command, and
    one more for each table that has such a chain.
    """
    accepts: dict[Accept, tuple[int, ...]] = {}
    chains: list[Forwarder] = []
    for table, bases in _tables(name).items():
        family = table.partition(" ")[0]
        tool = _IPTABLES_NFT.get(table, "")
        opened = tool and "FORWARD" in bases
        if opened and _read_iptables(tool, _FAMILIES[family], name, accepts, chains):
            bases.pop("FORWARD")
        if not bases:
            continue
        argv = ["nft", "-j", "list", "table", *table.split(" ")]
        result = run(argv)
        if result.code != 0:
            continue
        document = nft_document(argv, result.output)
        for base, opens in bases.items():
            chain = f"{table} {base}"
            accepts.update(parse_chain(document, chain, name))
            rules = nft.rules(document, base, f"podnet:{name} ")
            chains.append(Forwarder("nft", chain, _FAMILIES[family], rules, opens))
    for number, (program, usual, tables) in LEGACY.items():
        if "filter" in _text(tables).split():
            _read_iptables(legacy_program(program, usual), (number,), name, accepts, chains)
    return accepts, chains


def passed(name: str, hook: str) -> list[Forwarder]:
    """Return all chains that a packet passes on its way through `hook`, podnet's rules included.

    `hook` is "forward", "input" or "output" (nft(8)); the chains of hooks before it and after it
    that see the same packet are among them. Unlike `read` it also returns firewalld's.
    """
    base = hook.upper()
    chains: list[Forwarder] = []
    for table, bases in _tables(name, _AROUND[hook]).items():
        family = table.partition(" ")[0]
        tool = _IPTABLES_NFT.get(table, "")
        if (
            tool
            and base in bases
            and _read_iptables(tool, _FAMILIES[family], name, {}, chains, base=base)
        ):
            bases.pop(base)
        argv = ["nft", "-j", "list", "table", *table.split(" ")]
        result = run(argv) if bases else None
        if result is None or result.code != 0:
            continue
        document = nft_document(argv, result.output)
        for one in bases:
            rules = nft.rules(document, one, f"podnet:{name} ")
            chains.append(Forwarder("nft", f"{table} {one}", _FAMILIES[family], rules))
    for number, (program, usual, tables) in LEGACY.items():
        if "filter" in _text(tables).split():
            legacy = legacy_program(program, usual)
            _read_iptables(legacy, (number,), name, {}, chains, base=base)
    return chains


#: Hook -> the hooks of IP families that the same packet passes.
_AROUND = {
    "forward": ("prerouting", "forward", "postrouting"),
    "input": ("prerouting", "input"),
    "output": ("output", "postrouting"),
}

#: Hooks that a pod's packet passes, in family bridge and in the others. Chains of family netdev
#: are not looked at: they see packets of one device only.
_HOOKS = {"bridge": ("prerouting", "input", "forward", "output", "postrouting")}
_IP_HOOKS = ("prerouting", "forward", "postrouting")


def _tables(name: str, hooks: Sequence[str] = ()) -> dict[str, dict[str, bool]]:
    """Return "FAMILY TABLE" -> filter chain that pods' packets pass -> `Forwarder.opens`.

    Network `name`'s table is left out, and firewalld's: it locks its table and makes it anew, so
    `state.managers` configures firewalld itself. With `hooks`, all chains of IP families on these
    hooks are returned, firewalld's too.
    """
    argv = ["nft", "-j", "list", "chains"]
    result = run(argv)
    found: dict[str, dict[str, bool]] = {}
    if result.code != 0:
        return found
    for entry in nft_document(argv, result.output).get("nftables", ()):
        chain = entry.get("chain", {})
        words = [str(chain.get(key, "")) for key in ("family", "table", "name")]
        if (
            words[0] in _FAMILIES
            and chain.get("type") == "filter"
            and chain.get("hook") in (hooks or _HOOKS.get(words[0], _IP_HOOKS))
            and not (hooks and words[0] == "bridge")
            and words[:2] != ["inet", name]
            and (hooks or words[:2] != ["inet", "firewalld"])
            and all(_NAME.match(word) for word in words)
        ):
            opens = words[0] != "bridge" and chain.get("hook") == "forward"
            found.setdefault(" ".join(words[:2]), {})[words[2]] = opens
    return found


def _read_iptables(
    tool: str,
    families: tuple[int, ...],
    name: str,
    accepts: dict[Accept, tuple[int, ...]],
    chains: list[Forwarder],
    *,
    base: str = "FORWARD",
) -> bool:
    """Add to `accepts` and `chains` what `tool` prints of `base`; return whether it worked."""
    if not tool or shutil.which(tool, path=SEARCH) is None:
        return False
    # All chains of the table, because the chain may jump to any of them.
    result = run([tool, "-w", "-S"])
    if result.code != 0:
        return False
    lines = result.output.splitlines()
    for rule in parse_save(lines, tool, name):
        accepts[rule] = (*accepts.get(rule, ()), 0)
    rules = iptables.rules(lines, base, f"podnet:{name}")
    chains.append(Forwarder(tool, base, families, rules))
    return True


def legacy_program(program: str, usual: str) -> str:
    """Return the iptables-legacy program; some distributions have it under the name `usual`."""
    if shutil.which(program, path=SEARCH) or shutil.which(usual, path=SEARCH) is None:
        return program
    return program if "nf_tables" in run([usual, "-V"]).output else usual


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""

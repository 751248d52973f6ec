"""Read the chains of others on the forward hook, in nft and in both kinds of iptables."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Iterator

from ..forward import Forwarder, parse_chain, parse_save
from ..state import Accept
from .run import SEARCH, nft_document, run

#: What nft(8) can name. Names come from others, and go into batches and boot files of ours.
_NAME = re.compile(r"[A-Za-z0-9_./-]+\Z")

_FAMILIES = {"ip": (4,), "ip6": (6,), "inet": (4, 6)}

#: What iptables-nft(8) makes of its FORWARD chain -> the program that writes there.
_IPTABLES_NFT = {"ip filter FORWARD": "iptables-nft", "ip6 filter FORWARD": "ip6tables-nft"}

#: Family -> (program for the old tables, its usual name, where the kernel lists tables in use).
LEGACY = {
    4: ("iptables-legacy", "iptables", "/proc/net/ip_tables_names"),
    6: ("ip6tables-legacy", "ip6tables", "/proc/net/ip6_tables_names"),
}


def read(name: str) -> tuple[dict[Accept, tuple[int, ...]], list[Forwarder]]:
    """Return (rules of network `name` in chains of others -> nft handles, those chains).

    A rule of iptables has no handle: there is a 0 for each time that it stands there. Where there
    is no such chain, this costs one command.
    """
    accepts: dict[Accept, tuple[int, ...]] = {}
    chains: list[Forwarder] = []
    for family, chain in _base_chains(name):
        tool = _IPTABLES_NFT.get(chain, "")
        if tool and _read_iptables(tool, _FAMILIES[family], name, accepts, chains):
            continue
        if chain.startswith("inet firewalld "):
            # It locks its table and makes it anew: others.py has what it offers instead.
            continue
        argv = ["nft", "-j", "list", "chain", *chain.split(" ")]
        result = run(argv)
        if result.code == 0:
            drops, own = parse_chain(nft_document(argv, result.output), chain, name)
            accepts.update(own)
            chains.append(Forwarder("nft", chain, _FAMILIES[family], drops))
    for number, (program, usual, tables) in LEGACY.items():
        if "filter" in _text(tables).split():
            _read_iptables(legacy_program(program, usual), (number,), name, accepts, chains)
    return accepts, chains


def _base_chains(name: str) -> Iterator[tuple[str, str]]:
    """Yield (family, "FAMILY TABLE CHAIN") of filter chains on the forward hook but our own."""
    argv = ["nft", "-j", "list", "chains"]
    result = run(argv)
    if result.code != 0:
        return
    for entry in nft_document(argv, result.output).get("nftables", ()):
        chain = entry.get("chain", {})
        words = [str(chain.get(key, "")) for key in ("family", "table", "name")]
        if (
            chain.get("hook") == "forward"
            and chain.get("type") == "filter"
            and words[0] in _FAMILIES
            and words[:2] != ["inet", name]
            and all(_NAME.match(word) for word in words)
        ):
            yield words[0], " ".join(words)


def _read_iptables(
    tool: str,
    families: tuple[int, ...],
    name: str,
    accepts: dict[Accept, tuple[int, ...]],
    chains: list[Forwarder],
) -> bool:
    """Add what `tool` says of FORWARD; return whether it could say it."""
    if not tool or shutil.which(tool, path=SEARCH) is None:
        return False
    result = run([tool, "-w", "-S", "FORWARD"])
    if result.code != 0:
        return False
    drops, own = parse_save(result.output.splitlines(), tool, name)
    for rule in own:
        accepts[rule] = (*accepts.get(rule, ()), 0)
    chains.append(Forwarder(tool, "FORWARD", families, drops))
    return True


def legacy_program(program: str, usual: str) -> str:
    """Return the program for the old tables: some distributions have it under the plain name."""
    if shutil.which(program, path=SEARCH) or shutil.which(usual, path=SEARCH) is None:
        return program
    return program if "nf_tables" in run([usual, "-V"]).output else usual


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""

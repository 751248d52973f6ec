"""What the chains of a host do to one packet, podnet's own rules included."""

from __future__ import annotations

from typing import Any, Iterable, Sequence

from . import walk
from .forward import Forwarder
from .walk import Packet


def verdicts(chains: Iterable[Forwarder], packets: Sequence[Packet]) -> list[dict[str, Any]]:
    """Return ``{chain, drops, by, doubts}`` for each chain that the packets pass.

    `packets` are one packet by several protocols. `drops` are the protocols that the chain drops,
    `by` the rule that does, `doubts` the rules that may.
    """
    found = []
    for chain in chains:
        drops: list[str] = []
        by = ""
        doubts: dict[str, None] = {}
        mine = [one for one in packets if one.family in chain.families]
        for packet in mine:
            outcome = walk.walk(chain.rules, packet, with_own=True)
            if outcome.verdict == "drop":
                drops.append(packet.protocol)
                by = by or outcome.by
            else:
                doubts.update(dict.fromkeys(outcome.doubts))
        if mine:
            found.append({"chain": str(chain), "drops": drops, "by": by, "doubts": list(doubts)})
    return found

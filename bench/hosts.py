"""Playbooks on N hosts, as multiples of a playbook of one ping task."""

from __future__ import annotations

from .ground import Ground, ground
from .measure import Row, compared, say

ROUNDS = 3

_YARDSTICK = "the ping playbook"
_BOOTSTRAP, _NOTHING, _SWITCH, _VERIFY = "bootstrap", "nothing to do", "switch", "verify.yml"


def measure(hosts: int) -> list[Row]:
    """Bootstrap, run with nothing to do, switch, verify."""
    with ground(hosts) as here:
        rounds = [_round(here, number) for number in range(ROUNDS)]
    on = f"{hosts} hosts: "

    def row(what: str, parts: tuple[str, ...], target: float = 0.0) -> Row:
        pairs = [
            (sum(one[part][0] for part in parts), sum(one[part][1] for part in parts) / len(parts))
            for one in rounds
        ]
        return compared(on + what, pairs, _YARDSTICK, target)

    return [
        row("bootstrap", (_BOOTSTRAP,), 3),
        row("a run with nothing to do", (_NOTHING,), 1.4),
        row("switch vxlan to host-gw, proven on each host", (_SWITCH,), 4.5),
        row("verify.yml, every pair of pods", (_VERIFY,), 3),
        row("switch, then verify.yml", (_SWITCH, _VERIFY), 6),
    ]


def _round(here: Ground, number: int) -> dict[str, tuple[float, float]]:
    """Return step -> (its seconds, the ping playbook's around it)."""
    say(f"round {number + 1} of {ROUNDS}: bootstrap, nothing to do, switch, verify")
    here.set(podnet_backend="vxlan")
    here.reset()
    result = {}
    before = here.ping()
    for step, playbook in (
        (_BOOTSTRAP, "playbooks/site.yml"),
        (_NOTHING, "playbooks/site.yml"),
        (_SWITCH, "playbooks/site.yml"),
        (_VERIFY, "playbooks/verify.yml"),
    ):
        if step == _SWITCH:
            here.set(podnet_backend="host-gw")
        seconds = here.play(playbook)
        after = here.ping()
        result[step] = seconds, (before + after) / 2
        before = after
    return result

"""How a run goes on after all hosts were looked at: a pure function of what they said."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Sequence

NONE, CONVERGE, SWITCH = "none", "converge", "switch"


class Course(NamedTuple):
    """`mode`: nothing to do; every host on its own; or in three phases with barriers.

    `refusal` is why the run must not go on ("" if it may). `notes` are lines for the user.
    `unreachable` hosts are left out, and the run fails at its end.
    """

    mode: str
    refusal: str
    notes: list[str]
    unreachable: list[str]


def decide(
    nodes: Sequence[str],
    looked: Mapping[str, Any],
    limited: bool,
    forced: bool,
) -> Course:
    """Return how to go on.

    `nodes` are all hosts of the group; `looked` maps each host of this run to the result of
    `podnet_info` (with `pending`, `failed` or `unreachable`). `limited`: the run has a --limit;
    `forced`: the user wants a switch under it all the same.
    """
    wrong = failures(looked)
    if wrong:
        lines = ["Nothing was changed on any host, because of:", *wrong]
        return Course(NONE, "\n".join(lines), [], [])
    unreachable = sorted(host for host, seen in looked.items() if seen.get("unreachable"))
    pending = {host: seen["pending"] for host, seen in looked.items() if "pending" in seen}
    switching = sorted(host for host, counts in pending.items() if counts["switching"])
    missing = [host for host in nodes if host not in looked]
    notes: list[str] = []
    if switching:
        refusal = _refuse(switching, unreachable, missing if limited and not forced else [])
        return Course(SWITCH, refusal, notes, unreachable)
    touched = any(counts["total"] for counts in pending.values())
    if missing and touched:
        notes.append(
            f"Not in this run, so perhaps without its change: {_names(missing)}. "
            "Run again without --limit when they can be reached"
        )
    return Course(CONVERGE if touched else NONE, "", notes, unreachable)


def failures(results: Mapping[str, Any]) -> list[str]:
    """Return "host: message" for each result that failed."""
    lines = []
    for host, result in results.items():
        if result.get("failed") and not result.get("unreachable"):
            message = str(result.get("msg") or result.get("module_stderr") or "failed")
            lines.append(message if message.startswith(f"{host}:") else f"{host}: {message}")
    return lines


def _refuse(switching: Sequence[str], unreachable: Sequence[str], missing: Sequence[str]) -> str:
    """Return why a switch must not begin, "" if it may.

    Hosts left behind would keep the old backend while the others remove it.
    """
    if unreachable:
        return (
            f"{_names(switching)} must switch, and {_names(unreachable)} cannot be reached and "
            "would be cut off. Nothing was changed. Bring the host back, or take it out with "
            "playbooks/remove_node.yml, and run again"
        )
    if missing:
        return (
            f"{_names(switching)} must switch, and --limit leaves out {_names(missing)}, which "
            "would be cut off. Nothing was changed. Run without --limit, or set "
            "podnet_force_limited: true if you know why"
        )
    return ""


def _names(hosts: Sequence[str]) -> str:
    return ", ".join(hosts[:10]) + (f" and {len(hosts) - 10} more" if len(hosts) > 10 else "")

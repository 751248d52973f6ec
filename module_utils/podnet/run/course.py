"""How a run goes on, decided from what podnet_info returned on every host. Pure."""

from __future__ import annotations

from typing import Any, Callable, Mapping, NamedTuple, Sequence

from ..core import run_name
from ..core.text import listed
from .results import LEFT_OUT, NO_RESULT, failures

NONE, CONVERGE, SWITCH, REFUSE = "none", "converge", "switch", "refuse"


class Course(NamedTuple):
    """How a run goes on.

    `mode` is NONE (nothing to do), CONVERGE (each host by itself), SWITCH (all hosts together, in
    three phases) or REFUSE. `refusal` is why the run must not go on ("" if it may). `notes` are
    lines for the user. `unreachable` hosts are left out, and the run fails at its end. `over` are
    other runs that have ended without removing their claims from hosts. `hosts` are those that
    will be changed; each must report afterwards that it was (results.py). `detour`: a host cannot
    switch at once, so all switch to a device of another name and port first. `left_out` are hosts
    of the group that are not in this run, though it is not one of a host for itself.
    """

    mode: str
    refusal: str
    notes: list[str]
    unreachable: list[str]
    over: list[str]
    hosts: list[str]
    detour: bool = False
    left_out: Sequence[str] = ()


def decide(
    nodes: Sequence[str],
    looked: Mapping[str, Any],
    limited: bool,
    forced: bool,
    has_ended: Callable[[str, float], bool] = lambda _run, _idle: False,
    *,
    objections: Sequence[str] = (),
    alone: bool = False,
) -> Course:
    """Return how to go on.

    `nodes` are all hosts of the group; `looked` maps each host of this run to the result of
    `podnet_info` (with `pending`, `failed` or `unreachable`). `limited`: the run has a --limit;
    `forced`: the user wants a switch under it all the same. `has_ended` tells whether another run
    is over, from its name and the seconds since it last renewed its claim. `objections` are what
    hosts' records (objections.py) and the allocations file say against the plan. `alone`: the run
    is on its hosts themselves, as ansible-pull is, and reaches no other.
    """
    wrong = [*failures(looked), *_silent(looked), *objections]
    if wrong:
        lines = ["Nothing was changed on any host, because of:", *wrong]
        return Course(REFUSE, "\n".join(lines), [], [], [], [])
    unreachable = sorted(host for host, seen in looked.items() if seen.get("unreachable"))
    pending = {host: seen["pending"] for host, seen in looked.items() if "pending" in seen}
    switching = sorted(host for host, counts in pending.items() if counts["switching"])
    missing = [host for host in nodes if host not in looked]
    left_out = [] if alone else missing
    held = {host: seen["held"] for host, seen in looked.items() if seen.get("held")}
    refusal, over = others(held, has_ended)
    notes = _mtus({host: counts.get("mtu", 0) for host, counts in pending.items()})
    if switching:
        refusal = refusal or _refuse(
            switching, unreachable, missing if limited and not forced else [], alone
        )
    if refusal:
        return Course(REFUSE, refusal, notes, unreachable, over, [])
    if switching:
        detour = any(counts.get("detour") for counts in pending.values())
        return Course(SWITCH, "", notes, unreachable, over, list(pending), detour, left_out)
    left = {
        host: [one for one in counts.get("moving", ()) if one not in pending]
        for host, counts in pending.items()
    }
    if any(left.values()) and not forced:
        return Course(REFUSE, _left_behind(left), notes, unreachable, over, [])
    touched = [host for host, counts in pending.items() if counts["total"]]
    mode = CONVERGE if touched else NONE
    return Course(mode, "", notes, unreachable, over, touched, left_out=left_out)


def _left_behind(left: Mapping[str, Sequence[str]]) -> str:
    """Return why nodes that get another address must not be left out.

    `left`: host -> those whose old address it would forget.
    """
    moving = sorted({one for those in left.values() for one in those})
    hosts = [host for host, those in left.items() if those]
    return (
        f"Another address: {listed(moving)}, which this run does not reach. {listed(hosts)} would "
        "drop what comes from the old one (podnet_guard). Nothing was changed. Run for all hosts "
        "when they can be reached, or set podnet_force_limited: true if nothing uses the old "
        "address any more"
    )


def _mtus(mtus: Mapping[str, int]) -> list[str]:
    """Return a note, in a list, if pods do not get the same MTU on all hosts."""
    by_size: dict[int, list[str]] = {}
    for host, mtu in mtus.items():
        if mtu:
            by_size.setdefault(mtu, []).append(host)
    if len(by_size) < 2:
        return []
    shown = "; ".join(f"{mtu} on {listed(hosts)}" for mtu, hosts in sorted(by_size.items()))
    return [
        f"Pods' MTU differs among hosts: {shown}. Between them large packets depend on ICMP (path "
        f"MTU discovery); podnet_mtu: {min(by_size)} gives all the same"
    ]


def _silent(looked: Mapping[str, Any]) -> list[str]:
    """Return "host: reason" for each reachable host that podnet_info gave no result for."""
    return [
        f"{host}: {LEFT_OUT if seen.get('skipped') else NO_RESULT}"
        for host, seen in looked.items()
        if not seen.get("failed") and not seen.get("unreachable") and "pending" not in seen
    ]


def others(
    held: Mapping[str, Any], has_ended: Callable[[str, float], bool]
) -> tuple[str, list[str]]:
    """Return (why this run must not go on, "" if it may; the other runs that are over).

    `held` maps a host to the claim of another run there: {"run": its name, "idle": the seconds
    since it renewed the claim}. `has_ended` is as in `decide`.
    """
    over = sorted({one["run"] for one in held.values() if has_ended(one["run"], one["idle"])})
    return _at_work({host: one for host, one in held.items() if one["run"] not in over}), over


def _at_work(held: Mapping[str, Any]) -> str:
    """Return a message about the other runs that hold hosts, "" for none."""
    if not held:
        return ""
    by_run: dict[str, list[str]] = {}
    for host, one in held.items():
        by_run.setdefault(one["run"], []).append(host)
    shown = "; ".join(f"{run_name.by(run)} (on {listed(hosts)})" for run, hosts in by_run.items())
    return (
        f"Another run of podnet is at work: {shown}. Nothing was changed by this one. Run again "
        "when it has ended; if its controller died, it is forgotten "
        f"{run_name.LASTS / 60:.0f} minutes after its last call, or see docs/troubleshooting.md"
    )


def _refuse(
    switching: Sequence[str], unreachable: Sequence[str], missing: Sequence[str], alone: bool
) -> str:
    """Return why a switch must not begin, "" if it may.

    Hosts left behind would keep the old backend while the others remove it.
    """
    if unreachable:
        return (
            f"{listed(switching)} must switch, and {listed(unreachable)} cannot be reached and "
            "would be cut off. Nothing was changed. Bring the host back, or take it out with "
            "playbooks/remove_node.yml, and run again"
        )
    if missing and alone:
        return (
            f"{listed(switching)} must switch, and this run is on {listed(switching)} itself "
            f"without {listed(missing)}, which would be cut off. Nothing was changed. All hosts "
            "switch together: run site.yml of this commit from a controller that reaches all of "
            "them; until then this run is refused each time, and afterwards it has nothing to do"
        )
    if missing:
        return (
            f"{listed(switching)} must switch, and --limit leaves out {listed(missing)}, which "
            "would be cut off. Nothing was changed. Run without --limit, or set "
            "podnet_force_limited: true if you know why"
        )
    return ""

"""One call of the module podnet_network: the network, and in the last phase also what follows.

That is endpoints and CNI configuration, and the release of the run's claim on the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, NamedTuple, Sequence

from ..core.errors import PodnetError
from ..core.model import Plan
from ..keep import claim
from ..state.phases import ALL, COMMIT
from ..state.tally import add, tally
from . import converge, target

#: A result lists at most this many changes.
_MOST = 100


@dataclass(frozen=True)
class CallOptions:
    """What the module's options ask a call to do.

    `timeout` is how long a timed rollback waits for its confirmation, in seconds. `confirming`:
    this call confirms an earlier one. `attach`: endpoints and CNI, too. `run` is the run that the
    call belongs to, `over` are runs that have ended. `proof` is host -> what its call for `prepare`
    returned as proof, None for a switch without proof. `secrets` are as in `converge`.
    """

    phase: str
    check: bool
    timeout: int
    confirming: bool
    attach: bool
    run: str
    over: Sequence[str]
    proof: dict[str, Any] | None
    force_unproven: bool
    secrets: Mapping[str, str]


class Done(NamedTuple):
    """A module's result, its warnings, and its diffs as Ansible prints them."""

    result: dict[str, Any]
    warnings: list[str]
    diffs: list[dict[str, str]]


def present(plan: Plan, node: str, asked: CallOptions) -> Done:
    """Bring a host to the end of a phase of the plan. Raises PodnetError."""
    if not 1 <= asked.timeout <= 3600:
        raise PodnetError(f"rollback_timeout: {asked.timeout} is not between 1 and 3600 seconds")
    done = converge.converge(
        plan,
        node,
        asked.phase,
        asked.check,
        timeout=asked.timeout,
        confirming=asked.confirming,
        run=asked.run,
        over=asked.over,
        proof=asked.proof,
        force_unproven=asked.force_unproven,
        secrets=asked.secrets,
    )
    result = {
        **_result(done),
        "switching": done.switching,
        "armed": done.armed,
        "phase": asked.phase,
    }
    if done.proof:
        result["proof"] = done.proof
    diffs, warnings = [done.diff()], done.warnings
    # With a timed rollback armed, the call that confirms the change is the last, not this one.
    ends = asked.phase in (COMMIT, ALL) and not done.armed
    if asked.attach and ends:
        # Imported here, because a host loads all imports in every call, and other phases need
        # none of this.
        from . import attachments

        attached = attachments.converge(plan, node, done.mtu, asked.check)
        result["changed"] = done.changed or bool(attached.commands)
        result["count"] += len(attached.commands)
        result["changes"] = [*result["changes"], *attached.commands][:_MOST]
        result["tally"] = add(result["tally"], attached.tally)
        diffs += attached.diffs
        warnings = [*warnings, *attached.warnings]
    if asked.run and ends:
        claim.release(plan.name, asked.run)
    return Done(result, warnings, diffs)


def absent(name: str, check: bool, run: str, over: Sequence[str]) -> Done:
    """Remove a network from a host. Raises PodnetError."""
    done = converge.remove(name, check, run, over)
    return Done(_result(done), done.warnings, [done.diff()])


def _result(done: target.NetworkResult) -> dict[str, Any]:
    return {
        "changed": done.changed,
        "count": len(done.changes),
        "changes": target.commands(done.changes, _MOST),
        "tally": tally(done.changes),
    }

"""One call of podnet_network: the network, then what pods attach by, then the claim."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple, Sequence

from ..core.errors import PodnetError
from ..core.model import Plan
from ..keep import claim
from ..state.phases import ALL, COMMIT
from . import converge, target

#: Objects and files that a result names at most.
_MOST = 100


@dataclass(frozen=True)
class CallOptions:
    """What a call is asked to do, as the module's options have it.

    `timeout` is what a rollback waits for a confirmation, in seconds. `over` are runs that have
    ended. `proof` is what all hosts returned of theirs, None if nobody wants one.
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


class Done(NamedTuple):
    """A module's result, its warnings, and its diffs as Ansible prints them."""

    result: dict[str, Any]
    warnings: list[str]
    diffs: list[dict[str, str]]


def present(plan: Plan, node: str, asked: CallOptions) -> Done:
    """Bring a host to where the plan's phase leads. Raises PodnetError."""
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
    # A change that waits for its confirmation is not the end.
    ends = asked.phase in (COMMIT, ALL) and not done.armed
    if asked.attach and ends:
        # Imported here: the other phases need none of it, and a host compiles all that it imports.
        from . import attachments

        attached = attachments.converge(plan, node, done.mtu, asked.check)
        result["changed"] = done.changed or bool(attached.commands)
        result["count"] += len(attached.commands)
        result["changes"] = [*result["changes"], *attached.commands][:_MOST]
        diffs += attached.diffs
        warnings = [*warnings, *attached.warnings]
    if asked.run and ends:
        claim.release(plan.name, asked.run)
    return Done(result, warnings, diffs)


def absent(name: str, check: bool, run: str, over: Sequence[str]) -> Done:
    """Remove a network from a host. Raises PodnetError."""
    done = converge.remove(name, check, run, over)
    return Done(_result(done), done.warnings, [done.diff()])


def read_proof(text: str | None) -> dict[str, Any] | None:
    """Read what all hosts returned as proof; None if nobody wants one. Raises PodnetError."""
    if not text:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PodnetError(f"proof: no JSON ({error})") from error
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise PodnetError("proof: not what the hosts' calls with phase=prepare returned as proof")
    return found


def _result(done: target.NetworkResult) -> dict[str, Any]:
    return {
        "changed": done.changed,
        "count": len(done.changes),
        "changes": target.commands(done.changes, _MOST),
    }

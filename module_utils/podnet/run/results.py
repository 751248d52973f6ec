"""What Ansible registered: whether a host has done its part of a phase, or why not; its words.

Ansible registers something for every task: a skipped one leaves a dict (`skipped: true`), a task
that never ran leaves the result of an earlier phase, a lost host one with `unreachable: true`. So a
host has done its part only where the result names the phase, as podnet_network does when it ends
well, and is neither failed, skipped nor unreachable.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ..core.document import unpack_plan

LOST = "lost during the change, and it did not come back"
UNCONFIRMED = (
    "lost during the change; it came back, but the change could not be confirmed, so the host "
    "undoes it by itself"
)
NO_RESULT = "gave no result, so its state is not known"
LEFT_OUT = "was left out of this step"


def unfinished(
    registered: Mapping[str, Mapping[str, Any]], hosts: Sequence[str], phase: str
) -> list[str]:
    """Return "host: reason" for each of `hosts` that is not known to have ended `phase`.

    `registered` maps a host to its variables, of which `_podnet_changed`, `_podnet_back` and
    `_podnet_confirmed` count; `hosts` are those that were to be changed, whether or not Ansible
    still has them in the play.
    """
    lines = []
    for host in hosts:
        reason = why_not(registered.get(host, {}), phase)
        if reason:
            lines.append(reason if reason.startswith(f"{host}:") else f"{host}: {reason}")
    return lines


def why_not(variables: Mapping[str, Any], phase: str) -> str:
    """Return why a host is not known to have ended `phase`, "" if it has."""
    changed = variables.get("_podnet_changed")
    if not isinstance(changed, Mapping):
        return NO_RESULT
    if changed.get("unreachable") or (changed.get("armed") and not changed.get("failed")):
        # Lost, or about to undo the change unless it is confirmed (`armed`): only the host itself
        # can tell what was done, over a fresh connection.
        return _why_not_confirmed(variables, phase)
    return _why_not_done(changed, phase)


def _why_not_confirmed(variables: Mapping[str, Any], phase: str) -> str:
    confirmed, back = variables.get("_podnet_confirmed"), variables.get("_podnet_back")
    if isinstance(back, Mapping) and (back.get("unreachable") or back.get("failed")):
        return LOST
    if not isinstance(confirmed, Mapping) or confirmed.get("skipped"):
        return LOST
    if confirmed.get("unreachable") or confirmed.get("armed"):
        return UNCONFIRMED
    return _why_not_done(confirmed, phase)


def _why_not_done(result: Mapping[str, Any], phase: str) -> str:
    if result.get("skipped"):
        return LEFT_OUT
    if result.get("failed"):
        return said(result)
    if result.get("phase") != phase:
        # The result of an earlier phase, or not one of podnet_network.
        return NO_RESULT
    return ""


def failures(results: Mapping[str, Any]) -> list[str]:
    """Return "host: message" for each result that failed."""
    lines = []
    for host, result in results.items():
        if result.get("failed") and not result.get("unreachable"):
            message = said(result)
            lines.append(message if message.startswith(f"{host}:") else f"{host}: {message}")
    return lines


def said(result: Mapping[str, Any]) -> str:
    """Return the message of a failed result."""
    return str(result.get("msg") or result.get("module_stderr") or "failed")


def registered(
    hostvars: Mapping[str, Mapping[str, Any]], hosts: Sequence[str], name: str
) -> dict[str, Any]:
    """Return what each of `hosts` has registered as `name`; None stands for no answer."""
    return {str(host): hostvars[host].get(name) for host in hosts}


def document(given: Any) -> Any:
    """Return a plan as JSON types: Ansible may have made them of its text, or not."""
    return unpack_plan(given) if isinstance(given, str) else given

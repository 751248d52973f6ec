"""What a host's registered results mean: done only where a result says so itself."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from podnet.run import course, results

PHASE = "shift"
DONE = {"changed": True, "phase": PHASE, "armed": False}
LOST = {"unreachable": True, "msg": "Failed to connect to the host via ssh"}
FAILED = {"failed": True, "changed": False, "msg": "n1: broken"}
SKIPPED = {"changed": False, "skipped": True, "skip_reason": "Conditional result was False"}

CHANGED: dict[str, Any] = {
    "absent": ...,
    "none": None,
    "text": "ok",
    "empty": {},
    "done": DONE,
    "nothing to do": {**DONE, "changed": False},
    "of the phase before": {**DONE, "phase": "prepare"},
    "of another module": {"changed": True},
    "skipped": SKIPPED,
    "skipped, with what was before": {**DONE, "skipped": True},
    "unreachable": LOST,
    "failed": FAILED,
    "rescued": {**FAILED, "rescued": True},
    "failed while armed": {**FAILED, "armed": True},
    "a crash": {"failed": True, "module_stderr": "Killed", "rc": 137},
    "armed": {**DONE, "armed": True},
    "armed, then skipped": {**DONE, "armed": True, "skipped": True},
}
BACK: dict[str, Any] = {
    "absent": ...,
    "skipped": SKIPPED,
    "came back": {"changed": False, "elapsed": 3},
    "stayed away": {"failed": True, "msg": "timed out", "elapsed": 90},
    "unreachable": LOST,
}
CONFIRMED: dict[str, Any] = {
    "absent": ...,
    "none": None,
    "skipped": SKIPPED,
    "unreachable": LOST,
    "failed": FAILED,
    "of the phase before": {**DONE, "phase": "prepare"},
    "still armed": {**DONE, "armed": True},
    "confirmed": DONE,
}
#: What has to be asked again over a fresh connection.
OPEN = {"unreachable", "armed", "armed, then skipped"}


def is_done(changed: str, back: str, confirmed: str) -> bool:
    if changed in {"done", "nothing to do"}:
        return True
    returned = back not in {"stayed away", "unreachable"}
    return changed in OPEN and returned and confirmed == "confirmed"


@pytest.mark.parametrize("changed", CHANGED)
def test_a_host_is_done_only_if_it_says_so(changed: str) -> None:
    for back, confirmed in itertools.product(BACK, CONFIRMED):
        variables = {
            name: value
            for name, value in (
                ("_podnet_changed", CHANGED[changed]),
                ("_podnet_back", BACK[back]),
                ("_podnet_confirmed", CONFIRMED[confirmed]),
            )
            if value is not ...
        }
        lines = results.unfinished({"n1": variables}, ["n1"], PHASE)
        case = (changed, back, confirmed, lines)
        assert (lines == []) == is_done(changed, back, confirmed), case
        assert all(line.startswith("n1: ") and len(line) > 5 for line in lines), case


@pytest.mark.parametrize(
    ("changed", "back", "confirmed", "reason"),
    [
        ("absent", "absent", "absent", results.NO_RESULT),
        ("of the phase before", "absent", "confirmed", results.NO_RESULT),
        ("skipped", "absent", "absent", results.LEFT_OUT),
        ("unreachable", "stayed away", "skipped", results.LOST),
        ("unreachable", "stayed away", "confirmed", results.LOST),
        ("unreachable", "came back", "unreachable", results.UNCONFIRMED),
        ("armed", "skipped", "still armed", results.UNCONFIRMED),
        ("armed", "skipped", "failed", "broken"),
        ("failed", "absent", "confirmed", "broken"),
        ("a crash", "absent", "absent", "Killed"),
    ],
)
def test_the_reason_is_told(changed: str, back: str, confirmed: str, reason: str) -> None:
    variables = {
        "_podnet_changed": CHANGED[changed],
        "_podnet_back": BACK[back],
        "_podnet_confirmed": CONFIRMED[confirmed],
    }
    if changed == "absent":
        del variables["_podnet_changed"]
    assert results.unfinished({"n1": variables}, ["n1"], PHASE) == [f"n1: {reason}"]


def test_a_host_that_ansible_does_not_know_any_more_is_named() -> None:
    assert results.unfinished({"n1": {"_podnet_changed": DONE}}, ["n1", "n2"], PHASE) == [
        f"n2: {results.NO_RESULT}"
    ]


PENDING = {"pending": {"total": 0, "switching": False}}
SWITCHING = {"pending": {"total": 3, "switching": True}}


@pytest.mark.parametrize("silent", [{}, SKIPPED, {"changed": False}, {"rescued": True}])
def test_a_run_is_refused_when_a_host_was_not_looked_at(silent: dict[str, Any]) -> None:
    for other in (PENDING, SWITCHING):
        found = course.decide(["n1", "n2"], {"n1": other, "n2": silent}, False, False)
        assert found.mode == course.REFUSE
        assert "n2: " in found.refusal
        assert found.hosts == []

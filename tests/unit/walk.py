"""What each kind of case yields: a folder in, the content of its expected files out.

cases/KIND/CASE holds the input of the kind and what must come of it; docs of the files stand at
each function here. `tools/case.py KIND/CASE` prints what a case yields now.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from podnet import phases
from podnet.diff import changes
from podnet.state import State

from tests.unit import states

CASES = Path(__file__).parent / "cases"


class Kind(NamedTuple):
    """`needs` are the input files, `may` further ones that a case may do without."""

    walk: Callable[[Path], dict[str, Any]]
    needs: tuple[str, ...]
    may: tuple[str, ...] = ()


def diff(folder: Path) -> dict[str, Any]:
    """current.yml, desired.yml (states; "absent" is the empty one) -> changes.yml, revert.yml.

    `revert` is what a rollback does: the same call with the arguments exchanged. shown.txt, where
    it is there, is what a check prints of the changes.
    """
    current, desired = _state(folder / "current.yml"), _state(folder / "desired.yml")
    todo = changes(current, desired)
    # Who is there has nothing to do, however he came there.
    assert changes(current, current) == []
    assert changes(desired, desired) == []
    return {
        "changes.yml": states.lines(todo),
        "revert.yml": states.lines(changes(desired, current)),
        "shown.txt": states.shown(todo),
    }


def phase(folder: Path) -> dict[str, Any]:
    """current.yml, final.yml (states), host.yml (strict, held) -> phases.yml, all.yml.

    phases.yml has the commands of prepare, shift and commit, each from the state that the one
    before it has led to; all.yml those of a change without barriers.
    """
    current, final = _state(folder / "current.yml"), _state(folder / "final.yml")
    host = states.read(folder / "host.yml") if (folder / "host.yml").exists() else {}
    assert host.keys() <= {"strict", "held"}, host
    strict, held = host.get("strict") == "true", host.get("held", "")
    result = {}
    before, wanted = current, final
    for name in phases.PHASES[:3]:
        after = phases.target(before, wanted, name, strict, held)
        result[name] = states.lines(changes(before, after))
        # A run that comes again in this phase has nothing to do.
        again = phases.target(after, _seen_again(after, current, final), name, False, held)
        assert states.lines(changes(after, again)) == [], name
        before, wanted, strict = after, _seen_again(after, current, final), False
    assert changes(before, final) == []
    everything = changes(current, phases.target(current, final, phases.ALL, False, held))
    return {"phases.yml": result, "all.yml": states.lines(everything)}


def _seen_again(reached: State, current: State, final: State) -> State:
    """Return what a look in a later phase wants: renamed devices are known by their names now,
    and what an earlier phase has set for a while goes back.
    """
    wanted = final.copy()
    wanted.links = {name: link._replace(ifindex=0) for name, link in final.links.items()}
    for key in reached.sysctls.keys() - final.sysctls.keys():
        wanted.sysctls[key] = current.sysctls[key]
    return wanted


def _state(path: Path) -> State:
    data = states.read(path)
    return State() if data == "absent" else states.state(data)


KINDS = {
    "diff": Kind(diff, ("current.yml", "desired.yml", "changes.yml", "revert.yml"), ("shown.txt",)),
    "phases": Kind(phase, ("current.yml", "final.yml", "phases.yml"), ("host.yml", "all.yml")),
}


def cases() -> list[str]:
    """Return every case as KIND/CASE."""
    return [f"{kind}/{path.name}" for kind in KINDS for path in sorted((CASES / kind).iterdir())]


def check(case: str) -> None:
    """Hold what a case yields against what its folder says."""
    kind = KINDS[case.partition("/")[0]]
    folder = CASES / case
    there = {path.name for path in folder.iterdir()}
    assert set(kind.needs) <= there <= {*kind.needs, *kind.may}, sorted(there)
    actual = kind.walk(folder)
    for name in sorted(actual.keys() & there):
        if name.endswith(".yml"):
            assert actual[name] == states.read(folder / name), f"{case}/{name}"
        else:
            assert actual[name] == (folder / name).read_text(), f"{case}/{name}"


def show(case: str) -> str:
    """Return the content of a case's expected files as the code has it now."""
    kind = KINDS[case.partition("/")[0]]
    parts = []
    for name, data in kind.walk(CASES / case).items():
        text = states.write(data) if name.endswith(".yml") else data
        parts.append(f"# {name}\n{text}")
    return "\n".join(parts)

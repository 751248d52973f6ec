"""One run of the planner on the controller: read, plan, and write when something changed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any, Mapping, Sequence

from ..core.edition import NONE, Edition
from ..core.errors import PodnetError
from . import allocations_store as store
from . import plan_report
from .allocations_file import Allocations, digest, parse, render
from .inventory import Inventory, read_inventory
from .planning import PlanningResult, make_plan


def run(
    hosts: Sequence[Mapping[str, Any]],
    allocations_file: str = "",
    release: Sequence[str] = (),
    write: bool = True,
    wait: float = 10.0,
) -> dict[str, Any]:
    """Plan the network and keep its allocations; return the result of `podnet_plan`.

    Nothing is written when anything is wrong (PodnetError), when `write` is false, or when the
    file says already what it must say. `wait` is for how many seconds another run may hold it.
    """
    inventory = read_inventory(hosts, allocations_file)
    path = inventory.allocations_file
    before = store.load(path)
    outcome, after = _plan(inventory, before, release)
    if after != before and write:
        with store.locked(path, wait):
            # Another run may have carved subnets since the first look.
            again = store.load(path)
            if again != before:
                before = again
                outcome, after = _plan(inventory, before, release)
            if after != before:
                store.save(path, after)
    result = {**_result(outcome, path, before, after), "release": list(release)}
    if write:
        # There is nothing left to keep.
        result["keep"]["found"] = _hash(after)
    return result


def keep(kept: Mapping[str, Any], write: bool = True, wait: float = 10.0) -> dict[str, Any]:
    """Write the allocations that belong to a plan which `run` made without writing.

    `kept` is what `run` returned as "keep": the hosts were looked at with that plan's document, so
    nothing is planned again. Raises PodnetError, having written nothing, where the file has changed
    since: the plan would be another one by now.
    """
    path, found, text = (kept.get(key) for key in ("path", "found", "text"))
    if not isinstance(path, str) or not isinstance(found, str) or not isinstance(text, str):
        raise PodnetError("keep: not what podnet_plan returned as keep")
    before = store.load(path)
    _demand_same(path, before, found)
    changed = text not in ("", before)
    if changed and write:
        parse(text, path)
        with store.locked(path, wait):
            _demand_same(path, store.load(path), found)
            store.save(path, text)
    result: dict[str, Any] = {"changed": changed, "allocations_file": path}
    if changed:
        result["diff"] = _diff(path, before, text)
    return result


def _demand_same(path: str, text: str | None, found: str) -> None:
    if _hash(text) != found:
        raise PodnetError(
            f"{path}: changed since this run has read it, so its plan is not the one any more that"
            " the hosts were looked at with. Nothing was changed by this run; run again"
        )


def _hash(text: str | None) -> str:
    return "" if text is None else hashlib.sha256(text.encode()).hexdigest()


def _plan(
    inventory: Inventory, text: str | None, release: Sequence[str]
) -> tuple[PlanningResult, str]:
    """Return the plan and what the allocations file must say.

    A file that means the same keeps its text: people may order or comment it.
    """
    recorded = None if text is None else parse(text, inventory.allocations_file)
    outcome = make_plan(inventory, recorded, release)
    edition = _edition(recorded, outcome)
    outcome = replace(
        outcome,
        plan=replace(outcome.plan, edition=edition),
        allocations=replace(outcome.allocations, edition=edition),
    )
    if text and recorded and recorded == outcome.allocations and recorded.edition == edition:
        return outcome, text
    return outcome, render(outcome.allocations)


def _edition(recorded: Allocations | None, outcome: PlanningResult) -> Edition:
    """Return the edition of what the file must say.

    A digest that is not that of the file's lines tells that somebody has edited or merged them:
    that is another generation, too, so hosts do not take it for the one they know.
    """
    after = outcome.allocations
    said = digest(after)
    old = recorded.edition if recorded else NONE
    if recorded == after and (not old.id or old.digest == said):
        return old
    return Edition(old.id or _first_id(outcome, said), old.generation + 1, said)


def _first_id(outcome: PlanningResult, said: str) -> str:
    """Return the id of a network whose file is written for the first time.

    Made from all that tells it from others, the nodes' addresses above all, and not by chance: a
    check would else show another one than the run.
    """
    nodes = [[node.name, node.ip, node.ip6] for node in outcome.plan.nodes.values()]
    text = json.dumps([outcome.plan.name, said, nodes])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _diff(path: str, before: str | None, after: str) -> dict[str, str]:
    return {
        "before_header": path + ("" if before is not None else " (absent)"),
        "after_header": path,
        "before": before or "",
        "after": after,
    }


def _result(outcome: PlanningResult, path: str, before: str | None, after: str) -> dict[str, Any]:
    rows = plan_report.rows(outcome)
    result: dict[str, Any] = {
        "changed": before != after,
        # One string, the same for every host: a structure would be templated again for each.
        "document": json.dumps(outcome.plan.to_document(), separators=(",", ":")),
        "nodes": rows,
        "table": plan_report.table(rows),
        "summary": plan_report.summary(outcome),
        "notes": list(outcome.notes),
        "free": outcome.free,
        "direct": plan_report.direct_pairs(outcome),
        "allocations_file": path,
        "edition": outcome.plan.edition._asdict(),
        "keep": {"path": path, "found": _hash(before), "text": "" if before == after else after},
    }
    if before != after:
        result["diff"] = _diff(path, before, after)
    return result

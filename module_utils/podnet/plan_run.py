"""One run of the planner on the controller: read, plan, and write when something changed."""

from __future__ import annotations

import json
from typing import Any, Mapping, Sequence

from . import allocations_store as store
from . import plan_report
from .allocations_file import parse, render
from .inventory import Inventory, read_inventory
from .planning import Outcome, make_plan


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
    return _result(outcome, path, before, after)


def _plan(inventory: Inventory, text: str | None, release: Sequence[str]) -> tuple[Outcome, str]:
    """Return the plan and what the allocations file must say.

    A file that means the same keeps its text: people may order or comment it.
    """
    recorded = None if text is None else parse(text, inventory.allocations_file)
    outcome = make_plan(inventory, recorded, release)
    if text is not None and recorded == outcome.allocations:
        return outcome, text
    return outcome, render(outcome.allocations)


def _result(outcome: Outcome, path: str, before: str | None, after: str) -> dict[str, Any]:
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
    }
    if before != after:
        result["diff"] = {
            "before_header": path + ("" if before is not None else " (absent)"),
            "after_header": path,
            "before": before or "",
            "after": after,
        }
    return result

"""One run of the planner on the controller: read inventory and allocations, plan, write back."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any, Mapping, Sequence

from ..core.document import pack_plan
from ..core.edition import NONE, Edition
from ..core.errors import PodnetError
from . import allocations_store as store
from . import kubernetes, plan_report, routes
from .allocations_file import Allocations, digest, parse, render
from .inventory import Inventory, place, read_inventory
from .keeping import Alone, unkept
from .planning import PlanningResult, keyless, make_plan


def run(
    hosts: Sequence[Mapping[str, Any]],
    allocations_file: str = "",
    release: Sequence[str] = (),
    write: bool = True,
    *,
    wait: float = 10.0,
    keys: Mapping[str, str] | None = None,
    alone: Alone | None = None,
    kubernetes_nodes: kubernetes.NodesFile | None = None,
    patches: bool = False,
) -> dict[str, Any]:
    """Plan the network and write its allocations file; return the result of `podnet_plan`.

    `hosts` is as read_inventory takes it; `release` are hosts whose subnets are given free. Nothing
    is written when anything is wrong (PodnetError), when `write` is false, or when the file needs
    no change. `wait`: how many seconds to wait for another run that has locked the file. `keys`
    are public keys that hosts have told: host -> key. `alone` is set where the run is on the hosts
    themselves and leaves out others; what stands in the way of applying the plan then is "unkept",
    and nothing is written. `kubernetes_nodes` is what kubectl says of the nodes of a cluster,
    whose pod CIDRs are taken over; with `patches` the result has what gives it those of
    the plan.
    """
    inventory = read_inventory(hosts, allocations_file)
    path = inventory.allocations_file
    before = store.load(path)
    notes: list[str] = []
    if kubernetes_nodes:
        inventory, notes = _of_cluster(inventory, before, kubernetes_nodes)
    outcome, after = _plan(inventory, before, release, keys)
    missing = unkept(
        path,
        new=[name for name, state in outcome.states.items() if state == "new"],
        changed=after != before,
        keyless=keyless(outcome.plan),
        write=bool(inventory.values["allocations_write"]),
        alone=alone,
    )
    if missing and write:
        raise PodnetError(missing)
    if after != before and write:
        with store.locked(path, wait):
            # Another run may have carved subnets since the first look.
            again = store.load(path)
            if again != before:
                before = again
                outcome, after = _plan(inventory, before, release, keys)
            if after != before:
                store.save(path, after)
    outcome = replace(outcome, notes=(*outcome.notes, *notes))
    form = inventory.values["plan_routes"]
    result = {**_result(outcome, path, before, after, form), "release": list(release)}
    if patches:
        result["patches"] = kubernetes.patches(outcome.plan)
    result["unkept"] = missing
    result["may_write"] = alone is None and bool(inventory.values["allocations_write"])
    if write:
        # The file is written, so a later call of `keep` must find it as it is now.
        result["keep"]["found"] = _hash(after)
    return result


def _of_cluster(
    inventory: Inventory, text: str | None, nodes_file: kubernetes.NodesFile
) -> tuple[Inventory, list[str]]:
    nodes = kubernetes.read_nodes(nodes_file.text, nodes_file.path)
    recorded = None if text is None else parse(text, inventory.allocations_file)
    return kubernetes.pinned(inventory, nodes, recorded, nodes_file.path)


def keep(kept: Mapping[str, Any], write: bool = True, wait: float = 10.0) -> dict[str, Any]:
    """Write the allocations file for a plan that `run` made with write=False.

    `kept` is what `run` returned as "keep". The hosts were examined with that plan, so nothing is
    planned again. If the file has changed since, a new plan could be another one: then it raises
    PodnetError and writes nothing.
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


def forget(
    hosts: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    allocations_file: str = "",
    *,
    write: bool = True,
    wait: float = 10.0,
) -> dict[str, Any]:
    """Take the public keys of the hosts `names` out of the allocations file.

    Their private keys are gone, so the next run must ask for new ones. `hosts` is as in `run`, and
    the inventory need not be right. Raises PodnetError for a file that is damaged or locked.
    """
    path = allocations_file or next(
        (one for host in hosts if host.get("name") in names for one in (place(host),) if one), ""
    )
    before = store.load(path) if path else None
    after = before and _without_keys(before, path, names)
    changed = after != before
    if changed and write:
        with store.locked(path, wait):
            before = store.load(path) or ""
            after = _without_keys(before, path, names)
            store.save(path, after)
    result: dict[str, Any] = {"changed": changed, "allocations_file": path}
    if changed:
        result["diff"] = _diff(path, before, after or "")
    return result


def _without_keys(text: str, path: str, names: Sequence[str]) -> str:
    recorded = parse(text, path)
    left = {name: key for name, key in recorded.keys.items() if name not in names}
    if left == recorded.keys:
        return text
    after = replace(recorded, keys=left)
    old = recorded.edition
    if old.id:
        after.edition = Edition(old.id, old.generation + 1, digest(after))
    return render(after)


def _demand_same(path: str, text: str | None, found: str) -> None:
    if _hash(text) != found:
        raise PodnetError(
            f"{path}: changed since this run has read it, so its plan is not the one any more that"
            " the hosts were looked at with. Nothing was changed by this run; run again"
        )


def _hash(text: str | None) -> str:
    return "" if text is None else hashlib.sha256(text.encode()).hexdigest()


def _plan(
    inventory: Inventory,
    text: str | None,
    release: Sequence[str],
    keys: Mapping[str, str] | None = None,
) -> tuple[PlanningResult, str]:
    """Return the plan and the text that the allocations file must have.

    Where its content does not change it keeps its text: people may reorder or comment it.
    """
    recorded = None if text is None else parse(text, inventory.allocations_file)
    outcome = make_plan(inventory, recorded, release, keys)
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
    """Return the edition of the allocations after this plan.

    If the digest in the file is not that of its lines, somebody has edited or merged them by hand:
    then the generation grows, too, so that hosts do not take the file for the one they know.
    """
    after = outcome.allocations
    said = digest(after)
    old = recorded.edition if recorded else NONE
    if recorded == after and (not old.id or old.digest == said):
        return old
    return Edition(old.id or _first_id(outcome, said), old.generation + 1, said)


def _first_id(outcome: PlanningResult, said: str) -> str:
    """Return the id of a network whose file is written for the first time.

    It is a hash of what tells the network from others, its nodes' addresses above all. It is not
    random, because check mode must show the id that the run then writes.
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


def _result(
    outcome: PlanningResult, path: str, before: str | None, after: str, form: str
) -> dict[str, Any]:
    """Return what `run` returns; `form` is that of the routes, "" for none (routes.FORMS)."""
    rows = plan_report.rows(outcome)
    result: dict[str, Any] = {
        "changed": before != after,
        # A string, because Ansible would template a structure again for each host.
        "document": pack_plan(outcome.plan.to_document()),
        "nodes": rows,
        "table": plan_report.table(rows),
        "summary": plan_report.summary(outcome),
        "routes": routes.lines(outcome.plan, form) if form else [],
        "notes": list(outcome.notes),
        "free": outcome.free,
        "direct": plan_report.direct_pairs(outcome),
        "allocations_file": path,
        "edition": outcome.plan.edition._asdict(),
        "keyless": keyless(outcome.plan),
        "keep": {"path": path, "found": _hash(before), "text": "" if before == after else after},
    }
    if before != after:
        result["diff"] = _diff(path, before, after)
    return result

"""Static endpoints and the CNI configuration, for a call of podnet_network that includes both.

The modules `podnet_endpoint` and `podnet_cni` do one of the two. The code for endpoints is imported
only on hosts that have some, because a host loads all that a call imports.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Sequence

from ..cni import configuration
from ..cni.configuration import FileChange, Inspection
from ..core.model import Plan
from ..keep import record_file
from ..keep.files import LinkChange, MoveChange, TextChange
from ..keep.lock import held
from ..state.tally import Tally, add, count, tally

if TYPE_CHECKING:
    from ..endpoint.endpoint_run import EndpointResult


class Attached(NamedTuple):
    """What was or would be changed.

    `endpoints` and `cni` are numbers of changes; `cni` counts missing plugins, too. `commands` are
    the changes for people to read, `diffs` are as Ansible prints them. `tally` counts the objects.
    """

    endpoints: int
    cni: int
    commands: list[str]
    diffs: list[dict[str, str]]
    warnings: list[str]
    tally: Tally


def inspect(
    plan: Plan, name: str, mtu: int, install: str = "none", archive_dir: str = ""
) -> Attached:
    """Say what a run would change on node `name`; change nothing.

    `mtu` is what pods will have, in bytes; `install` and `archive_dir` are as in
    `cni.configuration.inspect`. Raises PodnetError for anything that prevents a run.
    """
    found = Attached(0, 0, [], [], [], {})
    addresses: list[str] = []
    if has_endpoints(plan, name):
        from ..endpoint import endpoint_run

        found = _of_endpoints(endpoint_run.inspect(plan, name, mtu=mtu))
        addresses = endpoint_run.addresses(plan, name)
    wanted = configuration.inspect(
        plan,
        name,
        mtu,
        endpoints=addresses,
        install=install,
        archive_dir=archive_dir,
        demand_plugins=install == "none",
    )
    return _with_cni(found, wanted)


def converge(plan: Plan, name: str, mtu: int, check: bool) -> Attached:
    """Make endpoints and CNI configuration as the plan wants them; the network must be there.

    With `check` only say what that would change once the network is there. `mtu` is what pods have,
    in bytes. Raises PodnetError.
    """
    if check:
        return inspect(plan, name, mtu)
    done = Attached(0, 0, [], [], [], {})
    addresses: list[str] = []
    if has_endpoints(plan, name):
        from ..endpoint import endpoint_run

        done = _of_endpoints(endpoint_run.converge(plan, name, None))
        addresses = endpoint_run.addresses(plan, name)
    with held(plan.name):
        wanted = configuration.inspect(plan, name, mtu, endpoints=addresses)
        configuration.apply(wanted, plan.name)
    return _with_cni(done, wanted)


def has_endpoints(plan: Plan, name: str) -> bool:
    """Whether the plan has endpoints for node `name`, or an earlier run has made some."""
    node = plan.nodes.get(name)
    return (
        bool(node and node.endpoints)
        or Path(record_file.directory(plan.name), "endpoints.json").exists()
    )


def _of_endpoints(done: EndpointResult) -> Attached:
    paths = [f"file: {change.path}" for change in done.files]
    number = len(done.changes) + len(done.files)
    counted = add(tally(done.changes), _tally_of_files(done.files))
    return Attached(number, 0, [*done.commands(), *paths], done.diff(), done.warnings, counted)


def _with_cni(done: Attached, wanted: Inspection) -> Attached:
    return done._replace(
        cni=len(wanted.changes) + len(wanted.missing),
        commands=[*done.commands, *(f"file: {change.path}" for change in wanted.changes)],
        diffs=[*done.diffs, *wanted.diff],
        warnings=[*done.warnings, *wanted.warnings],
        tally=add(done.tally, _tally_of_files(wanted.changes)),
    )


def _tally_of_files(changes: Sequence[FileChange]) -> Tally:
    counts = [0, 0, 0]
    for one in changes:
        if isinstance(one, (TextChange, LinkChange)):
            count(counts, old=one.before is not None, new=one.after is not None)
        else:
            count(counts, old=True, new=isinstance(one, MoveChange))
    return {"file": counts} if any(counts) else {}

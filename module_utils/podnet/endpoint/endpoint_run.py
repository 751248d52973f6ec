"""Static endpoints on one host: look, decide, change, look again.

The module `podnet_endpoint` calls this. `core.endpoints` decides which address an endpoint gets,
`state.endpoint_diff` what differs; `kernel.endpoints` reads and writes the kernel's objects.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Iterable

from ..core import endpoints
from ..core.endpoints import Entry
from ..core.errors import PodnetError
from ..core.model import Endpoint, Node, Plan
from ..core.state import Change
from ..keep import files, leases, record_file
from ..keep.files import TextChange
from ..keep.lock import held
from ..kernel import endpoints as edge
from ..kernel import run
from ..kernel.observe import read_links
from ..state import endpoint_diff
from ..state.desire import own_node
from ..state.endpoint_diff import Seen


@dataclass
class EndpointResult:
    """What a call did or, in check mode, would do.

    `entries` are the network's endpoints on this host after the call, by name.
    """

    changes: list[Change] = field(default_factory=list)
    files: list[TextChange] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether anything was or would be changed."""
        return bool(self.changes or self.files)

    def diff(self) -> list[dict[str, str]]:
        """Return the kernel's objects and the files before and after, as Ansible prints diffs."""
        objects = {
            "before": "".join(f"{one.before}\n" for one in self.changes if one.before),
            "after": "".join(f"{one.after}\n" for one in self.changes if one.after),
        }
        return ([objects] if self.changes else []) + files.diffs(self.files)

    def commands(self) -> list[str]:
        """Return the commands behind the changes, for people to read."""
        return [f"{change.tool} {line}" for change in self.changes for line in change.lines]


@dataclass
class _Look:
    """A host as it was found.

    `recorded` are its endpoints by the record; `seen` is what the kernel has of each endpoint in
    question; `owned` names the endpoints that are this network's.
    """

    recorded: dict[str, Entry]
    seen: dict[str, Seen]
    owned: set[str]


def path(name: str, file: str = "endpoints.json") -> str:
    """Return where a file about the endpoints of network `name` lies."""
    return f"{record_file.directory(name)}/{file}"


def load(name: str) -> dict[str, Entry]:
    """Return the recorded endpoints of network `name`; raise PodnetError on a damaged record."""
    return endpoints.parse(files.read_text(path(name)), path(name))


def addresses(plan: Plan, name: str) -> list[str]:
    """Return the addresses that the endpoints of node `name` have once they are as in the plan.

    It reads nothing but the record and host-local's leases, so it may be asked before that, too.
    """
    entries = _assign(plan, own_node(plan, name), 0, load(plan.name), None)
    return [address for entry in entries.values() for address, _other in entry.legs]


def _assign(
    plan: Plan, node: Node, mtu: int, recorded: dict[str, Entry], only: Endpoint | None
) -> dict[str, Entry]:
    return endpoints.assign(plan, node, mtu, recorded, leases.addresses(plan.name), only=only)


def inspect(plan: Plan, name: str, only: Endpoint | None = None, mtu: int = 0) -> EndpointResult:
    """Say what a run would change on node `name`; change nothing.

    `only` is one endpoint to look at, instead of the plan's list. `mtu` is the MTU in bytes that
    the bridge will have by then (0: the one that it has now); ends of endpoints that have the
    bridge's MTU now will have that one, too. Raises PodnetError for anything that prevents a run.
    """
    node = own_node(plan, name)
    run.demand_root()
    run.find("ip")
    links = read_links()
    bridge = next((one for one in links if one["ifname"] == plan.bridge), None)
    if bridge is None and not mtu:
        raise PodnetError(
            f"{node.name}: there is no bridge {plan.bridge} to attach endpoints to; run "
            "podnet_network first"
        )
    recorded = load(plan.name)
    now = int(bridge["mtu"]) if bridge else 0
    entries = _assign(plan, node, mtu or now, recorded, only)
    touched = [only.name] if only else [*entries, *(recorded.keys() - entries.keys())]
    found = _look(plan.name, recorded, touched)
    result = EndpointResult(entries=entries)
    for one in touched:
        if one not in entries:
            _add_removal(result, one, found)
    for one in touched:
        if one in entries:
            _demand_free(plan.name, node, entries[one], found)
            seen = found.seen[one]
            if mtu:
                _follow(seen, now, mtu)
            old = recorded.get(one)
            known = [plan.cluster_cidr, plan.cluster_cidr6]
            known += [old.subnet, old.subnet6] if old else []
            result.changes += endpoint_diff.changes(plan.name, entries[one], seen, known)
    result.files = _files(plan.name, entries)
    return result


def converge(plan: Plan, name: str, only: Endpoint | None) -> EndpointResult:
    """Bring the endpoints of node `name` to what the plan, or `only`, wants.

    Raises PodnetError. The changes made until then stay; they are recorded, and the next run
    completes them.
    """
    own_node(plan, name)
    run.demand_root()
    with held(plan.name):
        result = inspect(plan, name, only)
        if not result.changed:
            return result
        # Recorded before it is made: if this run dies, the next one knows of all that it left.
        _write(
            files.text_change(
                path(plan.name), endpoints.dump({**load(plan.name), **result.entries})
            )
        )
        edge.apply(result.changes)
        rest = inspect(plan, name, only).changes
        if rest:
            shown = "; ".join(
                f"wanted {one.after or 'none'}, found {one.before or 'none'}" for one in rest[:5]
            )
            raise PodnetError(
                f"{name}: after all changes an endpoint still differs: {shown}. Another tool may "
                "manage the same objects"
            )
        for change in _files(plan.name, result.entries):
            change.apply()
        record_file.note_version(plan.name)
        _prune(plan.name, result.entries)
    return result


def remove(name: str, only: str | None, check: bool) -> EndpointResult:
    """Remove the endpoint `only` of network `name`, or all if it is None; needs no plan.

    With `check`, only say what that would change. Raises PodnetError.
    """
    run.demand_root()
    run.find("ip")
    if check:
        return _removal(name, only)
    with held(name):
        result = _removal(name, only)
        edge.apply(result.changes)
        for change in result.files:
            change.apply()
        _prune(name, result.entries)
    return result


def _removal(name: str, only: str | None) -> EndpointResult:
    recorded = load(name)
    here = [one for network, one in edge.marked(read_links()).values() if network == name]
    names = list(dict.fromkeys([*recorded, *here])) if only is None else [only]
    found = _look(name, recorded, names)
    result = EndpointResult(entries={one: recorded[one] for one in recorded if one not in names})
    for one in names:
        _add_removal(result, one, found)
    result.files = _files(name, result.entries)
    return result


def _look(name: str, recorded: dict[str, Entry], names: Iterable[str]) -> _Look:
    links = read_links()
    marks = edge.marked(links)
    ours = set(recorded) | {one for network, one in marks.values() if network == name}
    # A device ep-NAME that is no veth, or that has another network's mark, is not this network's.
    for link in links:
        device = link["ifname"]
        mark = marks.get(device)
        kind = link.get("linkinfo", {}).get("info_kind")
        if device.startswith("ep-") and (kind != "veth" or (mark and mark[0] != name)):
            ours.discard(device[3:])
    return _Look(recorded, edge.observe(names, links), ours)


def _add_removal(result: EndpointResult, one: str, found: _Look) -> None:
    if one not in found.owned:
        return
    seen = found.seen[one]
    if seen.namespace == "there":
        running = edge.processes(one)
        if running:
            result.warnings.append(
                f"endpoint {one}: processes {', '.join(running[:5])} run in its namespace and "
                "have no network any more"
            )
    result.changes += endpoint_diff.removal(one, seen)


def _demand_free(name: str, node: Node, entry: Entry, found: _Look) -> None:
    """Raise PodnetError if a device or namespace that an endpoint needs is there and not ours."""
    seen = found.seen[entry.name]
    label = f"{node.name}: endpoint {entry.name}"
    for other in Path(files.STATE).glob("*/endpoints.json"):
        if other.parent.name != name and entry.name in load(other.parent.name):
            raise PodnetError(
                f"{label}: network {other.parent.name} has an endpoint of that name on this host, "
                "and a namespace's name is the host's; choose another one"
            )
    if entry.name not in found.owned:
        if seen.host:
            raise PodnetError(
                f"{label}: the host has a device {entry.device} that podnet did not make; remove "
                "or rename it, or choose another name for the endpoint"
            )
        if seen.namespace:
            raise PodnetError(
                f"{label}: the host has a namespace {entry.name} that podnet did not make; remove "
                f"it (ip netns del {entry.name}), or choose another name for the endpoint"
            )
    if seen.foreign:
        raise PodnetError(
            f"{label}: its namespace has a device {endpoint_diff.INNER} that is not connected to "
            f"{entry.device}; remove or rename it (ip -n {entry.name} link), and run again"
        )


def _follow(seen: Seen, now: int, mtu: int) -> None:
    """Give ends that have the bridge's MTU its future one: podnet_network will change them, too."""
    if seen.host and seen.host.mtu == now:
        seen.host = seen.host._replace(mtu=mtu)
    if seen.inner and seen.inner.mtu == now:
        seen.inner = replace(seen.inner, mtu=mtu)


def _files(name: str, entries: dict[str, Entry]) -> list[TextChange]:
    wanted: dict[str, str | None] = {"endpoints.json": endpoints.dump(entries)}
    texts = endpoint_diff.boot_files(name, entries)
    wanted.update({file: texts.get(file) for file in endpoint_diff.BOOT_FILES})
    found = [files.text_change(path(name, file), text) for file, text in wanted.items()]
    return [change for change in found if change]


def _write(change: TextChange | None) -> None:
    if change:
        change.apply()


def _prune(name: str, entries: dict[str, Any]) -> None:
    if not entries:
        files.prune_directories([record_file.directory(name)])

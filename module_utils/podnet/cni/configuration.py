"""The CNI configuration on a host: what it must be, what it is, and the changes between.

`inspect` only reads, so check mode can ask it what a run would do; `apply` makes exactly the
changes that `inspect` returned. What podnet wrote is recorded in /etc/podnet/NAME/cni.json: by
that, the old file is removed when the file name changes, and `inspect_absent` removes only what
podnet made.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterable, Sequence, Union

from ..core.errors import PodnetError, undone
from ..core.model import Node, Plan, pack
from ..keep import files, leases, record_file
from ..keep.files import LinkChange, MoveChange, TextChange, TreeRemoval
from ..kernel import adopt as flannel
from ..kernel.netns import interface_mtu
from . import cni_record, others, podman_file
from .chain import find_plugin, supported_versions
from .cni_record import CniRecord, is_archive_dir, read_record, record_path
from .conflist import best_version, conflist, plugin_types

__all__ = [
    "Inspection",
    "apply",
    "conflist",
    "inspect",
    "inspect_absent",
    "plugin_directories",
]

#: Where distributions put the plugins (Debian, Arch, SUSE; Fedora, RHEL, Alpine).
DISTRIBUTION_DIRS = ("/usr/lib/cni", "/usr/libexec/cni")

#: Where runtimes keep the results of ADD (libcni 1.x, 0.x).
_RUNTIME_CACHES = ("/var/lib/cni/results", "/var/lib/cni/cache")

#: Not in the chain, but a runtime (containerd) refuses to start pods without it.
_RUNTIME_PLUGIN = "loopback"

FileChange = Union[TextChange, LinkChange, MoveChange, TreeRemoval]


@dataclass
class Inspection:
    """What a host has, what it must have, and the ordered changes between them.

    `path` and `content` are the conflist's. `plugins` is plugin -> program, `missing` names those
    that were not found (then nothing else is known: `content` is "").
    """

    path: str = ""
    content: str = ""
    cni_version: str = ""
    mtu: int = 0
    plugins: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    changes: list[FileChange] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    present: bool = True

    @property
    def changed(self) -> bool:
        """Whether a run would change the host."""
        return bool(self.changes)

    @property
    def diff(self) -> list[dict[str, str]]:
        """The changes as Ansible's ``--diff`` prints them."""
        return files.diffs(self.changes)


def inspect(
    plan: Plan,
    node_name: str,
    mtu: int | None = None,
    *,
    reserved: Iterable[str] = (),
    endpoints: Iterable[str] | None = None,
    install: str = "none",
    archive_dir: str = "",
    demand_plugins: bool = True,
    predicted_mtu: Callable[[], int] | None = None,
) -> Inspection:
    """Return the changes that give this host, `node_name`, its CNI configuration; make none.

    `mtu` is the pods' MTU in bytes; None takes the plan's if it is a number, else that of the
    bridge as it is, else what `predicted_mtu` says it will be. `endpoints` are the addresses of
    static endpoints, which pods must not get; None reads them from
    /etc/podnet/NAME/endpoints.json. `reserved` are further ones. With `install` "package" or
    "archive", plugins that `podnet_cni_bin_dir` lacks are linked there; `archive_dir` is where an
    archive was unpacked.

    Raises PodnetError for anything that prevents the configuration from being written, and, with
    `demand_plugins`, for a missing plugin.
    """
    node = plan.nodes.get(node_name)
    if node is None:
        raise PodnetError(
            f"{node_name}: not in the plan of {plan.name!r}; the plan names the hosts of the "
            "group podnet_nodes"
        )
    if not plan.cni.conf_name.endswith(".conflist"):
        raise PodnetError(
            f"podnet_cni_conf_name: {plan.cni.conf_name!r} does not end in .conflist; runtimes "
            "read a chain of plugins from such files only"
        )
    if archive_dir and not is_archive_dir(archive_dir):
        raise PodnetError(f"archive_dir: {archive_dir!r} is no directory in {cni_record.ARCHIVES}")
    seen = Inspection(path=f"{plan.cni.conf_dir}/{plan.cni.conf_name}")
    record = read_record(plan.name)
    _demand_ours(seen.path, plan.name, record)
    taken = recorded_endpoints(plan.name) if endpoints is None else list(endpoints)
    way = _podmans_backend(plan, node, record, taken) if node.podman else ""
    # An archive that an earlier run unpacked is used until another one is given.
    archive_dir = archive_dir or record.archive_dir

    kinds = plugin_types(plan)
    directories = plugin_directories(plan, archive_dir)
    if install == "archive":
        directories = tuple(one for one in directories if one not in DISTRIBUTION_DIRS)
    for kind in kinds:
        # podnet's own link may lead into an earlier archive: look for the plugin in the new one.
        link = install == "archive" and f"{plan.cni.bin_dir}/{kind}" in record.links
        program = find_plugin(kind, directories[1:] if link else directories)
        if program is None:
            seen.missing.append(kind)
        else:
            seen.plugins[kind] = program
    if seen.missing:
        if demand_plugins:
            raise _missing_plugins(node_name, seen.missing, directories, install)
        return seen

    seen.mtu = _mtu(plan, node_name, mtu, predicted_mtu)
    seen.cni_version = best_version(supported_versions(sorted(set(seen.plugins.values()))))
    try:
        seen.content = conflist(plan, node, seen.mtu, [*reserved, *taken], seen.cni_version)
    except ValueError as error:
        raise PodnetError(f"{node_name}: reserved address: {error}") from error

    links = _links(plan, kinds, record, install, archive_dir)
    # flannel's configuration is removed, and not moved aside: flannel does not come back.
    adopted = dict(flannel.cni_configs(plan.cni.conf_dir)) if node.adopt else {}
    moves, told = _others(plan, seen.path, record, adopted)
    text = podman_file.content(way, plan, node, seen.mtu, directories) if way else ""
    for_podman, left = _podman(plan.name, record, way, text)
    seen.changes = _changes(
        plan, seen, record, links, archive_dir, way=way, moves=[*moves, *for_podman]
    )
    # It sorts before podnet's, so runtimes would use it. It goes when podnet's is in place.
    for path in adopted:
        _collect(seen, files.text_change(path, None))
    seen.warnings = [*told, *left, *_unseen_plugins(plan, seen.plugins, links)]
    return seen


def _changes(
    plan: Plan,
    seen: Inspection,
    record: CniRecord,
    links: dict[str, str],
    archive_dir: str,
    *,
    way: str,
    moves: Sequence[FileChange],
) -> list[FileChange]:
    """Return the ordered changes that lead to the configuration in `seen`.

    The record is written first, so that it names all that a run that dies leaves behind; links come
    before the configuration, which needs them; `moves` of others' configurations after it, so that
    a runtime has one at every moment. `way` is Podman's backend, "" where it gets nothing.
    """
    told = podman_file.path(way, plan.name) if way else ""
    wanted = CniRecord(seen.path, tuple(links), archive_dir, plan.cni.exclusive, told)
    steps: list[FileChange | None] = [
        files.text_change(record_path(plan.name), wanted.to_text()),
        *(files.link_change(path, target) for path, target in links.items()),
        files.text_change(seen.path, seen.content),
    ]
    if record.path not in ("", seen.path) and _network_of(record.path) == plan.name:
        steps.append(files.text_change(record.path, None))
    steps += moves
    stale = record.archive_dir
    if stale not in ("", archive_dir) and not _used_by_others(plan.name, stale):
        steps.append(files.tree_removal(stale))
    return [step for step in steps if step is not None]


def inspect_absent(name: str, plan: Plan | None = None) -> Inspection:
    """Return the changes that remove network `name`'s CNI files from this host; make none.

    `plan` is needed only where the record was lost: it names the configuration file then.
    """
    record = read_record(name)
    path = record.path or (f"{plan.cni.conf_dir}/{plan.cni.conf_name}" if plan else "")
    seen = Inspection(path=path, present=False)
    free = {path} if path and _network_of(path) == name else set()
    moves, seen.warnings = _put_back(name, {str(Path(path).parent)} if path else set(), free)
    # First, so that a runtime has a configuration at every moment, but for one that takes podnet's
    # place.
    seen.changes += [one for one in moves if not isinstance(one, MoveChange) or one.to != path]
    if path and Path(path).exists():
        if _network_of(path) == name:
            _collect(seen, files.text_change(path, None))
        elif record.path:
            seen.warnings.append(f"{path}: no longer holds network {name!r}; it was left alone")
    seen.changes += [one for one in moves if one not in seen.changes]
    for link in record.links:
        if Path(link).is_symlink() and not _used_by_others(name, link):
            _collect(seen, files.link_change(link, None))
    if record.archive_dir and not _used_by_others(name, record.archive_dir):
        _collect(seen, files.tree_removal(record.archive_dir))
    gone, left = _podman(name, record, "", "")
    seen.changes += gone
    seen.warnings += left
    # A probe pod ends with its run, or ended with the host that rebooted meanwhile.
    probes = {one.name for one in leases.of_probes(name)}
    held = [one for one in leases.addresses(name) if one not in probes]
    if held:
        seen.warnings.append(
            f"{leases.directory(name)}: pods still hold {len(held)} address(es) "
            f"({', '.join(held[:5])}{', ...' if len(held) > 5 else ''}); the directory was left "
            "for their removal"
        )
    else:
        _collect(seen, files.tree_removal(leases.directory(name)))
    _collect(seen, files.text_change(record_path(name), None))
    return seen


def apply(inspection: Inspection, name: str) -> None:
    """Make the changes that `inspect` or `inspect_absent` returned for network `name`.

    Raises PodnetError; then those that were made are undone, but for trees that were removed.
    """
    if inspection.present and inspection.changes:
        # host-local and the runtimes will make these if the host's first pod is podnet's: noted
        # now, they can be removed with the network.
        for path in (leases.DIRECTORY, *_RUNTIME_CACHES):
            files.note_missing_directories(path)
    done: list[FileChange] = []
    try:
        for change in inspection.changes:
            change.apply()
            done.append(change)
    except Exception as error:
        what = "All changes of the CNI configuration on this host"
        raise undone(error, lambda: _take_back(done), what) from error
    if inspection.present and inspection.changes:
        record_file.note_version(name)
    if not inspection.present:
        own = (f"{files.STATE}/{name}", cni_record.ARCHIVES, str(Path(cni_record.ARCHIVES).parent))
        files.prune_directories(own)


def _take_back(done: Sequence[FileChange]) -> None:
    for change in reversed(done):
        # What a run that died has left need not come back.
        if not isinstance(change, TreeRemoval) and files.beside(change.path):
            change.inverse().apply()


def _podmans_backend(plan: Plan, node: Node, record: CniRecord, endpoints: Sequence[str]) -> str:
    """Return by which backend Podman can use the network.

    Raises PodnetError if by none, and for a file in the place of podnet's that podnet did not
    write. What it did write is written anew, whatever it has become.
    """
    # Imported here, because a host loads all imports in every call, and most have no Podman.
    from . import podman

    drop_in = podman_file.path(podman_file.CNI, plan.name)
    found = podman.ask(drop_in, told=record.podman == drop_in)
    way = podman.backend(plan, node, found, endpoints)
    path = podman_file.path(way, plan.name)
    text = files.read_text(path)
    if text is not None and path != record.podman and not podman_file.is_ours(text):
        raise PodnetError(
            f"{path}: podnet_podman needs this file, and podnet did not write it; remove it, or "
            "set podnet_podman to false"
        )
    return way


def _podman(
    name: str, record: CniRecord, way: str, text: str
) -> tuple[list[FileChange], list[str]]:
    """Return the changes that tell Podman of network `name` by backend `way`, and warnings.

    `text` is the file's. Without a `way` Podman is told nothing, and what podnet wrote goes.
    """
    changes: list[FileChange | None] = []
    warnings = []
    wanted = podman_file.path(way, name) if way else ""
    for path in podman_file.paths(name):
        recorded = path == record.podman
        if path != wanted and not recorded and record.path:
            continue
        if path == wanted:
            changes.append(files.text_change(path, text))
            continue
        found = files.read_text(path)
        if found is not None and podman_file.is_ours(found):
            changes.append(files.text_change(path, None))
        elif recorded and found is not None:
            warnings.append(f"{path}: is no longer what podnet wrote; it was left alone")
    return [one for one in changes if one is not None], warnings


def plugin_directories(plan: Plan, archive_dir: str = "") -> tuple[str, ...]:
    """Return where plugins are looked up, in order: the runtimes' own directory comes first."""
    ours = (archive_dir,) if archive_dir else ()
    return tuple(dict.fromkeys((plan.cni.bin_dir, *ours, *DISTRIBUTION_DIRS)))


def recorded_endpoints(name: str) -> list[str]:
    """Return the addresses of this host's static endpoints, of both families.

    Raises PodnetError on a damaged record.
    """
    path = f"{files.STATE}/{name}/endpoints.json"
    text = files.read_text(path)
    if text is None:
        return []
    try:
        addresses = [
            str(one[key])
            for one in json.loads(text).values()
            for key in ("address", "address6")
            if one.get(key)
        ]
        for address in addresses:
            pack(address)
    except (ValueError, AttributeError, TypeError) as error:
        raise PodnetError(
            f"{path}: damaged ({error}); run podnet_endpoint to write it anew, or remove it"
        ) from error
    return addresses


def _collect(seen: Inspection, change: FileChange | None) -> None:
    if change is not None:
        seen.changes.append(change)


def _mtu(plan: Plan, node_name: str, mtu: int | None, predicted: Callable[[], int] | None) -> int:
    if mtu is not None:
        if not 576 <= mtu <= 65535:
            raise PodnetError(f"{node_name}: mtu: {mtu} is not between 576 and 65535")
        return mtu
    if plan.mtu.isdigit():
        return int(plan.mtu)
    found = interface_mtu(plan.bridge)
    if found is not None:
        return found
    if predicted is None:
        raise PodnetError(
            f"{node_name}: there is no bridge {plan.bridge} to take the MTU from; run "
            "podnet_network first"
        )
    return predicted()


def _demand_ours(path: str, name: str, record: CniRecord) -> None:
    """Raise PodnetError if the file `path` exists and holds no configuration of `name`."""
    if record.path == path or files.read_text(path) is None:
        return
    found = _network_of(path)
    if found != name:
        what = f"network {found!r}" if found else "no network configuration"
        raise PodnetError(
            f"{path}: holds {what}, not {name!r}, and podnet did not write it; remove it, or "
            "choose another podnet_cni_conf_name"
        )


def _network_of(path: str) -> str:
    """Return the name of the network that a CNI configuration file holds; "" if it holds none."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        return str(found.get("name", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def _missing_plugins(
    node_name: str, missing: Sequence[str], directories: Sequence[str], install: str
) -> PodnetError:
    way_out = {
        "none": "install the CNI plugins, or set podnet_cni_install to package or archive",
        "package": "the package named by podnet_cni_package does not hold them",
        "archive": "the archive at podnet_cni_url does not hold them",
    }[install]
    return PodnetError(
        f"{node_name}: CNI plugin {', '.join(missing)} not found in {', '.join(directories)}; "
        f"{way_out}"
    )


def _links(
    plan: Plan, kinds: Sequence[str], record: CniRecord, install: str, archive_dir: str
) -> dict[str, str]:
    """Return the links that podnet keeps in the runtimes' plugin directory: path -> program.

    Once made, a link stays until the network goes, whatever `install` says later: pods need it.
    A link that another podnet network made is kept by this one, too, so that it outlives that one.
    """
    sources = [one for one in plugin_directories(plan, archive_dir) if one != plan.cni.bin_dir]
    links: dict[str, str] = {}
    for kind in dict.fromkeys([*kinds, _RUNTIME_PLUGIN]):
        path = f"{plan.cni.bin_dir}/{kind}"
        ours = path in record.links or _used_by_others(plan.name, path)
        there = Path(path).exists() or Path(path).is_symlink()
        if ours and not Path(path).is_symlink() and there:
            continue  # Somebody put a real plugin there: it is theirs now.
        if ours or (install != "none" and not there):
            program = find_plugin(kind, sources)
            if program is not None:
                links[path] = program
    return links


def _used_by_others(name: str, thing: str) -> bool:
    """Whether another podnet network of this host recorded the link or directory `thing`."""
    return any(thing in one.links or thing == one.archive_dir for one in cni_record.others(name))


def _others(
    plan: Plan, ours: str, record: CniRecord, adopted: Iterable[str]
) -> tuple[list[FileChange], list[str]]:
    """Return the changes to configurations of others beside `ours`, podnet's, and warnings.

    `adopted` are files that go anyway. Raises PodnetError for one that cannot be moved aside.
    """
    here = plan.cni.conf_dir
    siblings = {one.path for one in cni_record.others(plan.name)}
    those = [one for one in others.read(here) if one.path not in {ours, record.path, *adopted}]
    moves: list[FileChange] = []
    if plan.cni.exclusive:
        known = record.exclusive or _keeps_aside(plan.name, here)
        for path in others.to_move(those, siblings):
            moves.append(_move_aside(path, known))
        those = [one for one in those if one.path not in {change.path for change in moves}]
    left = {here, record.directory} - {"", here if plan.cni.exclusive else ""}
    back, warnings = _put_back(plan.name, left, set(), adopted)
    those += [others.load(one.path, one.to) for one in back if isinstance(one, MoveChange)]
    those = sorted(one for one in those if str(Path(one.path).parent) == here)
    return [*moves, *back], [*warnings, *others.judge(plan.name, ours, those, siblings)]


def _keeps_aside(name: str, directory: str) -> bool:
    """Whether another podnet network of this host wants to be the only one in a directory."""
    return any(one.exclusive and one.directory == directory for one in cni_record.others(name))


def _move_aside(path: str, known: bool) -> MoveChange:
    """Return the change; `known`: podnet has moved files of that directory aside before.

    Then a file that is aside already is what `path` was before its owner wrote it again.
    """
    change = MoveChange(path, path + others.SUFFIX)
    if os.path.lexists(change.to) and not (known or _are_equal(path, change.to)):
        raise PodnetError(
            f"{change.to}: is in the way of podnet_cni_exclusive, which gives {path} this name; "
            "podnet did not write it: remove it, or give it another name"
        )
    return change


def _put_back(
    name: str, directories: Iterable[str], free: set[str], adopted: Iterable[str] = ()
) -> tuple[list[FileChange], list[str]]:
    """Return the changes that put back what network `name` has moved aside, and warnings.

    The paths in `free` will be. What is in `adopted` goes anyway.
    """
    changes: list[FileChange] = []
    warnings = []
    for directory in sorted(directories):
        for path in () if _keeps_aside(name, directory) else others.aside(directory):
            moved = path + others.SUFFIX
            if moved in adopted:
                continue
            if path in free or not os.path.lexists(path):
                changes.append(MoveChange(moved, path))
            elif _are_equal(path, moved):
                changes += filter(None, [files.text_change(moved, None)])
            else:
                warnings.append(
                    f"{moved}: podnet moved it aside, and meanwhile its owner has written {path} "
                    "anew; it was left, remove it if nobody needs it"
                )
    return changes, warnings


def _are_equal(one: str, other: str) -> bool:
    """Whether two regular files hold the same."""
    try:
        return files.read_text(one) == files.read_text(other)
    except PodnetError:
        return False


def _unseen_plugins(plan: Plan, plugins: dict[str, str], links: dict[str, str]) -> list[str]:
    """Return a warning when plugins are there, but not where runtimes look."""
    away = [
        kind
        for kind, program in plugins.items()
        if str(Path(program).parent) != plan.cni.bin_dir
        and f"{plan.cni.bin_dir}/{kind}" not in links
    ]
    if not away:
        return []
    where = ", ".join(sorted({str(Path(plugins[kind]).parent) for kind in away}))
    return [
        f"CNI plugin {', '.join(away)} found in {where}, not in {plan.cni.bin_dir}, where "
        "containerd and CRI-O look by default; set podnet_cni_install=package to have links "
        "made, or podnet_cni_bin_dir if your runtime looks elsewhere"
    ]

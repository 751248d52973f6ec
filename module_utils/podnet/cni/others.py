"""CNI configurations of others beside podnet's: which one a runtime takes, and which move aside.

containerd takes the file that sorts first (go-cni: ConfFiles, sort.Strings), and starts no pod if
that one is broken. CRI-O does, too, but leaves broken ones out, and takes another if
cni_default_network names it. Podman and Nomad ask for a network by its name.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any, Iterable, NamedTuple, Sequence

#: Names that runtimes read end so (libcni's ConfFiles).
EXTENSIONS = (".conf", ".conflist", ".json")

#: Ends the names of files that podnet has moved aside, so that no runtime reads them.
SUFFIX = ".podnet-disabled"

#: Plugins that hand pods to another network. Sorted first is where their file belongs.
_MULTUS = ("multus", "multus-shim")


class Other(NamedTuple):
    """A configuration that podnet did not write.

    `network` is its name, "" for none. `kinds` are the types of its plugins; without any, it is
    broken. `hands_to` are the names of networks or files to which Multus hands pods.
    """

    path: str
    network: str = ""
    kinds: tuple[str, ...] = ()
    hands_to: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.rpartition("/")[2]

    @property
    def is_multus(self) -> bool:
        """Whether it is Multus's, which hands pods to another network."""
        return any(kind in _MULTUS for kind in self.kinds)

    def what(self) -> str:
        """Return what it is, for people."""
        if not self.kinds:
            return "no network configuration that can be read"
        shown = ", ".join(self.kinds)
        return f"network {self.network!r} ({shown})" if self.network else f"a network ({shown})"


def parse(path: str, text: str) -> Other:
    """Return what the text of a configuration file is."""
    try:
        found = json.loads(text)
        chained = found.get("plugins")
        plugins = chained if isinstance(chained, list) else [found]
        kinds = [one.get("type") for one in plugins]
        hands_to = [
            one
            for plugin in plugins
            for one in [
                plugin.get("clusterNetwork"),
                *(delegate.get("name") for delegate in plugin.get("delegates") or ()),
            ]
        ]
    except (ValueError, AttributeError, TypeError):
        return Other(path)
    network = found.get("name")
    return Other(path, network if isinstance(network, str) else "", _words(kinds), _words(hands_to))


def _words(found: Iterable[Any]) -> tuple[str, ...]:
    words = (one for one in found if isinstance(one, str) and one)
    # They go into messages, and whoever wrote the file may have written anything.
    return tuple(one if one.isprintable() and len(one) < 100 else repr(one[:100]) for one in words)


def read(directory: str) -> list[Other]:
    """Return all configurations in a directory, in the order in which runtimes sort them."""
    return [load(path, path) for path in _files(directory, EXTENSIONS)]


def load(source: str, path: str) -> Other:
    """Return what the file at `source` is that has, or will have, the path `path`."""
    try:
        text = Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    return parse(path, text)


def aside(directory: str) -> list[str]:
    """Return the paths that files had which podnet has moved aside in a directory."""
    ends = tuple(one + SUFFIX for one in EXTENSIONS)
    return [path[: -len(SUFFIX)] for path in _files(directory, ends)]


def _files(directory: str, ends: tuple[str, ...]) -> list[str]:
    """Return paths of files and of links to files whose names end so; runtimes skip directories."""
    found = []
    try:
        for entry in Path(directory).iterdir():
            if entry.name.endswith(ends) and not stat.S_ISDIR(entry.lstat().st_mode):
                found.append(str(entry))
    except OSError:
        return []
    return sorted(found)


def first(ours: str, those: Sequence[Other]) -> str:
    """Return the path of the file that a runtime takes; `ours` is the path of podnet's."""
    return min([ours, *(one.path for one in those)])


def judge(name: str, ours: str, those: Sequence[Other], siblings: Iterable[str]) -> list[str]:
    """Return warnings where a runtime takes another file than `ours`, the path of podnet's.

    `name` is podnet's network, `siblings` are files of the host's other podnet networks.
    """
    said = [
        f"{one.path}: holds a network {name!r}, too, and podnet did not write it; remove it"
        for one in those
        if one.network == name and not one.is_multus
    ]
    before = [one for one in those if one.path < ours and one.network != name]
    if not before:
        return said
    top, *rest = before
    file = ours.rpartition("/")[2]
    if top.is_multus:
        return said + _of_multus(name, ours, top)
    more = f"; {', '.join(f'{one.name} ({one.what()})' for one in rest)} would be next"
    starts = f"{top.path}: sorts before {file}, so container runtimes take it: {top.what()}"
    if top.path in siblings:
        ways = "another podnet network of this host; podnet_cni_conf_name says which sorts first"
        return [*said, f"{starts}, {ways}"]
    broken = "" if top.kinds else " (containerd then starts no pod at all)"
    return [
        *said,
        f"{starts}{broken}{more if rest else ''}. Not podnet's network {name!r}. Ways out: "
        "podnet_cni_exclusive: true moves such files aside until reset.yml, podnet_cni_conf_name "
        "gives podnet's a name that sorts first, or remove them",
    ]


def _of_multus(name: str, ours: str, multus: Other) -> list[str]:
    """Return a warning unless Multus hands pods to podnet's network `name`, which is in `ours`."""
    file = ours.rpartition("/")[2]
    # As Multus reads clusterNetwork: a network, a file's path, its name without the end.
    if {name, file, file.rpartition(".")[0]} & {one.rpartition("/")[2] for one in multus.hands_to}:
        return []
    if not multus.hands_to:
        return [
            f"{multus.path}: Multus sorts first, as it should, and its file does not say to which "
            f"network it hands pods; podnet's is in {ours}"
        ]
    return [
        f"{multus.path}: Multus sorts first, as it should, and hands pods to "
        f"{', '.join(multus.hands_to)}, not to podnet's network {name!r}; name {ours} there "
        "(clusterNetwork), or let Multus make its file anew. podnet leaves it alone"
    ]


def to_move(those: Sequence[Other], keep: Iterable[str]) -> list[str]:
    """Return the paths that must go aside, so that podnet's is the only network.

    `keep` are podnet's own files and those that go anyway. Multus stays: it needs podnet's network,
    and pods may need Multus.
    """
    kept = set(keep)
    return [one.path for one in those if one.path not in kept and not one.is_multus]

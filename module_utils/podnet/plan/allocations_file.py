"""The text of the allocations file: read strictly, and written in one order only.

The file is YAML, but only YAML of this shape, one line a node, sorted by subnet: a change of one
node is a diff of one line. Reading it line by line needs no library (the controller's Python may
have none), is ten times faster than a YAML parser, and names the line of every mistake.

Ansible reads every file of an inventory directory as an inventory. To it, this one is a group
without hosts; in any other shape it would warn about every key.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Callable

from ..core.edition import NONE, Edition
from ..core.errors import PodnetError
from ..core.model import is_key, is_network_name, pack, split_cidr
from ..core.version import VERSION as PODNET
from . import checks
from .allocation import Pool

_VERSION = 1

_HEADER = """\
---
# Which node owns which subnet of the pod network. podnet writes this file; commit it.
# A node keeps its subnet for as long as its line is here, also after it left the inventory;
# site.yml -e podnet_release=NAME gives the subnet of such a node free.
# By id, generation and digest hosts tell an old copy of this file from the newest.
podnet_allocations:
  vars:
"""

# A host name that YAML reads as text without quotes: it begins with a letter, unlike 1e3 and 0x1f,
# and is none of the words that YAML reads as a truth value or null (_NOT_TEXT).
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*\Z", re.ASCII)
_NOT_TEXT = re.compile(r"(y|n|yes|no|on|off|true|false|null)\Z", re.IGNORECASE)

_KEYS = (
    "version",
    "network",
    "id",
    "generation",
    "digest",
    "cluster_cidr",
    "node_prefix",
    "cluster_cidr6",
    "node_prefix6",
    "nodes",
)

_END = r"[ ]*(?:[ ]#.*)?"
_STRING = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^']|'')*'"
_SETTING = re.compile(rf"    ([a-z_0-9]+):(?:[ ]+({_STRING}|[^ #\"'][^ ]*))?{_END}\Z")
_NODE = re.compile(rf"      ({_STRING}|[^ #\"'{{}}\[\]][^ ]*):[ ]+\{{([^{{}}]*)\}}{_END}\Z")
_SUBNET = re.compile(r"[ ]*(subnet6?):[ ]+([\"']?)([0-9a-f.:]+/[0-9]+)\2[ ]*\Z")
_KEY = re.compile(r"[ ]*key:[ ]+([\"'])([^\"']*)\1[ ]*\Z")
_NUMBER = re.compile(r"[0-9]{1,3}\Z", re.ASCII)
_GENERATION = re.compile(r"[1-9][0-9]{0,8}\Z", re.ASCII)


@dataclass
class Allocations:
    """The content of the file. `nodes` maps a host's name to (subnet, subnet6); "" is none.

    The CIDRs and prefix lengths are those that the subnets were carved from ("" and 0 without that
    family). `keys` maps nodes to their public keys, for a backend that has some. `edition`
    identifies this version of the file; comparisons leave it out.
    """

    network: str
    cluster_cidr: str = ""
    node_prefix: int = 0
    cluster_cidr6: str = ""
    node_prefix6: int = 0
    nodes: dict[str, tuple[str, str]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    edition: Edition = field(default=NONE, compare=False)


def digest(allocations: Allocations) -> str:
    """Return a hash of the file's content, 16 hex digits; comments and the edition do not count."""
    text = "\n".join([allocations.network, *_content(allocations)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def render(allocations: Allocations) -> str:
    """Return the text of the file."""
    lines = [f"    version: {_VERSION}", f"    network: {_quoted(allocations.network)}"]
    edition = allocations.edition
    if edition.id:
        lines.append(f'    id: "{edition.id}"')
        lines.append(f"    generation: {edition.generation}")
        lines.append(f'    digest: "{edition.digest}"')
    return _HEADER + "\n".join([*lines, *_content(allocations)]) + "\n"


def _content(allocations: Allocations) -> list[str]:
    """Return the file's lines after the edition: the cluster CIDRs and the nodes' subnets."""
    lines = []
    if allocations.cluster_cidr:
        lines.append(f"    cluster_cidr: {allocations.cluster_cidr}")
        lines.append(f"    node_prefix: {allocations.node_prefix}")
    if allocations.cluster_cidr6:
        lines.append(f'    cluster_cidr6: "{allocations.cluster_cidr6}"')
        lines.append(f"    node_prefix6: {allocations.node_prefix6}")
    lines.append("    nodes:" if allocations.nodes else "    nodes: {}")
    for name, (subnet, subnet6) in sorted(allocations.nodes.items(), key=_order):
        parts = [f"subnet: {subnet}"] if subnet else []
        parts += [f'subnet6: "{subnet6}"'] if subnet6 else []
        parts += [f'key: "{allocations.keys[name]}"'] if name in allocations.keys else []
        lines.append(f"      {_quoted(name)}: {{{', '.join(parts)}}}")
    return lines


def parse(text: str, path: str) -> Allocations:
    """Read the text of the file. Raises PodnetError with the line and the way out."""
    return _Reader(path).read(text)


def _order(item: tuple[str, tuple[str, str]]) -> tuple[bytes, bytes, str]:
    name, (subnet, subnet6) = item
    return (
        pack(subnet.partition("/")[0]) if subnet else b"",
        pack(subnet6.partition("/")[0]) if subnet6 else b"",
        name,
    )


def _quoted(name: str) -> str:
    if _PLAIN.match(name) and not _NOT_TEXT.match(name):
        return name
    return json.dumps(name, ensure_ascii=False)


def _unquoted(text: str) -> str:
    if text.startswith('"'):
        return str(json.loads(text))
    if text.startswith("'"):
        return text[1:-1].replace("''", "'")
    return text


class _Reader:
    """Reads the lines in order.

    `line` is the current one's number, `step` the method that reads it. `lines` maps a node to the
    number of its line.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.line = 0
        self.settings: dict[str, str] = {}
        self.nodes: dict[str, tuple[str, str]] = {}
        self.keys: dict[str, str] = {}
        self.key_owners: dict[str, str] = {}
        self.lines: dict[str, int] = {}
        self.step: Callable[[str], None] = self._outer

    def read(self, text: str) -> Allocations:
        for self.line, line in enumerate(text.split("\n"), 1):
            stripped = line.strip()
            if not stripped or stripped.startswith("#"):
                continue
            if line.startswith(("<<<<<<<", "=======", ">>>>>>>")):
                raise self._wrong("an unresolved merge: keep the lines of both sides that differ")
            self.step(line.rstrip("\r"))
        if "nodes" not in self.settings:
            raise self._wrong("the file ends before nodes:")
        allocations = self._header()
        self._check_subnets(allocations)
        return allocations

    def _wrong(self, what: str, line: int | None = None) -> PodnetError:
        return PodnetError(
            f"{self.path}: line {line or self.line}: {what}. podnet changes nothing while the file"
            " is damaged: correct it, or restore it from version control"
        )

    def _outer(self, line: str) -> None:
        if line in ("---", "podnet_allocations:"):
            return
        if line != "  vars:":
            raise self._wrong(f"expected 'podnet_allocations:' and '  vars:', not {_cut(line)}")
        self.step = self._setting

    def _setting(self, line: str) -> None:
        found = _SETTING.match(line)
        if not found or found[1] not in _KEYS:
            raise self._wrong(f"expected '    KEY: VALUE' with a known key, not {_cut(line)}")
        key, value = found[1], found[2] or ""
        if key in self.settings:
            raise self._wrong(f"{key} is there twice")
        self.settings[key] = self._text(value)
        if key == "version":
            # At once: what follows in another version is not damaged, but unknown.
            self._demand_version()
        if key == "nodes":
            if value not in ("", "{}"):
                raise self._wrong(f"nodes must be followed by one line for each, not {_cut(line)}")
            self.step = self._node

    def _node(self, line: str) -> None:
        found = _NODE.match(line)
        if not found or self.settings["nodes"]:
            raise self._wrong(f"expected '      NAME: {{subnet: CIDR}}', not {_cut(line)}")
        name = self._text(found[1])
        if name in self.nodes:
            raise self._wrong(f"{name} is there twice, first in line {self.lines[name]}")
        given = {"subnet": "", "subnet6": ""}
        self.lines[name] = self.line
        for part in found[2].split(","):
            key = _KEY.match(part)
            if key and name not in self.keys:
                self._take_key(name, key[2])
                continue
            pair = _SUBNET.match(part)
            if not pair or given[pair[1]]:
                raise self._wrong(f"{name} must have a subnet, a subnet6 or both, not {_cut(part)}")
            given[pair[1]] = pair[3]
        if not any(given.values()):
            raise self._wrong(f"{name} must have a subnet, a subnet6 or both")
        self.nodes[name] = (given["subnet"], given["subnet6"])

    def _take_key(self, name: str, key: str) -> None:
        if not is_key(key):
            raise self._wrong(f"{name}: {_cut(key)} is no public key (32 bytes in base64)")
        other = self.key_owners.setdefault(key, name)
        if other != name:
            raise self._wrong(
                f"{name} has the public key of {other}, first in line {self.lines[other]}"
            )
        self.keys[name] = key

    def _text(self, text: str) -> str:
        try:
            return _unquoted(text)
        except ValueError as error:
            raise self._wrong(f"{_cut(text)} is not a YAML string") from error

    def _demand_version(self) -> None:
        found = self.settings.get("version", "missing")
        if found != str(_VERSION):
            raise PodnetError(
                f"{self.path}: version {_cut(found)} of the file is not {_VERSION}, which this"
                f" podnet ({PODNET}) reads: use the podnet that wrote it, or a later one"
            )

    def _header(self) -> Allocations:
        settings = self.settings
        self._demand_version()
        if not is_network_name(settings.get("network")):
            raise self._wrong(f"network {_cut(settings.get('network', ''))} is not a name", 1)
        allocations = Allocations(
            settings["network"], nodes=self.nodes, keys=self.keys, edition=self._edition()
        )
        for family, suffix in ((4, ""), (6, "6")):
            cidr = settings.get("cluster_cidr" + suffix, "")
            prefix = settings.get("node_prefix" + suffix, "")
            if not cidr and not prefix:
                continue
            try:
                canonical = checks.cidr(family)(cidr)
            except ValueError as error:
                raise self._wrong(f"cluster_cidr{suffix}: {_cut(cidr)} {error}", 1) from error
            length = split_cidr(canonical)[1]
            most = 32 if family == 4 else 128
            if not _NUMBER.match(prefix) or not length <= int(prefix) <= most:
                raise self._wrong(
                    f"node_prefix{suffix}: {_cut(prefix)} must be from {length} to {most}", 1
                )
            setattr(allocations, "cluster_cidr" + suffix, canonical)
            setattr(allocations, "node_prefix" + suffix, int(prefix))
        return allocations

    def _edition(self) -> Edition:
        found = [self.settings.get(key, "") for key in ("id", "generation", "digest")]
        if found == ["", "", ""]:
            return NONE
        number = int(found[1]) if _GENERATION.match(found[1]) else 0
        edition = Edition(found[0], number, found[2])
        if not edition.is_valid():
            raise self._wrong(
                "id and digest must be 16 hexadecimal digits, and generation a number from 1, not"
                f" {_cut(', '.join(found))}",
                1,
            )
        return edition

    def _check_subnets(self, allocations: Allocations) -> None:
        """Demand one prefix length and no two equal subnets: then no two overlap."""
        for index, cidr, prefix in (
            (0, allocations.cluster_cidr, allocations.node_prefix),
            (1, allocations.cluster_cidr6, allocations.node_prefix6),
        ):
            pool = Pool.of(cidr, prefix) if cidr else None
            owners: dict[int, str] = {}
            for name, subnets in self.nodes.items():
                subnet = subnets[index]
                if not subnet:
                    continue
                if pool is None:
                    family = "6" if index else ""
                    raise self._wrong(
                        f"{name}: {subnet}, but no cluster_cidr{family}", self.lines[name]
                    )
                try:
                    number = pool.number_of(subnet)
                except ValueError as error:
                    raise self._wrong(f"{name}: {error}", self.lines[name]) from error
                if not pool.holds(number):
                    raise self._wrong(f"{name}: {subnet} is not inside {cidr}", self.lines[name])
                other = owners.setdefault(number, name)
                if other != name:
                    raise self._wrong(
                        f"{subnet} belongs to {other} and to {name}", self.lines[name]
                    )


def _cut(text: str) -> str:
    return checks.show(text.strip())

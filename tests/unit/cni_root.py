"""Directories that stand for a host's, for tests of the CNI configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from podnet.cni import cni_record, configuration
from podnet.core.model import Cni, Endpoint, Node, Plan
from podnet.keep import files, leases

VERSIONS = ["0.3.1", "0.4.0", "1.0.0"]


def names(directory: Path | str) -> list[str]:
    return sorted(entry.name for entry in Path(directory).iterdir())


class Root:
    """Directories that stand for the host's."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.conf = top / "etc" / "cni" / "net.d"
        self.bin = top / "opt" / "cni" / "bin"
        self.distribution = top / "usr" / "lib" / "cni"

    def plugin(
        self, name: str, directory: Path | None = None, versions: Sequence[str] = VERSIONS
    ) -> Path:
        path = (directory or self.distribution) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        answer = json.dumps({"cniVersion": "1.0.0", "supportedVersions": versions})
        path.write_text(f"#!/bin/sh\ncat >/dev/null\necho '{answer}'\n")
        path.chmod(0o755)
        return path

    def plugins(self, directory: Path | None = None) -> None:
        for name in ("bridge", "host-local", "portmap", "loopback"):
            self.plugin(name, directory)

    def plan(
        self, name: str = "podnet", conf_name: str = "10-podnet.conflist", mtu: str = "1450"
    ) -> Plan:
        node = Node(
            "n1", "192.0.2.11", 24, subnet="10.244.0.0/24", endpoints=(Endpoint("a", "10.244.0.9"),)
        )
        place = Cni(str(self.conf), conf_name, str(self.bin))
        return Plan(
            name, "10.244.0.0/16", "", "host-gw", {}, "cni0", mtu, True, 4, place, {"n1": node},
        )  # fmt: skip

    def tree(self) -> list[str]:
        return sorted(
            str(path.relative_to(self.top))
            for path in self.top.rglob("*")
            if self.distribution not in path.parents
        )


def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    """Return directories that podnet takes for the host's until the test ends."""
    root = Root(tmp_path)
    monkeypatch.setattr(files, "STATE", str(tmp_path / "etc" / "podnet"))
    monkeypatch.setattr(files, "DIRECTORIES", str(tmp_path / "etc" / "podnet" / "directories"))
    monkeypatch.setattr(configuration, "DISTRIBUTION_DIRS", (str(root.distribution),))
    monkeypatch.setattr(leases, "DIRECTORY", str(tmp_path / "var" / "lib" / "cni" / "networks"))
    monkeypatch.setattr(configuration, "_RUNTIME_CACHES", (str(tmp_path / "var/lib/cni/results"),))
    monkeypatch.setattr(cni_record, "ARCHIVES", str(tmp_path / "opt" / "podnet" / "cni"))
    (tmp_path / "etc").mkdir()
    (tmp_path / "opt").mkdir()
    (tmp_path / "var").mkdir()
    return root


def done(plan: Plan, **options: Any) -> configuration.Inspection:
    seen = configuration.inspect(plan, "n1", **options)
    configuration.apply(seen, plan.name)
    return seen


def removed(plan: Plan) -> configuration.Inspection:
    seen = configuration.inspect_absent(plan.name, plan)
    configuration.apply(seen, plan.name)
    return seen

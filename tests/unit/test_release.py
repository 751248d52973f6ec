"""A release: what must agree, and what is handed out."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tools import release
from tools.collection import podnet_version

DATED = "# Changelog\n\n## [1.2.0] - 2026-12-01\n\n## [1.1.0] - 2026-10-01\n"
UNRELEASED = "# Changelog\n\n## [Unreleased]\n\n## [1.1.0] - 2026-10-01\n"


@pytest.mark.parametrize(
    ("version", "changelog", "tags", "recorded", "changed", "said"),
    [
        ("1.2.0", DATED, {}, ["1.2.0"], "", []),
        ("1.2.0", DATED, {"v1.2.0": True, "v1.1.0": False}, ["1.2.0"], "", []),
        ("1.2.0-dev", UNRELEASED, {"v1.1.0": False}, [], "README.md", []),
        ("1.2.0", UNRELEASED, {}, ["1.2.0"], "", ["begins with Unreleased, not with 1.2.0"]),
        ("1.2.0", "", {}, ["1.2.0"], "", ["begins with nothing"]),
        ("1.2.0", DATED.replace(" - 2026-12-01", ""), {}, ["1.2.0"], "", ["has no date"]),
        ("1.2.0", DATED, {"v1.1.0": True}, ["1.2.0"], "", ["the tag v1.1.0 is not v1.2.0"]),
        ("1.2.0", DATED, {"v1.2.0": False}, ["1.2.0"], "", ["at another commit"]),
        ("1.2.0", DATED, {"here": True}, ["1.2.0"], "", []),
        ("1.2.0", DATED, {}, ["1.1.0"], "", ["recorded has no 1.2.0"]),
        ("1.2.0", DATED, {}, ["1.2.0"], "README.md", ["not committed: README.md"]),
        ("1.2.0-dev", DATED, {}, [], "", ["1.2.0-dev is not released"]),
        ("1.2.0-dev", UNRELEASED, {"v1.2.0": True}, [], "", ["the tag v1.2.0 is at 1.2.0-dev"]),
        (
            "1.3.0",
            DATED,
            {"v1.2.0": True},
            [],
            "x",
            ["begins with 1.2.0", "not v1.3.0", "no 1.3.0", "x"],
        ),
    ],
)
def test_what_must_agree(  # noqa: PLR0917
    version: str,
    changelog: str,
    tags: dict[str, bool],
    recorded: list[str],
    changed: str,
    said: list[str],
) -> None:
    found = release.disagreements(version, changelog, tags, recorded, changed)
    assert len(found) == len(said), found
    for line, words in zip(found, said, strict=True):
        assert words in line


def test_this_tree_agrees() -> None:
    """But for what is not committed: somebody is at work. The tree may have come without git."""
    found = [one for one in release.problems(podnet_version()) if "not committed" not in one]
    assert [one for one in found if "no git repository" not in one] == []


def test_what_is_handed_out(tmp_path: Path) -> None:
    version = podnet_version()
    file = release.build(tmp_path / "dist", version)
    assert sorted(one.name for one in file.parent.iterdir()) == [
        "SHA256SUMS",
        "execution-environment.yml",
        f"podnet-podnet-{version}.tar.gz",
    ]
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=file.parent, check=True)
    assert hashlib.sha256(file.read_bytes()).hexdigest() in release.sums(file.parent)
    definition = yaml.safe_load((file.parent / "execution-environment.yml").read_text())
    assert definition["dependencies"]["galaxy"]["collections"] == [
        {"name": file.name, "type": "file"}
    ]


def test_the_bootstrap_leaves_out_what_pip_does_not_know(tmp_path: Path) -> None:
    """It stands for get-pip.py, which takes two options more than pip does."""
    record = tmp_path / "pip"
    record.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    record.chmod(0o755)
    script = tmp_path / "get_pip.py"
    script.write_text(release._BOOTSTRAP.format(python=str(record)))
    command = [sys.executable, str(script), "--disable-pip-version-check", "pip==24.2"]
    done = subprocess.run([*command, "--no-wheel"], check=True, capture_output=True, text=True)
    assert done.stdout.split()[:3] == ["-m", "pip", "--python"]
    assert done.stdout.split()[4:] == ["install", "--disable-pip-version-check", "pip==24.2"]

"""What the documentation names is there: make targets, playbooks, files, variables, links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from podnet.keep import replay
from podnet.plan.variables import BY_NAME
from podnet.run import doctor_exports
from podnet.run.exports import METRICS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
IDS = [str(path.relative_to(ROOT)) for path in DOCUMENTS]

#: Not variables of an inventory: modules, roles and the group are named by files of that name.
NAMES = {"podnet_nodes", "podnet_allocations", "podnet_version"}
NAMES |= {path.stem for path in (ROOT / "library").glob("*.py")}
NAMES |= {path.stem for path in (ROOT / "filter_plugins").glob("*.py")}
NAMES |= {path.name for path in (ROOT / "roles").iterdir()}
NAMES |= {f"podnet_verify_{name}" for name in METRICS}
NAMES |= {f"podnet_doctor_{name}" for name in doctor_exports.METRICS}
NAMES |= {f"podnet_host_{name}" for name in re.findall(r"^ +gauge (\w+)", replay.SCRIPT, re.M)}

#: Misspelt on purpose, to show the error.
MISSPELT = {"podnet_backned"}

#: Directories of the project whose files documents name.
TOP = r"(?:playbooks|roles|library|module_utils|filter_plugins|tools|bench|tests|docs|lab|molecule)"

documents = pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)


@documents
def test_make_targets_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    # In running text "make" is a verb: only what is set as code counts.
    named = re.findall(
        r"^\s+(?:\$ )?make ([a-z-]+)|`make ([a-z-]+)", path.read_text(), re.MULTILINE
    )
    assert {one or other for one, other in named} <= targets


@documents
def test_files_of_the_project_exist(path: Path) -> None:
    named = re.findall(rf"(?<![\w/.]){TOP}/[\w./-]+\.(?:yml|py|md|svg)\b", path.read_text())
    assert [one for one in named if not (ROOT / one).exists()] == []


@documents
def test_playbooks_are_named_with_their_real_names(path: Path) -> None:
    named = set(re.findall(r"`((?:playbooks/)?[a-z_]+\.yml)`", path.read_text()))
    there = {one.name for one in (ROOT / "playbooks").glob("*.yml")}
    others = {"hosts.yml", "molecule.yml", "podnet_allocations.yml"}
    assert {one.removeprefix("playbooks/") for one in named} <= there | others


@documents
def test_core_files_exist(path: Path) -> None:
    """Documents name files of the core by their last part, in tables above which it stands."""
    where = [ROOT / "module_utils/podnet", ROOT]
    named = re.findall(r"`((?:[a-z_]+/)*[a-z_0-9]+\.py)`", path.read_text())
    assert [one for one in named if not any((top / one).exists() for top in where)] == []


@documents
def test_variables_exist(path: Path) -> None:
    named = set(re.findall(r"\bpodnet_[a-z0-9_]+", path.read_text()))
    assert named - BY_NAME.keys() - NAMES - MISSPELT == set()


@documents
def test_links_resolve(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text())
    local = [one for one in targets if not one.startswith(("https://", "mailto:"))]
    assert [one for one in local if not (path.parent / one).exists()] == []


@documents
def test_no_path_of_one_machine(path: Path) -> None:
    assert re.findall(r"(?:/home/|/root/|/work/|/Users/|/tmp/)\S*", path.read_text()) == []


def test_messages_refer_to_documents_that_exist() -> None:
    for source in [*(ROOT / "module_utils").rglob("*.py"), *(ROOT / "roles").rglob("*.yml")]:
        for one in re.findall(r"\bdocs/[a-z-]+\.md", source.read_text()):
            assert (ROOT / one).exists(), f"{source.relative_to(ROOT)} names {one}"


def test_every_document_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text()
    for path in (ROOT / "docs").glob("*.md"):
        assert path.name == "README.md" or f"({path.name})" in index, path.name


def test_the_execution_environment_has_what_a_controller_needs() -> None:
    defined = yaml.safe_load((ROOT / "docs/execution-environment.yml").read_text())["dependencies"]
    needed = (ROOT / "requirements.txt").read_text().split()
    assert sorted([defined["ansible_core"]["package_pip"], *defined["python"]]) == sorted(needed)

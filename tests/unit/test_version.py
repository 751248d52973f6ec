"""The version: one number in all places, and an older podnet that leaves a newer one's hosts alone."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from podnet.core.errors import PodnetError
from podnet.core.model import Plan
from podnet.core.state import State
from podnet.core.version import VERSION, is_newer, is_version, numbers
from podnet.host import target
from podnet.host.look import Look
from podnet.keep import files, record_file
from podnet.plan.allocations_file import Allocations, parse, render
from podnet.plan.plan_run import run
from podnet.state import record

from filter_plugins import podnet_course
from tests.kernel.netns_hosts import plan_document
from tools.collection import podnet_version

ROOT = Path(__file__).resolve().parents[2]
PATH = "/etc/podnet/podnet/record.json"
NEWER = f"{numbers(VERSION)[0]}.{numbers(VERSION)[1] + 1}.0"


@pytest.mark.parametrize(
    ("version", "than", "newer"),
    [
        ("0.9.0", "0.9.0", False),
        ("0.9.1", "0.9.0", True),
        ("0.10.0", "0.9.9", True),
        ("1.0.0", "0.99.99", True),
        ("0.9.0", "0.10.0", False),
        # A pre-release counts as its release, whichever comes first.
        ("0.9.0-rc.1", "0.9.0", False),
        ("0.9.0", "0.9.0-rc.1", False),
        ("0.9.1-dev", "0.9.0", True),
        ("0.9.0+build.7", "0.9.0", False),
        # From before there were versions.
        ("", "0.0.1", False),
        ("0.0.1", "", True),
    ],
)
def test_newer(version: str, than: str, newer: bool) -> None:
    assert is_newer(version, than) is newer


@pytest.mark.parametrize(
    "text", ["", "1", "1.0", "v1.0.0", "1.0.0.0", "01.0.0", "1.0.0-", "1.0.0\n", "1.0.0 x", None, 1]
)
def test_no_version(text: object) -> None:
    assert not is_version(text)


# The one number


def test_the_changelog_begins_with_it() -> None:
    """[Unreleased] comes first while the version ends in -dev, else the version itself."""
    assert is_version(VERSION)
    headings = re.findall(r"^## \[(.+?)\](.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    first, rest = headings[0]
    if VERSION.endswith("-dev"):
        assert (first, rest) == ("Unreleased", "")
        released = [one for one, _date in headings[1:]]
        assert all(is_newer(VERSION, one) for one in released)
    else:
        assert first == VERSION
        assert re.fullmatch(r" - \d{4}-\d{2}-\d{2}", rest)


def test_python_takes_it_from_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["dynamic"] == ["version"]
    assert podnet_version() == VERSION


def test_a_plan_has_it(tmp_path: Path) -> None:
    host = {"name": "n1", "podnet_node_ip": "192.0.2.11/24", "inventory_dir": str(tmp_path)}
    assert json.loads(run([host])["document"])["podnet_version"] == VERSION


def test_a_plan_of_a_newer_one_is_refused() -> None:
    document: dict[str, Any] = plan_document(2) | {"podnet_version": NEWER, "unknown": {}}
    with pytest.raises(PodnetError, match=rf"podnet {re.escape(NEWER)}.* older {VERSION}"):
        Plan.from_document(document)
    with pytest.raises(PodnetError, match="plan: podnet_version"):
        Plan.from_document(plan_document(2) | {"podnet_version": "new"})


# A host's record


def text(**fields: Any) -> str:
    known = record.Record("n1", {"backend": "vxlan"}, devices=["cni0"], cidrs=["10.244.0.0/16"])
    return json.dumps(json.loads(record.dump(known)) | fields)


def test_records_from_before_are_read() -> None:
    assert record.parse(text(), PATH).podnet_version == ""
    assert "podnet_version" not in text()
    for version in ("0.0.1", VERSION, VERSION.partition("-")[0]):
        assert record.parse(text(podnet_version=version), PATH).podnet_version == version


@pytest.mark.parametrize(
    "fields",
    [{}, {"a_new_field": [1]}, {"devices": {"another": "type"}}, {"phase": None}],
    ids=str,
)
def test_the_record_of_a_newer_one_is_not_read(fields: dict[str, Any]) -> None:
    """It is not called damaged either, although this version may not understand it."""
    with pytest.raises(PodnetError) as caught:
        record.parse(text(podnet_version=NEWER, **fields), PATH)
    said = str(caught.value)
    assert said.startswith(f"{PATH}: podnet {NEWER} has changed this host")
    assert f"the older podnet {VERSION}" in said
    assert f"Run podnet {NEWER} or later" in said


@pytest.mark.parametrize("version", ["new", 7, None, ["1.0.0"], "1.0.0\n"])
def test_no_version_in_a_record(version: object) -> None:
    with pytest.raises(PodnetError, match="damaged"):
        record.parse(text(podnet_version=version), PATH)


def states(known: str) -> tuple[Look, State, State]:
    """Return a host with this record, and as it must be: the record without a change."""
    seen = cast(Look, SimpleNamespace(plan=SimpleNamespace(name="podnet")))
    path = record_file.path("podnet")
    return seen, State(files={path: known}), State(files={path: known})


@pytest.mark.parametrize("version", ["", "0.0.1", VERSION])
def test_another_version_alone_is_no_change(version: str) -> None:
    known = record.dump(record.parse(text(podnet_version=version), PATH))
    seen, before, after = states(known)
    assert target.planned(seen, before, after) == []
    assert after == before


@pytest.mark.parametrize("version", ["", "0.0.1", VERSION])
def test_any_change_notes_the_version(version: str) -> None:
    known = record.dump(record.parse(text(podnet_version=version), PATH))
    seen, before, after = states(known)
    after.files["/etc/systemd/system/podnet@.service"] = "another\n"
    todo = target.planned(seen, before, after)
    written = after.files[record_file.path("podnet")]
    assert record.parse(written, PATH).podnet_version == VERSION
    assert {line for one in todo for line in one.lines} == {
        "/etc/systemd/system/podnet@.service",
        *([record_file.path("podnet")] if version != VERSION else []),
    }


def test_a_change_beside_the_record_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "STATE", str(tmp_path))
    monkeypatch.setattr(files, "DIRECTORIES", str(tmp_path / "directories"))
    monkeypatch.setattr(files, "LOCK", str(tmp_path / "lock"))
    record_file.note_version("podnet")
    assert not Path(record_file.path("podnet")).exists()
    record_file.save("podnet", record.parse(text(), PATH))
    record_file.note_version("podnet")
    known = record_file.load("podnet")
    assert known
    assert known.podnet_version == VERSION
    assert record_file.refusal("podnet") == ""
    for content, refused in (
        (text(podnet_version=NEWER, a_new_field=1), True),
        (text(podnet_version=VERSION), False),
        # What is damaged is told where it is read.
        ("{", False),
        ("[]", False),
    ):
        Path(record_file.path("podnet")).write_text(content)
        assert bool(record_file.refusal("podnet")) == refused, content


def test_a_removal_is_refused_for_all_hosts() -> None:
    reason = record.newer(NEWER, PATH)
    hostvars: dict[str, Any] = {
        "n1": {"_podnet_asked": {"claimed": True, "refused": ""}},
        "n2": {"_podnet_asked": {"claimed": False, "refused": reason}},
        "n3": {},
    }
    refusal = podnet_course.at_work(hostvars, ["n1", "n2", "n3"])["refusal"]
    assert refusal == f"Nothing was removed, because of:\nn2: {reason}"
    assert podnet_course.at_work(hostvars, ["n1", "n3"])["refusal"] == ""


# The allocations file


def test_allocations_of_a_newer_format_are_not_called_damaged() -> None:
    good = render(Allocations("podnet", "10.244.0.0/16", 24, nodes={"n1": ("10.244.0.0/24", "")}))
    newer = good.replace("    version: 1\n", "    version: 2\n    a_new_key: x\n")
    newer = newer.replace("{subnet: 10.244.0.0/24}", "[10.244.0.0/24]")
    with pytest.raises(PodnetError) as caught:
        parse(newer, "podnet_allocations.yml")
    said = str(caught.value)
    assert "damaged" not in said
    assert said.startswith("podnet_allocations.yml: version '2' of the file")
    assert VERSION in said

"""Files of earlier versions: today's code reads all of them, and knows all that it must remove."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from podnet.backends.base import HostTools
from podnet.backends.document import plan_from_text
from podnet.backends.registry import secrets_on
from podnet.cni import cni_record
from podnet.core import endpoints
from podnet.core.edition import Edition
from podnet.core.errors import PodnetError
from podnet.keep import boot, files, originals, record_file
from podnet.kernel.run import TOOLS
from podnet.plan.plan_run import run
from podnet.run.objections import objections
from podnet.state import knowledge, record
from podnet.state.record import DONE

from tests.upgrade import Recorded, recorded
from tests.upgrade.record import CASES

ALL = recorded()
cases = pytest.mark.parametrize("was", ALL, ids=str)
NAME = "podnet"


def planned(was: Recorded, directory: Path, allocations: str) -> dict[str, object]:
    """Plan with the inventory of that time, a lab's."""
    file = directory / "podnet_allocations.yml"
    file.write_text(allocations)
    hosts = [
        {"name": host, "podnet_node_ip": f"192.0.2.{11 + number}/24"}
        | {"inventory_dir": str(directory)}
        | was.variables
        for number, host in enumerate(was.hosts)
    ]
    result = run(hosts)
    assert file.read_text() == allocations
    return result


def test_each_version_has_all_cases() -> None:
    found: dict[str, set[str]] = {}
    for was in ALL:
        found.setdefault(was.version, set()).add(was.case)
    assert "unversioned" in found
    assert all(names == set(CASES) for names in found.values())
    assert all(len(was.hosts) == 2 for was in ALL)


@cases
def test_nothing_is_planned_anew(was: Recorded, tmp_path: Path) -> None:
    result = planned(was, tmp_path, was.allocations)
    assert not result["changed"]
    assert result["keyless"] == []
    assert {row["state"] for row in result["nodes"]} == {"kept"}  # type: ignore[attr-defined]


@cases
def test_no_host_objects_to_the_plan_or_takes_it_for_a_switch(
    was: Recorded, tmp_path: Path
) -> None:
    plan = plan_from_text(str(planned(was, tmp_path, was.allocations)["document"]))
    said = {}
    for host in was.hosts:
        path = record_file.path(NAME)
        known = record.parse(was.text(host, path) or "", path)
        assert (known.node, known.phase) == (host, DONE)
        assert record.is_reached(known, plan)
        noted = knowledge.note(plan, known)
        assert (noted.edition, noted.nodes) == (known.edition, known.nodes)
        said[host] = knowledge.testify(plan, known)
    assert all(said.values())
    assert objections(plan.edition, "podnet_allocations.yml", (), said) == []
    # So would they to an older file.
    older = Edition(plan.edition.id, plan.edition.generation, "0" * 16)
    assert len(objections(older, "podnet_allocations.yml", (), said)) == 1


@cases
def test_a_reset_knows_all_files(was: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is read where a removal reads it, and none lies where no removal looks."""
    for host, there in was.hosts.items():
        monkeypatch.setattr(files, "read_text", lambda path, host=host: was.text(host, path))
        # Own units of this machine's would be found.
        monkeypatch.setattr(Path, "glob", glob_of(list(there)))
        known = record_file.load(NAME)
        assert known
        assert all(NAME in entry["networks"] for entry in originals.load().values())
        tools = host_tools(was, host)
        attached = cni_record.read_record(NAME)
        held = endpoints.parse(
            was.text(host, f"/etc/podnet/{NAME}/endpoints.json"), "endpoints.json"
        )
        assert list(held) == [one["name"] for one in was.variables.get("podnet_endpoints", [])]
        removed = {
            record_file.path(NAME),
            cni_record.record_path(NAME),
            attached.path,
            originals.PATH,
            files.DIRECTORIES,
            boot.top(NAME),
            *boot.own_paths(NAME),
            *secrets_on(NAME, tools),
            *(f"/etc/podnet/{NAME}/{file}" for file in ("endpoints.json", *ENDPOINT_FILES)),
        }
        states = f"{boot.top(NAME)}."
        left = [path for path in there if path not in removed and not path.startswith(states)]
        assert left == []


ENDPOINT_FILES = ("endpoints.batch", "endpoints-inside.batch")


def host_tools(was: Recorded, host: str) -> HostTools:
    """Return tools that read the recorded files."""

    def text(path: str) -> str | None:
        return was.text(host, path)

    def names(top: str) -> list[str]:
        return [Path(path).name for path in was.hosts[host] if str(Path(path).parent) == top]

    return TOOLS._replace(text=text, names=names, output=lambda *_: None)


def glob_of(there: list[str]) -> Callable[[Path, str], list[Path]]:
    """Return a stand-in for Path.glob that finds these paths."""

    def glob(self: Path, pattern: str) -> list[Path]:
        return [Path(one) for one in there if Path(one).match(f"{self}/{pattern}")]

    return glob


@cases
def test_an_older_one_would_be_refused(was: Recorded) -> None:
    """What is recorded is readable, and no longer is once a newer podnet has been there."""
    for host in was.hosts:
        fields = json.loads(was.text(host, record_file.path(NAME)) or "")
        with pytest.raises(PodnetError, match=r"podnet 99\.0\.0 has changed this host"):
            record.parse(json.dumps(fields | {"podnet_version": "99.0.0"}), "record.json")

"""The table that a run ends with: equal hosts in one row, and who is not in it is named."""

from __future__ import annotations

from typing import Any

import pytest
from podnet.core.state import Change
from podnet.run import closing
from podnet.state.tally import tally

COURSE: dict[str, Any] = {"mode": "converge", "hosts": [], "unreachable": [], "notes": []}
BUILT = {"link": [2, 0, 0], "route": [2, 0, 0]}
MENDED = {"route": [0, 1, 0]}

#: What the run knows -> the lines that it ends with.
TABLES: dict[str, tuple[closing.Told, list[str]]] = {
    "nothing to do": (
        closing.Told(COURSE, ["n1", "n2"], {}, {}),
        ["Nothing to change on 2 hosts: n1, n2"],
    ),
    "equal hosts share a row": (
        closing.Told(COURSE, ["n1", "n2", "n3"], {"all": {"n1": BUILT, "n2": BUILT, "n3": {}}}, {}),
        [
            "Changed 2 of 3 hosts (+ added, ~ replaced, - removed):",
            "HOSTS   DEVICES  ROUTES",
            "n1, n2  +2       +2",
            "Nothing to change on n3",
        ],
    ),
    "a check of a repair": (
        closing.Told(COURSE, ["n1", "n2"], {"all": {"n2": MENDED}}, {}, check=True),
        [
            "Would change 1 of 2 hosts (+ to add, ~ to replace, - to remove):",
            "HOSTS  ROUTES",
            "n2     ~1",
            "Nothing to change on n1",
            "No switch; traffic will shift where routes are replaced: n2",
        ],
    ),
    "a check of a first run": (
        closing.Told(COURSE, ["n1"], {"all": {"n1": BUILT}}, {}, check=True),
        [
            "Would change 1 of 1 host (+ to add, ~ to replace, - to remove):",
            "HOSTS  DEVICES  ROUTES",
            "n1     +2       +2",
            "No switch, and no route is replaced",
        ],
    ),
    "a switch by phases": (
        closing.Told(
            COURSE | {"mode": "switch"},
            ["n1"],
            {"prepare": {"n1": BUILT}, "shift": {"n1": MENDED}, "commit": {"n1": {}}},
            {},
            check=True,
        ),
        [
            "Would change 1 of 1 host (+ to add, ~ to replace, - to remove):",
            "PHASE    HOSTS  DEVICES  ROUTES",
            "prepare  n1     +2       +2",
            "shift    n1              ~1",
            "Traffic will shift: a switch, on all hosts together, in three phases (prepare, shift, "
            "commit)",
        ],
    ),
    "stopped": (
        closing.Told(
            COURSE | {"mode": "switch", "hosts": ["n1", "n2"]},
            ["n1", "n2"],
            {"prepare": {"n1": MENDED}},
            {},
            "prepare",
        ),
        [
            "Changed 1 of 2 hosts (+ added, ~ replaced, - removed):",
            "HOSTS  ROUTES",
            "n1     ~1",
            "Not known to have ended 'prepare': n2",
        ],
    ),
    "who was not reached, or is not in the run": (
        closing.Told(
            COURSE | {"unreachable": ["n2"], "left_out": ["n3"], "notes": ["a note"]},
            ["n1", "n2"],
            {"all": {"n1": MENDED}},
            {"n1": 2},
        ),
        [
            "Changed 1 of 2 hosts (+ added, ~ replaced, - removed):",
            "PHASE   HOSTS  ROUTES  CHANGES",
            "all     n1     ~1",
            "attach  n1             2",
            "Not reached, so without this run's changes: n2",
            "Not in this run, so perhaps without its change: n3. Run again without --limit when "
            "they can be reached",
            "a note",
        ],
    ),
}


@pytest.mark.parametrize("case", TABLES)
def test_what_a_run_ends_with(case: str) -> None:
    told, expected = TABLES[case]
    assert closing.lines(told) == expected


def test_a_host_that_did_not_end_its_phase_has_done_nothing() -> None:
    ended: dict[str, Any] = {"phase": "shift", "tally": MENDED}
    registered: dict[str, dict[str, Any]] = {
        "n1": {"_podnet_changed": ended},
        "n2": {"_podnet_changed": ended | {"failed": True}},
        "n3": {"_podnet_changed": {"unreachable": True}},
        "n4": {"_podnet_changed": ended | {"armed": True}, "_podnet_confirmed": ended},
    }
    before = {"prepare": {"n1": BUILT}}
    done = closing.noted(registered, [*registered, "n5"], "shift", before)
    assert done == before | {"shift": {"n1": MENDED, "n4": {"route": [0, 2, 0]}}}


#: Changes as (tool, before, after) -> their tally.
TALLIES: dict[str, tuple[list[tuple[str, str, str]], dict[str, list[int]]]] = {
    "none": ([], {}),
    "a device made anew": (
        [("ip", "link a type x", ""), ("ip", "", "link a type y")],
        {"link": [0, 1, 0]},
    ),
    "a device made in two": (
        [("command", "", "link a made"), ("ip", "", "link a type y")],
        {"link": [1, 0, 0]},
    ),
    "objects": (
        [
            ("ip", "", "route a"),
            ("ip", "route b via c", "route b via d"),
            ("ip", "route c", ""),
            ("bridge", "", "fdb a"),
            ("boot", "", "file a"),
            ("file", "file b", "file b"),
        ],
        {"route": [1, 1, 1], "fdb": [1, 0, 0], "file": [1, 1, 0]},
    ),
    "a table": ([("nft", "x\ny", "y\nz\nw"), ("nft", "", "e")], {"firewall": [3, 0, 1]}),
    "what flannel left": ([("tree", "files of flannel's", "")], {"other": [0, 0, 1]}),
}


@pytest.mark.parametrize("case", TALLIES)
def test_how_many_objects_change(case: str) -> None:
    changes, expected = TALLIES[case]
    assert tally(Change(tool, (), old, new) for tool, old, new in changes) == expected

"""How many addresses of a node pods use."""

from __future__ import annotations

import json

import pytest
from podnet.cni.addresses import Usage, count, crowded


def conflist(*sets: tuple[tuple[str, str], ...]) -> str:
    ranges = [[{"rangeStart": first, "rangeEnd": last} for first, last in one] for one in sets]
    plugins = [
        {"type": "bridge", "ipam": {"type": "host-local", "ranges": ranges}},
        {"type": "portmap"},
    ]
    return json.dumps({"name": "podnet", "plugins": plugins})


SIX = (("fd00::2", "fd00::ffff:ffff:ffff:ffff"),)


def test_both_families_are_counted_without_what_is_reserved() -> None:
    text = conflist((("10.0.0.2", "10.0.0.8"), ("10.0.0.12", "10.0.0.14")), SIX)
    # .10 is that of a pod from before it was reserved.
    held = ["10.0.0.2", "10.0.0.10", "10.0.0.14", "fd00::2", "10.0.1.2"]
    four, six = count(text, held)
    assert four == (4, 10, 2)
    assert (four.free, four.percent) == (8, 20)
    assert six == (6, 2**64 - 2, 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"plugins": 1}',
        '{"plugins": [1]}',
        '{"plugins": [{"type": "bridge"}]}',
        '{"plugins": [{"ipam": {"ranges": [[]]}}]}',
        '{"plugins": [{"ipam": {"ranges": [[{"rangeStart": "x", "rangeEnd": "y"}]]}}]}',
        '{"plugins": [{"ipam": {"ranges": [[{}]]}}]}',
    ],
)
def test_what_is_no_conflist_of_podnets_has_no_usage(text: str) -> None:
    assert count(text, ["10.0.0.2"]) == []


@pytest.mark.parametrize(
    ("size", "used", "told"),
    [
        (10, 8, ""),
        (10, 9, "(90 %)"),
        (14, 12, ""),
        (14, 13, "(92 %)"),
        (1, 0, ""),
        (1, 1, "(100 %)"),
    ],
)
def test_from_90_percent_on_there_is_a_warning(size: int, used: int, told: str) -> None:
    said = crowded("n1", [Usage(4, size, used), Usage(6, 2**64, used)])
    assert len(said) == bool(told)
    assert told in "".join(said)
    if told:
        assert said[0].startswith(f"n1: pods use {used} of {size} IPv4 addresses of this node")

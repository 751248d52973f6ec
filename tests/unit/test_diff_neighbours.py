"""What the kernel drops by itself has to come back in the same run."""

from __future__ import annotations

from podnet.diff import changes
from podnet.state import Link, State


def vtep(mac: str) -> State:
    return State(
        links={"flannel.1": Link("vxlan", 1450, mac, "podnet:podnet", vni=1, port=8472)},
        neighbours={("flannel.1", "10.244.1.0"): "02:00:0a:f4:01:00"},
    )


def test_a_new_mac_brings_all_neighbours_back() -> None:
    """A node that is renumbered gets another MAC, and its peers' entries stay wanted."""
    before, after = vtep("02:00:0a:f4:00:00"), vtep("02:00:0a:f4:09:00")
    lines = [line for change in changes(before, after) for line in change.lines]
    assert lines == [
        "link set dev flannel.1 address 02:00:0a:f4:09:00",
        "neigh replace 10.244.1.0 lladdr 02:00:0a:f4:01:00 dev flannel.1 nud permanent",
    ]


def test_a_neighbour_that_went_with_the_mac_is_not_deleted_again() -> None:
    """`neigh del` would fail: the kernel has dropped it."""
    before, after = vtep("02:00:0a:f4:00:00"), vtep("02:00:0a:f4:09:00")
    after.neighbours = {}
    lines = [line for change in changes(before, after) for line in change.lines]
    assert lines == ["link set dev flannel.1 address 02:00:0a:f4:09:00"]

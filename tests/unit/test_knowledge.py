"""What hosts know of the network against what the plan says: rows, each with all that is said."""

from __future__ import annotations

from typing import Any

import pytest
from podnet.core.edition import Edition
from podnet.core.model import Plan
from podnet.run import objections
from podnet.state import knowledge
from podnet.state.record import Record

from filter_plugins import podnet_course
from tests.kernel.netns_hosts import plan_document

OURS, OTHER = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"
FILE = "/etc/ansible/podnet_allocations.yml"

#: node -> third octet of its subnet
Nodes = dict[str, int]


def edition(text: str) -> Edition:
    """Read "ours 4 x": whose network, which generation, a letter for what it says."""
    if not text:
        return Edition()
    who, number, letter = text.split()
    return Edition({"ours": OURS, "other": OTHER}[who], int(number), letter * 16)


def subnets(nodes: Nodes) -> dict[str, str]:
    return {name: f"10.244.{number}.0/24" for name, number in nodes.items()}


def plan(text: str, nodes: Nodes) -> Plan:
    document = plan_document(0, six=False)
    document["nodes"] = [
        {"name": name, "ip": f"192.0.2.{at + 1}", "subnet": subnet}
        for at, (name, subnet) in enumerate(subnets(nodes).items())
    ]
    if text:
        document["edition"] = edition(text)._asdict()
    return Plan.from_document(document)


def record(node: str, text: str, nodes: Nodes) -> Record:
    one = edition(text)
    noted = subnets(nodes) if text else {}
    return Record(
        node=node,
        parameters={},
        network=one.id,
        generation=one.generation,
        digest=one.digest,
        nodes=noted,
    )


THREE = {"n1": 0, "n2": 1, "n3": 2}
#: A host of the run -> (its name by its record, the edition it has seen, the nodes of that plan).
Said = dict[str, tuple[str, str, Nodes]]


def all_said(text: str, nodes: Nodes, hosts: str = "n1 n2 n3") -> Said:
    return {host: (host, text, nodes) for host in hosts.split()}


# name: (the plan's edition, its nodes, what hosts know, released, words of each objection)
ROWS: dict[str, tuple[str, Nodes, Said, list[str], list[list[str]]]] = {
    "the same": ("ours 4 a", THREE, all_said("ours 4 a", THREE), [], []),
    "a node more": ("ours 5 a", {**THREE, "n4": 3}, all_said("ours 4 b", THREE), [], []),
    "no host knows anything: a first run, or all were reset": ("ours 1 a", THREE, {}, [], []),
    "one host was reset": ("ours 4 a", THREE, all_said("ours 4 a", THREE, "n1 n3"), [], []),
    "a file and hosts from before editions": ("", THREE, all_said("", THREE), [], []),
    "hosts from before editions": ("ours 1 a", THREE, all_said("", THREE), [], []),
    "a host whose disk was restored from a backup knows less": (
        "ours 9 a", THREE,
        {**all_said("ours 9 a", THREE, "n1 n2"), "n3": ("n3", "ours 2 b", {"n3": 2})}, [], [],
    ),
    "an old file that no host could tell by its subnets": (
        "ours 3 a", THREE, all_said("ours 4 b", THREE), [],
        [["n1, n2, n3", "generation 4", "generation 3", FILE, "version control", "podnet_force_all"]],
    ),
    "an old file, and one host alone knows better": (
        "ours 3 a", THREE,
        {**all_said("ours 3 a", THREE, "n1 n2"), "n3": ("n3", "ours 4 b", THREE)}, [],
        [["n3: has seen generation 4", "an old copy"]],
    ),
    "an old file gives the subnet of a node it never knew to a new one": (
        "ours 4 a", {"n1": 0, "n2": 1, "n4": 2}, all_said("ours 4 b", THREE, "n1 n2"), [],
        [["another generation 4", "two people"],
         ["n1, n2: 10.244.2.0/24", "belongs to n3", "to n4", "podnet_release=n3"]],
    ),
    "the same, and the owner is in the inventory, too": (
        "ours 4 a", {"n1": 0, "n2": 1, "n4": 2, "n3": 3}, all_said("ours 4 b", THREE), [],
        [["another generation 4"], ["10.244.2.0/24", "n3", "n4"]],
    ),
    "two people changed the same generation": (
        "ours 5 a", {**THREE, "n4": 3}, all_said("ours 5 b", {**THREE, "n5": 3}), [],
        [["another generation 5"], ["10.244.3.0/24", "belongs to n5", "to n4"]],
    ),
    "what both have merged by hand is a generation later": (
        "ours 6 c", {**THREE, "n5": 3, "n4": 4}, all_said("ours 5 b", {**THREE, "n5": 3}), [], [],
    ),
    "a line was given another name by hand, and the old node may live": (
        "ours 5 c", {"n1": 0, "n2": 1, "n4": 2}, all_said("ours 4 b", THREE, "n1 n2"), [],
        [["n1, n2: 10.244.2.0/24", "belongs to n3", "to n4"]],
    ),
    "a renamed host": (
        "ours 5 c", {"n1": 0, "n2": 1, "db": 2},
        {**all_said("ours 4 b", THREE, "n1 n2"), "db": ("n3", "ours 4 b", THREE)}, [], [],
    ),
    "a renamed host that does not answer": (
        "ours 5 c", {"n1": 0, "n2": 1, "db": 2}, all_said("ours 4 b", THREE, "n1 n2"), [],
        [["belongs to n3", "to db"]],
    ),
    "another host with a name that the subnet's owner never had": (
        "ours 5 c", {"n1": 0, "n2": 1, "db": 2},
        {**all_said("ours 4 b", THREE, "n1 n2"), "db": ("n9", "ours 4 b", THREE)}, [],
        [["belongs to n3", "to db"]],
    ),
    "released and given away in one run": (
        "ours 5 c", {"n1": 0, "n2": 1, "n4": 2}, all_said("ours 4 b", THREE, "n1 n2"), ["n3"], [],
    ),
    "another one was released": (
        "ours 5 c", {"n1": 0, "n2": 1, "n4": 2}, all_said("ours 4 b", THREE, "n1 n2"), ["n7"],
        [["belongs to n3", "to n4"]],
    ),
    "taken out with remove_node.yml, released later": (
        "ours 5 c", {"n1": 0, "n2": 1, "n4": 2},
        all_said("ours 4 b", {"n1": 0, "n2": 1}, "n1 n2"), [], [],
    ),
    "a host that was down when the owner was taken out": (
        "ours 6 c", {"n1": 0, "n2": 1, "n4": 2},
        {"n1": ("n1", "ours 5 a", {"n1": 0, "n2": 1}), "n2": ("n2", "ours 4 b", THREE)}, [], [],
    ),
    "the same host alone, under --limit": (
        "ours 6 c", {"n1": 0, "n2": 1, "n4": 2}, {"n2": ("n2", "ours 4 b", THREE)}, [],
        [["n2: 10.244.2.0/24", "belongs to n3"]],
    ),
    "all nodes get other subnets at once": (
        "ours 5 c", {"n1": 1, "n2": 2, "n3": 0}, all_said("ours 4 b", THREE), [], [],
    ),
    "two nodes swap while one of them is not in the run": (
        "ours 5 c", {"n1": 1, "n2": 0, "n3": 2}, all_said("ours 4 b", THREE, "n1 n3"), [],
        [["10.244.1.0/24", "belongs to n2", "to n1", "let this run reach it"]],
    ),
    "the file was lost and made anew": (
        "ours 1 a", THREE, all_said("other 7 b", THREE), [],
        [["n1, n2, n3: in the network bbbb", "not the one of", FILE, "reset.yml"]],
    ),
    "one host comes from another network": (
        "ours 4 a", THREE,
        {**all_said("ours 4 a", THREE, "n1 n2"), "n3": ("w7", "other 2 b", {"w7": 9})}, [],
        [["n3: in the network bbbb", "reset.yml"]],
    ),
    "a backup from before editions": (
        "", THREE, all_said("ours 1 a", THREE), [],
        [["n1, n2, n3: in the network aaaa", "newer than", "before networks had an id"]],
    ),
}  # fmt: skip


def objected(row: str) -> list[str]:
    text, nodes, said, release, _words = ROWS[row]
    made = plan(text, nodes)
    testified: dict[str, Any] = {
        host: knowledge.testify(made, record(*one)) for host, one in said.items()
    }
    return objections.objections(made.edition, FILE, release, testified)


@pytest.mark.parametrize("row", ROWS)
def test_one_host_that_knows_better_is_enough(row: str) -> None:
    found = objected(row)
    wanted = ROWS[row][4]
    assert len(found) == len(wanted), found
    for line, words in zip(found, wanted, strict=True):
        assert [word for word in words if word not in line] == [], line


# name: (the record's edition and nodes, the plan's, the edition that is noted)
NOTES: dict[str, tuple[str, Nodes, str, Nodes, str]] = {
    "the same": ("ours 4 a", THREE, "ours 4 a", THREE, "ours 4 a"),
    "newer, and nothing new for this host": ("ours 4 a", THREE, "ours 5 b", THREE, "ours 4 a"),
    "newer with another node": ("ours 4 a", THREE, "ours 5 b", {**THREE, "n4": 3}, "ours 5 b"),
    "newer with a node less": ("ours 4 a", THREE, "ours 5 b", {"n1": 0, "n2": 1}, "ours 5 b"),
    "older, which was forced": ("ours 4 a", THREE, "ours 3 b", THREE, "ours 3 b"),
    "a twin, which was forced": ("ours 4 a", THREE, "ours 4 b", THREE, "ours 4 b"),
    "another network, which was forced": ("other 4 a", THREE, "ours 9 b", THREE, "ours 9 b"),
    "a record from before editions": ("", THREE, "ours 1 b", THREE, "ours 1 b"),
    "a file from before editions": ("", THREE, "", THREE, ""),
    "such a file, which was forced": ("ours 4 a", THREE, "", THREE, ""),
}


@pytest.mark.parametrize("row", NOTES)
def test_what_is_noted(row: str) -> None:
    known, before, text, nodes, noted = NOTES[row]
    found = knowledge.note(plan(text, nodes), record("n1", known, before))
    assert found.edition == edition(noted)
    assert found.nodes == (subnets(nodes) if noted else {})


def test_a_host_without_a_record_notes_the_plan() -> None:
    assert knowledge.note(plan("ours 1 a", THREE), None).edition == edition("ours 1 a")
    assert knowledge.testify(plan("ours 1 a", THREE), None) is None


@pytest.mark.parametrize("forced", [False, True])
def test_the_file_goes_before_what_hosts_know_only_where_the_user_says_so(forced: bool) -> None:
    made = plan("ours 3 a", {"n1": 0, "n2": 1, "n4": 2})
    planned = {"edition": made.edition._asdict(), "allocations_file": FILE, "release": []}
    hostvars: dict[str, Any] = {}
    for host in ("n1", "n2"):
        said = knowledge.testify(made, record(host, "ours 4 b", THREE))
        pending = {"total": 2, "switching": False, "mtu": 1450, "knowledge": said}
        hostvars[host] = {"_podnet_plan": planned, "_podnet_seen": {"pending": pending}}
    decided = podnet_course.decide(hostvars, ["n1", "n2"], ["n1", "n2"], False, forced)
    told = "\n".join([decided["refusal"], *decided["notes"]])
    assert decided["mode"] == ("converge" if forced else "refuse")
    for word in ("generation 4", "generation 3", "10.244.2.0/24", "n3", "n4"):
        assert word in told
    assert ("not heeded" in told) == forced

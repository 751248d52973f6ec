"""report.yml: its data, what changed, the page and the picture, from networks that are made up."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from podnet.core.errors import PodnetError
from podnet.report import explain, view
from podnet.report.changes import changes
from podnet.report.data import data, trace_command
from podnet.report.picture import picture
from podnet.report.ranges import space
from podnet.run.matrix import TARGET

from action_plugins import podnet_report
from tests.unit.report_data import HOSTILE, MOMENT, look, network, plan

TEMPLATES = Path(__file__).resolve().parents[2] / "roles/podnet_report/templates"

#: Elements that have no end tag (HTML, section 13.1.2).
VOID = {"meta", "link", "br", "input", "img"}

NETWORKS: dict[str, dict[str, Any]] = {
    "all is well": {"hosts": 3},
    "one host": {"hosts": 1},
    "a pair, drift": {"hosts": 3, "broken": ((1, 2),), "drifted": (3,)},
    "direct": {"hosts": 3, "podnet_direct_routing": True},
    "a host that is gone": {"hosts": 50, "broken": ((7, 20), (30, 31)), "gone": (12,)},
    "one host with all": {"hosts": 50, "broken": tuple((7, node) for node in range(8, 51))},
    "many": {"hosts": 500, "broken": ((1, 2), (300, 7)), "gone": (250,), "drifted": (10,)},
    "many, all broken": {
        "hosts": 500,
        "broken": tuple((one, two) for one in range(1, 11) for two in range(1, 500) if one != two),
    },
}


class Page(HTMLParser):
    """Demands that elements end in order; keeps ids, addresses, scripts, texts by element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.scripts = 0
        self.headers: list[dict[str, str | None]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [str(found["id"])] if "id" in found else []
        self.links += [str(found[key]) for key in ("href", "src", "action") if key in found]
        self.scripts += tag == "script"
        self.headers += [found] if tag == "th" else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag


@pytest.mark.parametrize("case", NETWORKS)
def test_a_page_is_whole(tmp_path: Path, case: str) -> None:
    found = network(tmp_path, **NETWORKS[case])
    text = podnet_report.render(found, TEMPLATES)
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    # Every link leads to a place on the page, and nothing is fetched.
    assert {one for one in page.links if one != "data:,"} <= {f"#{one}" for one in page.ids}
    assert re.findall(r"https?://[^\s\"']+", text.replace("http://www.w3.org/2000/svg", "")) == []
    assert page.scripts == 2
    assert all(one.get("scope") in ("col", "row") for one in page.headers)
    assert text.count("<table") == text.count("<caption")
    assert len(text) < 2_000_000
    assert podnet_report.previous(text) == json.loads(json.dumps(found))
    ET.fromstring(picture(found))


@pytest.mark.parametrize("where", ["name", "why", "others", "has", "fault", "facts", "notes"])
def test_words_of_others_are_escaped(tmp_path: Path, where: str) -> None:
    found = network(tmp_path, 3, ((1, 2),), what=HOSTILE if where == "fault" else "no reply")
    host = found["hosts"][0]
    if where == "name":
        host["name"] = host["segment"] = HOSTILE
        found["segments"] = [{"cidr": HOSTILE, "hosts": [HOSTILE, "n2", "n3"]}]
        found["pairs"]["not_probed"] = {HOSTILE: HOSTILE}
        found["pairs"]["failures"][0].update({"from": HOSTILE})
    elif where == "why":
        host.update(state="problem", why=HOSTILE)
    elif where == "others":
        host["others"] = [HOSTILE]
    elif where == "has":
        host["has"] = [{"what": HOSTILE, "count": 1, "lines": [HOSTILE]}]
    elif where == "facts":
        found["facts"] = dict.fromkeys(found["facts"], HOSTILE)
    elif where == "notes":
        found["notes"] = found["pairs"]["told"] = [HOSTILE]
        found["since"] = {"time": MOMENT, "lines": [HOSTILE]}
    text = podnet_report.render(found, TEMPLATES)
    page = Page(text)
    assert page.scripts == 2
    assert "<script>alert" not in text
    assert "<b>" not in text
    assert "{{ 7*7 }}" in text
    assert podnet_report.previous(text) == json.loads(json.dumps(found))
    ET.fromstring(picture(found))


def test_what_a_host_says(tmp_path: Path) -> None:
    has = look(
        2,
        cni={
            "path": "/etc/cni/net.d/20-podnet.conflist",
            "first": "/etc/cni/net.d/10-x.conflist",
            "others": [
                {"path": "/etc/cni/net.d/10-x.conflist", "network": "x", "plugins": ["ptp"]}
            ],
        },
        warnings=["a warning"],
    )
    has["state"]["accepts"] = ["ip filter FORWARD"]
    has["state"]["boot"] = {"fdb.batch": "fdb replace ...\n"}
    found = data(
        plan(tmp_path, 4),
        {"n1": has, "n2": {"failed": True, "msg": "n2: no"}, "n3": None},
        {},
        {},
        moment=MOMENT,
    )
    assert [(one["state"], one["why"]) for one in found["hosts"]] == [
        ("differs", "a run of site.yml would change 2 things"),
        ("problem", "n2: no"),
        ("unreachable", "it gave no answer"),
        ("left out", "not in this run (--limit)"),
    ]
    assert found["hosts"][0]["drift"] == {"network": 2}
    assert found["hosts"][0]["others"] == [
        "a warning",
        "container runtimes take /etc/cni/net.d/10-x.conflist and not"
        " /etc/cni/net.d/20-podnet.conflist, because it sorts first",
        "CNI configuration /etc/cni/net.d/10-x.conflist: network x (ptp)",
        "drops what is forwarded, so podnet accepts pods' packets there: ip filter FORWARD",
    ]
    assert {"what": "boot files", "count": 1, "lines": ["fdb.batch"]} in found["hosts"][0]["has"]
    assert found["pairs"] is None
    assert not found["ok"]
    assert "Nothing was probed" in podnet_report.render(found, TEMPLATES)


@pytest.mark.parametrize(
    ("variables", "ways"),
    [
        ({}, ("VXLAN", "VXLAN", "VXLAN")),
        (
            {"podnet_direct_routing": True},
            ("plain routes", "VXLAN", "plain routes on-link, else VXLAN"),
        ),
        ({"podnet_backend": "host-gw"}, ("plain routes", "plain routes", "plain routes")),
    ],
)
def test_how_packets_go(
    tmp_path: Path, variables: dict[str, Any], ways: tuple[str, str, str]
) -> None:
    found = network(tmp_path, 2, **variables)
    assert tuple(found["ways"][key] for key in ("inside", "between", "unknown")) == ways


@pytest.mark.parametrize(
    ("before", "now", "lines"),
    [
        ({"hosts": 3}, {"hosts": 3}, []),
        (
            {"hosts": 2},
            {"hosts": 3},
            [
                "network: network podnet: 2 nodes, vxlan (VNI 1, port 8472, flannel.1) -> network"
                " podnet: 3 nodes, vxlan (VNI 1, port 8472, flannel.1)",
                "n3: new host, 10.244.2.0/24",
            ],
        ),
        (
            {"hosts": 3},
            {"hosts": 3, "drifted": (2,), "broken": ((1, 3),)},
            ["n2: state: ok -> differs", "n1 -> n3: fails now (no-tcp)"],
        ),
        (
            {"hosts": 3, "broken": ((1, 3), (1, 2))},
            {"hosts": 3, "gone": (3,)},
            ["n3: state: ok -> unreachable", "n1 -> n2: works again (was no-tcp)"],
        ),
    ],
)
def test_what_changed(
    tmp_path: Path, before: dict[str, Any], now: dict[str, Any], lines: list[str]
) -> None:
    first = network(tmp_path, **before)
    # As it comes from the page.
    first = podnet_report.previous(podnet_report.render(first, TEMPLATES)) or {}
    found = network(tmp_path, **now, before=first, moment=MOMENT + 60)
    assert found["since"] == {"time": MOMENT, "lines": lines}


@pytest.mark.parametrize(
    "page",
    [
        "",
        "<html></html>",
        '<script type="application/json" id="podnet-data">{</script>',
        '<script type="application/json" id="podnet-data">[1]</script>',
    ],
)
def test_a_page_of_somebody_else_is_not_compared(page: str) -> None:
    assert podnet_report.previous(page) is None


@pytest.mark.parametrize(
    "damage",
    [
        {"schema": 2},
        {"network": "other"},
        {"kind": "verify"},
        {"hosts": None},
        {"hosts": [{}]},
        {"facts": 1},
        {"pairs": {"failures": 1}},
        {"time": "x"},
    ],
)
def test_damaged_data_are_not_compared(tmp_path: Path, damage: dict[str, Any]) -> None:
    now = network(tmp_path, 2)
    assert changes(now, now) == {"time": MOMENT, "lines": []}
    assert changes({**now, **damage}, now) is None


def test_a_large_matrix_is_one_of_segments(tmp_path: Path) -> None:
    found = network(tmp_path, 500, ((1, 2), (300, 7)), gone=(250,))
    shown = view.matrix(found)
    assert shown is not None
    assert shown["names"][:2] == ["192.168.0.0/24", "192.168.1.0/24"]
    assert shown["rows"][0]["cells"][0]["text"] == f"1 of {124 * 123} fail"
    # 192.168.2.0/24 has 125 hosts, of which one is gone.
    assert shown["rows"][2]["cells"][0]["text"] == f"1 of {124 * 124} fail"
    assert shown["rows"][1]["cells"][1] == {
        "text": f"{125 * 124} ok",
        "look": "ok",
        "title": "",
        "way": None,
    }


def test_a_part_of_the_pairs(tmp_path: Path) -> None:
    found = network(tmp_path, 3)
    assert found["pairs"]["peers"] == {}
    made = {
        name: {
            "pod": dict.fromkeys(("address", "address6"), "10.244.0.5")
            | {"mtu": 1450, "udp": 1, "tcp": 2}
        }
        for name in ("n1", "n2", "n3")
    }
    asked = {"asked": 1, "answered": 1, "failures": [], "notes": [], "outside": []}
    probed = {
        "n1": {**asked, "peers": ["n2"]},
        "n2": {**asked, "peers": ["n3"]},
        "n3": {**asked, "peers": ["n1"]},
    }
    looked = dict.fromkeys(made, look())
    found = data(plan(tmp_path, 3), looked, made, probed, moment=MOMENT)
    shown = view.matrix(found)
    assert shown is not None
    assert [[cell["text"] for cell in row["cells"]] for row in shown["rows"]] == [
        ["-", "ok", "?"],
        ["?", "-", "ok"],
        ["ok", "?", "-"],
    ]


def test_the_address_space() -> None:
    owners = {
        "10.0.0.0/24": ("n1", "kept"),
        "10.0.2.0/24": ("n2", "kept"),
        "10.0.255.0/24": ("n3", "left, reserved"),
    }
    found = space("10.0.0.0/16", 256, owners)
    assert (found["prefix"], found["used"], found["free"], found["part"]) == (24, 3, 253, 2)
    assert found["first_free"][:2] == ["10.0.1.0/24", "10.0.3.0/24"]
    assert found["reserved"] == [{"name": "n3", "subnet": "10.0.255.0/24"}]
    assert [number for number, those in enumerate(found["parts"]) if those] == [0, 1, 127]
    six = space("fd00::/48", 65536, {"fd00:0:0:ff00::/64": ("n1", "kept")})
    assert (six["prefix"], len(six["parts"]), six["parts"][127]) == (64, 128, ["n1"])
    full = space("10.0.0.0/24", 1, {"10.0.0.0/24": ("n1", "kept")})
    assert (full["free"], full["first_free"], full["parts"]) == (0, [], [["n1"]])


def cell(kind: str, node: str, word: str, family: int = 4) -> dict[str, Any]:
    address = "fd00::5" if family == 6 else "10.244.0.5"
    return {
        **{"kind": kind, "node": node, "family": family, "address": address},
        **{"word": word, "what": "no reply"},
    }


@pytest.mark.parametrize(
    ("failures", "chosen"),
    [
        ({}, []),
        ({"n1": [cell("pod", "n2", "no"), cell("host", "n2", "no")]}, [("n1", "n2")]),
        # A host's own gateway and what is outside are on no way between hosts.
        ({"n1": [cell("gateway", "n1", "no"), cell("outside", "", "no")]}, []),
        # A trace is about IPv4 where there is some.
        ({"n1": [cell("pod", "n2", "no", 6)]}, []),
        # There and back in one.
        (
            {"n1": [cell("pod", "n2", "no")], "n2": [cell("pod", "n1", "no")]},
            [("n1", "n2"), ("n2", "n1")],
        ),
        # Of a host that fails with many, one comes first, and another fault before its rest.
        (
            {
                "n1": [cell("pod", f"n{number}", "no") for number in (2, 3, 4)],
                "n3": [cell("pod", "n4", "slow")],
            },
            [("n1", "n2"), ("n3", "n4"), ("n1", "n3")],
        ),
        # One that gave no results is not asked.
        ({"n1": [cell("pod", "n5", "no")]}, []),
    ],
)
def test_which_ways_are_traced(
    tmp_path: Path, failures: dict[str, Any], chosen: list[tuple[str, str]]
) -> None:
    document = json.loads(plan(tmp_path, 5)["document"])
    made = {f"n{number}": {"pod": dict.fromkeys(TARGET, "x")} for number in range(1, 5)}
    probed = {
        name: {"asked": 9, "answered": 9, "failures": failures.get(name, []), "notes": []}
        for name in made
    }
    found = explain.ways(document, {**made, "n5": None}, {**probed, "n5": None})
    assert [(one["source"]["host"], one["target"]["host"]) for one in found] == chosen


def test_a_trace_is_shown(tmp_path: Path) -> None:
    traces = ({"from": "n1", "to": "n2", "lines": ["There", HOSTILE, "It breaks at a hop"]},)
    found = network(tmp_path, 3, ((1, 2), (2, 3)), traces=traces)
    assert [one["trace"] for one in view.failing(found)] == [traces[0]["lines"], []]
    text = podnet_report.render(found, TEMPLATES)
    assert Page(text).scripts == 2
    assert "n1 &#x2192; n2: It breaks at a hop" in text


def test_a_command_is_safe_to_copy() -> None:
    assert trace_command("n1", "n2").endswith(" -e podnet_from=n1 -e podnet_to=n2")
    assert trace_command("a b", "$(x)").endswith(" -e 'podnet_from=a b' -e 'podnet_to=$(x)'")


def test_files(tmp_path: Path) -> None:
    answers = {"plan": plan(tmp_path, 2), "looked": {"n1": look(), "n2": look()}}
    answers |= {"made": {}, "probed": {}}
    place = tmp_path / "new" / "place"
    checked = podnet_report.report(answers, place, TEMPLATES, MOMENT, check_mode=True)
    assert not place.exists()
    assert "not written" in checked["lines"][-1]
    first = podnet_report.report(answers, place, TEMPLATES, MOMENT)
    assert sorted(one.name for one in place.iterdir()) == [
        "podnet-report.html",
        "podnet-report.json",
        "podnet-report.svg",
    ]
    assert first["lines"][-1] == f"The report is {place}/podnet-report.html"
    assert json.loads((place / "podnet-report.json").read_text())["since"] is None
    ET.parse(place / "podnet-report.svg")
    answers["looked"] = {"n1": look(1), "n2": {"unreachable": True, "msg": "no route"}}
    again = podnet_report.report(answers, place, TEMPLATES, MOMENT + 1)
    assert again["lines"][:3] == [
        "Nothing was probed",
        "n1: differs: a run of site.yml would change 1 things",
        "n2: unreachable: no route",
    ]
    since = json.loads((place / "podnet-report.json").read_text())["since"]
    assert since == {
        "time": MOMENT,
        "lines": ["n1: state: ok -> differs", "n2: state: ok -> unreachable"],
    }


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answers = {"plan": plan(tmp_path, 1), "looked": {}, "made": {}, "probed": {}}
    with pytest.raises(PodnetError, match="podnet_report_dir"):
        podnet_report.report(answers, tmp_path / "file" / "x", TEMPLATES, MOMENT)

"""The results of verify.yml as machines read them."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from podnet.run import exports, matrix

from tests.unit.test_matrix import DOCUMENT, asked, failure, pod

MOMENT = 1_700_000_000
THREE = dict(DOCUMENT, nodes=[{"name": f"n{number}"} for number in (1, 2, 3)])


def results(**more: Any) -> dict[str, Any]:
    """Return the results of three hosts, of which n3 was not reached and n1 -> n2 carries no TCP."""
    made = {"n1": pod(1, six=True), "n2": pod(2, six=True), "n3": {"unreachable": True}}
    probed = {
        "n1": {
            **asked(
                failure("pod", "n2", "fd00:2::5", "no-tcp", 'TCP: no reply; "UDP" and ICMP pass'),
                failure("outside", "", "2001:db8::1", "no", "no reply"),
                notes=("gateway 10.244.1.1: its MAC is known and it does not answer ping",),
                outside=("192.0.2.1", "2001:db8::1"),
            ),
            "peers": ["n2"],
        },
        "n2": {**asked(outside=()), "peers": ["n1"]},
        "n3": None,
    }
    return exports.results(THREE, made, {**probed, **more}, MOMENT)


def test_everything_that_was_asked_has_an_entry() -> None:
    found = results()
    assert not found["ok"]
    assert found["hosts"] == ["n1", "n2", "n3"]
    assert found["not_probed"] == {"n3": "unreachable"}
    assert found["probes"] == {"asked": 16, "answered": 14}
    said = [
        (one["from"], one["kind"], one["to"], one["family"], one["word"])
        for one in found["results"]
    ]
    assert said == [
        ("n1", "pod", "n2", 4, "ok"),
        ("n1", "pod", "n2", 6, "no-tcp"),
        ("n1", "host", "n2", 4, "ok"),
        ("n1", "host", "n2", 6, "ok"),
        ("n1", "gateway", "n1", 4, "ok"),
        ("n1", "gateway", "n1", 6, "ok"),
        ("n1", "outside", "192.0.2.1", 4, "ok"),
        ("n1", "outside", "2001:db8::1", 6, "no"),
        ("n2", "pod", "n1", 4, "ok"),
        ("n2", "pod", "n1", 6, "ok"),
        ("n2", "host", "n1", 4, "ok"),
        ("n2", "host", "n1", 6, "ok"),
        ("n2", "gateway", "n2", 4, "ok"),
        ("n2", "gateway", "n2", 6, "ok"),
    ]
    assert json.loads(exports.as_json(found)) == found


def test_all_agree_on_what_failed() -> None:
    """The matrix for people, JSON, JUnit and Prometheus are of the same results."""
    found = results()
    failed = [one for one in found["results"] if one["what"]]
    root = ET.fromstring(exports.as_junit(found))
    cases = root.findall("./testsuite/testcase")
    assert len(cases) == len(found["results"]) + 1
    assert [one.get("message") for one in root.iter("failure")] == [one["what"] for one in failed]
    assert [one.get("message") for one in root.iter("error")] == ["unreachable"]
    for suite in root:
        assert int(suite.get("tests", "")) == len(suite.findall("testcase"))
        assert int(suite.get("failures", "")) == len(suite.findall("./testcase/failure"))
        assert int(suite.get("errors", "")) == len(suite.findall("./testcase/error"))
    text = exports.as_prometheus(found)
    assert 'podnet_verify_ok{network="podnet"} 0\n' in text
    assert f'podnet_verify_time_seconds{{network="podnet"}} {MOMENT}\n' in text
    assert 'podnet_verify_results{network="podnet",kind="pod",result="failed"} 1\n' in text
    assert 'podnet_verify_results{network="podnet",kind="pod",result="ok"} 3\n' in text
    assert (
        'podnet_verify_failed{network="podnet",from="n1",to="n2",kind="pod",family="6",'
        'word="no-tcp"} 1\n'
    ) in text
    assert 'podnet_verify_not_probed{network="podnet",host="n3"} 1\n' in text


def test_a_network_that_works() -> None:
    made = {name: pod(number) for number, name in enumerate(("n1", "n2"), 1)}
    found = exports.results(THREE, made, {"n1": asked(), "n2": asked()}, MOMENT)
    assert found["ok"]
    assert "podnet_verify_failed{" not in exports.as_prometheus(found)
    assert "<failure" not in exports.as_junit(found)
    assert matrix.report(THREE, made, {"n1": asked(), "n2": asked()}).failures == []


@given(st.text())
def test_any_message_makes_files_that_can_be_read(said: str) -> None:
    found = results(n3={"failed": True, "msg": said})
    for one in found["results"]:
        if one["what"]:
            one["what"] = said or "no reply"
    ET.fromstring(exports.as_junit(found))
    assert json.loads(exports.as_json(found)) == found
    for line in exports.as_prometheus(found).splitlines():
        # The exposition format: a comment, or a name, labels and a number.
        assert re.match(r'# (HELP|TYPE) |[a-z_]+\{([a-z]+="[^"\n]*",?)*\} [0-9]+$', line), line


@pytest.mark.parametrize("name", ["json", "xml", "prom"])
def test_files_are_named_by_the_network(name: str) -> None:
    assert f"podnet-verify.{name}" in [one["name"] for one in exports.files(results())]

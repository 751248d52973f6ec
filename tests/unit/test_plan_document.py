"""A plan document that is damaged or hostile: refused with one line, whatever is wrong with it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from podnet.backends.document import plan_from_text
from podnet.core import endpoints
from podnet.core.document import pack_plan, unpack_plan
from podnet.core.errors import PodnetError
from podnet.core.model import Plan
from podnet.keep import files, originals, record_file

from tests.kernel.netns_hosts import plan_document
from tests.unit.test_hostile_output import REMOVED, damage, places
from tests.unit.test_plan_properties import hostile


def document() -> dict[str, Any]:
    made = plan_document(2, backend="vxlan")
    for number, node in enumerate(made["nodes"]):
        node.update(mac=f"02:00:0a:f4:{number:02x}:00", interface="eth0", ip6_prefix=64)
        node.update(
            ip6=f"fd00:2::{number + 1}", endpoints=[{"name": "web", "address": "10.244.0.9"}]
        )
        node.update(reserved=["10.244.0.9-10.244.0.20", "fd00:244::9"])
        node.update(podman=True, podman_range=["10.244.0.9-10.244.0.20"])
    made["masquerade_exclude"] = ["10.0.0.0/9", "2001:db8::/32"]
    made["guard"] = False
    return made


PLACES = [path for path in places(document()) if path]


def words(value: Any) -> list[str]:
    """Return all strings in a plan that reach a batch, a path or a script."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [word for one in value.values() for word in words(one)]
    return [word for one in value for word in words(one)] if isinstance(value, list) else []


def read(damaged: dict[str, Any]) -> None:
    """Read it: refused, or nothing in it is more than one harmless word."""
    try:
        plan = plan_from_text(json.dumps(damaged))
    except PodnetError as error:
        assert str(error).startswith("plan: ")
        assert len(str(error)) < 1000
        return
    found = plan.to_document()
    found["cni"].pop("extra_plugins")  # JSON that is written as JSON
    for node in found["nodes"]:
        node.pop("name")  # looked up, and never written into a batch
    for word in words(found):
        assert not set(word) & set("\n\r\0 \t;$`'\"\\|&<>(){}*?#"), word


def test_a_good_one_is_read() -> None:
    assert Plan.from_document(document()).nodes["n2"].ip6 == "fd00:2::2"


def test_lists_come_back_and_empty_ones_are_left_out() -> None:
    made = document()
    assert (
        Plan.from_document(made).to_document()["masquerade_exclude"] == made["masquerade_exclude"]
    )
    assert Plan.from_document(made).to_document()["nodes"] == made["nodes"]
    assert "exclusive" not in Plan.from_document(made).to_document()["cni"]
    made["cni"]["exclusive"] = True
    assert Plan.from_document(made).to_document()["cni"]["exclusive"] is True
    made["cni"]["exclusive"] = "yes"
    with pytest.raises(PodnetError, match=r"plan: cni\.exclusive"):
        Plan.from_document(made)
    bare = plan_document(1)
    found = Plan.from_document(bare).to_document()
    assert "masquerade_exclude" not in found
    assert "reserved" not in found["nodes"][0]


def test_a_guard_is_wanted_unless_the_document_says_no() -> None:
    made = document()
    assert Plan.from_document(made).to_document()["guard"] is False
    del made["guard"]
    assert Plan.from_document(made).guard is True
    assert "guard" not in Plan.from_document(made).to_document()
    with pytest.raises(PodnetError, match="guard: 'no'"):
        Plan.from_document({**made, "guard": "no"})


@pytest.mark.parametrize(
    "value",
    [REMOVED, None, {}, [], "", "x y", "a\nb", -1, 10**30, True, 1.5, [{}], {"x": 1}, "$(id)",
     "10.244.0.0/16\n", "1" * 5000, "../x", [[]]],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_each_place_alone(value: Any) -> None:
    for path in PLACES:
        damaged = {"plan": document()}
        damage(damaged, "plan", path, value)
        read(damaged["plan"])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), hostile), min_size=1, max_size=4))
def test_several_places(damages: list[tuple[tuple[Any, ...], Any]]) -> None:
    damaged = {"plan": document()}
    for path, value in damages:
        damage(damaged, "plan", path, copy.deepcopy(value))
    read(damaged["plan"])


@settings(max_examples=200, deadline=None)
@given(st.one_of(hostile, st.text()))
def test_anything_else(value: Any) -> None:
    with pytest.raises(PodnetError, match="plan: "):
        Plan.from_document(value)
    with pytest.raises(PodnetError, match="plan: "):
        plan_from_text(value if isinstance(value, str) else json.dumps(value))


def test_deep_text() -> None:
    for text in ("[" * 100_000, '{"a":' * 100_000):
        with pytest.raises(PodnetError, match="plan: cannot be read"):
            plan_from_text(text)


def test_a_large_plan_travels_compressed_and_is_the_same() -> None:
    small = document()
    assert json.loads(pack_plan(small)) == small
    [first, *_others] = small["nodes"]
    large = {**small, "nodes": [{**first, "name": f"n{number}"} for number in range(1000)]}
    packed = pack_plan(large)
    assert unpack_plan(packed) == large
    assert len(packed) < len(json.dumps(large)) / 5
    for spoilt in (packed[:-9], packed.replace("A", "B"), "zlib:", "zlib:!", "zlib:eA=="):
        with pytest.raises(PodnetError, match="plan: cannot be read"):
            plan_from_text(spoilt)


RECORD: dict[str, Any] = {
    "node": "n1", "parameters": {"backend": "vxlan"}, "phase": "done", "devices": ["cni0"],
    "cidrs": ["10.244.0.0/16"], "pod_mtu": 1450, "version": 1,
}  # fmt: skip
ORIGINALS: dict[str, Any] = {"net.ipv4.ip_forward": {"value": "0", "networks": ["podnet"]}}
ENDPOINTS: dict[str, Any] = {"web": {"bridge": "cni0", "mtu": 1450, "address": "10.244.0.9", "address6": "",
                     "subnet": "10.244.0.0/24", "subnet6": "", "declared": True}}  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.data(), hostile)
def test_files_on_the_host(data: st.DataObject, value: Any) -> None:
    """What lies under /etc/podnet is damaged: named, with the way out."""
    with pytest.MonkeyPatch.context() as patch:
        for good, load in (
            (RECORD, lambda: record_file.load("podnet")),
            (ORIGINALS, originals.load),
        ):
            said = {"x": copy.deepcopy(good)}
            path = data.draw(st.sampled_from(places(good)))
            damage(said, "x", path, value)
            text = json.dumps(said["x"])
            patch.setattr(files, "read_text", lambda _path, text=text: text)
            try:
                load()
            except PodnetError as error:
                assert "damaged; remove it" in str(error)
    said = {"x": copy.deepcopy(ENDPOINTS)}
    damage(said, "x", data.draw(st.sampled_from(places(ENDPOINTS))), value)
    try:
        endpoints.parse(json.dumps(said["x"]), "/etc/podnet/podnet/endpoints.json")
    except PodnetError as error:
        assert str(error).startswith("/etc/podnet/podnet/endpoints.json: ")

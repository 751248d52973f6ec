"""What hosts tell each other for the proof of a switch."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

_PATH = Path(__file__).resolve().parents[2] / "filter_plugins" / "podnet_proof.py"
_SPEC = importlib.util.spec_from_file_location("podnet_proof_filter", _PATH)
assert _SPEC and _SPEC.loader
_FILTER = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_FILTER)

POD = {"address": "10.244.0.5", "address6": "", "mtu": 1450, "udp": 5000, "tcp": 5001}
WHY = {"why": "CNI plugin bridge: not found"}


@pytest.mark.parametrize(
    ("registered", "told", "unproven"),
    [
        ({"_podnet_changed": {"proof": POD}}, POD, False),
        # The first call armed a rollback and told nothing; the confirmation did.
        ({"_podnet_changed": {"armed": True}, "_podnet_confirmed": {"proof": POD}}, POD, False),
        (
            {"_podnet_changed": {"unreachable": True}, "_podnet_confirmed": {"proof": POD}},
            POD,
            False,
        ),
        ({"_podnet_changed": {"proof": POD}, "_podnet_confirmed": {"skipped": True}}, POD, False),
        ({"_podnet_changed": {"proof": WHY}}, WHY, True),
        ({"_podnet_changed": {"skipped": True}}, None, True),
        ({"_podnet_changed": {"proof": "garbage"}}, None, True),
        ({"_podnet_changed": None}, None, True),
        ({}, None, True),
    ],
)
def test_a_host_that_told_nothing_is_not_proven(registered: Any, told: Any, unproven: bool) -> None:
    found = _FILTER.told(
        {"n1": registered, "n2": {"_podnet_changed": {"proof": POD}}}, ["n1", "n2"]
    )
    texts = json.loads(found["told"])
    assert texts["n2"] == POD
    assert texts["n1"] == (told or {"why": "it told nothing of a pod to ask"})
    assert bool(found["unproven"]) is unproven
    assert all(line.startswith("n1: ") for line in found["unproven"])
    assert all("podnet_force_unproven" in line for line in found["unproven"])


def test_a_network_of_one_host_has_nobody_to_ask() -> None:
    found = _FILTER.told({"n1": {"_podnet_changed": {"changed": True}}}, ["n1"])
    assert found == {"told": "{}", "unproven": []}

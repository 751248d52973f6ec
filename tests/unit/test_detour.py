"""The plan of a detour: another device on another port, and nothing else."""

from __future__ import annotations

import json

import pytest
from podnet.backends.planners import PLANNERS


@pytest.mark.parametrize("backend", ["vxlan", "wireguard"])
@pytest.mark.parametrize(("port", "other"), [(1, 2), (51820, 51821), (65535, 65534)])
def test_a_detour_has_another_device_and_port(backend: str, port: int, other: int) -> None:
    settings = {"device": "flannel", "port": port, "vni": 7, "psk": ""}
    found = PLANNERS[backend].detour(settings)
    assert found == {**settings, "device": "podnet-detour", "port": other}
    assert json.loads(json.dumps(found)) == found

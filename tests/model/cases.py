"""The changes to go through: every pair of backends, and every parameter that moves packets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from podnet.core.model import Plan

from .alone import Case
from .machine import Snapshot
from .network import ONE_SEGMENT, TWO_SEGMENTS, bare, make_plan

VXLAN: dict[str, Any] = {}
HOST_GW: dict[str, Any] = {"backend": "host-gw"}
DIRECT: dict[str, Any] = {"direct_routing": True}

#: Name -> (variables before, variables after).
ONE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "VXLAN to host-gw": (VXLAN, HOST_GW),
    "host-gw to VXLAN": (HOST_GW, VXLAN),
    "VXLAN to direct routing": (VXLAN, DIRECT),
    "direct routing to VXLAN": (DIRECT, VXLAN),
    "host-gw to direct routing": (HOST_GW, DIRECT),
    "direct routing to host-gw": (DIRECT, HOST_GW),
    "another port": (VXLAN, {"port": 4789}),
    "another VNI": (VXLAN, {"vni": 7}),
    "another VNI and device": (VXLAN, {"vni": 7, "device": "flannel.7"}),
    "another device name": (VXLAN, {"device": "pods"}),
    "another port and device name": (VXLAN, {"port": 4789, "device": "pods"}),
    "MTU auto to portable": (HOST_GW, {**HOST_GW, "mtu": "portable"}),
    "MTU portable to auto": ({**HOST_GW, "mtu": "portable"}, HOST_GW),
    "a smaller MTU": (VXLAN, {"mtu": "1300"}),
    "a larger MTU": ({"mtu": "1300"}, {"mtu": "1400"}),
    "a smaller MTU and another port": (VXLAN, {"mtu": "1300", "port": 4789}),
    "a larger MTU and another device name": ({"mtu": "1300"}, {"device": "pods"}),
    "VXLAN with a small MTU to host-gw": ({"mtu": "1300"}, HOST_GW),
    "another address of n3": (VXLAN, {"nodes": {"n3": {"ip": "192.0.2.23"}}}),
    "another address of n3, host-gw": (HOST_GW, {**HOST_GW, "nodes": {"n3": {"ip": "192.0.2.23"}}}),
    "a guard": ({"guard": False}, VXLAN),
    "no guard": (VXLAN, {"guard": False}),
    "a guard and another address of n3": (
        {"guard": False},
        {"nodes": {"n3": {"ip": "192.0.2.23"}}},
    ),
    "no guard and another address of n3": (
        VXLAN,
        {"guard": False, "nodes": {"n3": {"ip": "192.0.2.23"}}},
    ),
    "another MAC of n3": (VXLAN, {"nodes": {"n3": {"mac": "02:00:5e:00:00:03"}}}),
    "another MAC of n3 and another MTU": (
        VXLAN,
        {"mtu": "1300", "nodes": {"n3": {"mac": "02:00:5e:00:00:03"}}},
    ),
    "a node more": ({"count": 2}, VXLAN),
    "a node more, host-gw": ({**HOST_GW, "count": 2}, HOST_GW),
    "a node less": (VXLAN, {"count": 2}),
    "a node less, host-gw": (HOST_GW, {**HOST_GW, "count": 2}),
}

_ALONE = {"nodes": {"n3": {"ip": "198.51.100.13"}}}

#: n3 lies behind a router.
TWO: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "VXLAN to direct routing over two segments": (VXLAN, DIRECT),
    "direct routing to VXLAN over two segments": (DIRECT, VXLAN),
    "another port over two segments, direct routing": (DIRECT, {**DIRECT, "port": 4789}),
}

#: Dual stack.
SIX = ("VXLAN to host-gw", "host-gw to VXLAN", "VXLAN to direct routing",
       "direct routing to host-gw", "another port")  # fmt: skip


def _hosts(addresses: Mapping[str, list[str]], router: str = "192.0.2.1") -> dict[str, Snapshot]:
    return {
        name: bare(those, "198.51.100.1" if those[0].startswith("198.51") else router)
        for name, those in addresses.items()
    }


def _addresses(six: bool) -> dict[str, list[str]]:
    made = {f"n{number}": [f"192.0.2.{10 + number}/24"] for number in (1, 2, 3)}
    if six:
        for number, those in enumerate(made.values()):
            those.append(f"fd00:2::{11 + number}/64")
    made["n3"].append("192.0.2.23/24")
    return made


def _plan(changes: dict[str, Any], six: bool = False) -> Plan:
    return make_plan(**{"six": six, **changes})


def cases() -> dict[str, Case]:
    """Return all cases by name."""
    made = {}
    hosts = _hosts(_addresses(False))
    for name, (one, other) in ONE.items():
        made[name] = Case(name, _plan(one), _plan(other), hosts, ONE_SEGMENT)
    both = _hosts(_addresses(True))
    for name in SIX:
        one, other = ONE[name]
        said = f"{name}, dual stack"
        made[said] = Case(said, _plan(one, True), _plan(other, True), both, ONE_SEGMENT)
    apart = _hosts({**_addresses(False), "n3": ["198.51.100.13/24"]})
    for name, (one, other) in TWO.items():
        plans = [_plan({**_ALONE, **changes}) for changes in (one, other)]
        made[name] = Case(name, plans[0], plans[1], apart, TWO_SEGMENTS)
    for name in ("VXLAN to host-gw", "host-gw to VXLAN"):
        one, other = ONE[name]
        said = f"{name}, the controller in a pod of n3"
        made[said] = Case(said, _plan(one), _plan(other), hosts, ONE_SEGMENT, "10.244.2.9")
    return made

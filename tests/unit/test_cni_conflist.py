from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from podnet.cni.conflist import best_version, conflist, extra_plugins, free_ranges, plugin_types
from podnet.core.errors import PodnetError
from podnet.core.model import Cni, Endpoint, Node, Plan, unpack


def plan(**changes: Any) -> Plan:
    node = Node(
        "n1",
        "192.0.2.11",
        24,
        subnet=changes.pop("subnet", "10.244.0.0/24"),
        subnet6=changes.pop("subnet6", ""),
        endpoints=changes.pop("endpoints", ()),
        reserved=changes.pop("reserved", ()),
    )
    cni = Cni(extra_plugins=changes.pop("extra_plugins", ("portmap",)))
    return Plan(
        "podnet", "10.244.0.0/16", "", "host-gw", {}, "cni0", "auto", True, 4, cni, {"n1": node},
    )  # fmt: skip


def rendered(made: Plan, reserved: Sequence[str] = ()) -> Any:
    return json.loads(conflist(made, made.nodes["n1"], 1450, reserved, "1.0.0"))


def test_whole_document() -> None:
    assert rendered(plan()) == {
        "cniVersion": "1.0.0",
        "name": "podnet",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "mtu": 1450,
                "isGateway": True,
                "isDefaultGateway": True,
                "ipMasq": False,
                "hairpinMode": True,
                "forceAddress": False,
                "ipam": {
                    "type": "host-local",
                    "ranges": [
                        [
                            {
                                "subnet": "10.244.0.0/24",
                                "rangeStart": "10.244.0.2",
                                "rangeEnd": "10.244.0.254",
                                "gateway": "10.244.0.1",
                            }
                        ]
                    ],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


@pytest.mark.parametrize(
    ("subnets", "expected"),
    [
        ({"subnet": "10.244.0.0/24", "subnet6": "fd00::/64"}, ["10.244.0.0/24", "fd00::/64"]),
        ({"subnet": "", "subnet6": "fd00::/64"}, ["fd00::/64"]),
    ],
)
def test_families(subnets: dict[str, str], expected: list[str]) -> None:
    sets = rendered(plan(**subnets))["plugins"][0]["ipam"]["ranges"]
    assert [one[0]["subnet"] for one in sets] == expected


def test_endpoints_and_reserved_are_left_out() -> None:
    made = plan(endpoints=(Endpoint("web", "10.244.0.9"), Endpoint("any")))
    ranges = rendered(made, ["10.244.0.254", "10.244.1.7"])["plugins"][0]["ipam"]["ranges"][0]
    assert [(one["rangeStart"], one["rangeEnd"]) for one in ranges] == [
        ("10.244.0.2", "10.244.0.8"),
        ("10.244.0.10", "10.244.0.253"),
    ]


def test_what_the_plan_reserves_is_left_out_in_both_families() -> None:
    made = plan(
        subnet6="fd00::/64",
        reserved=("10.244.0.2-10.244.0.15", "10.244.0.200-10.244.0.254", "fd00::-fd00::ffff"),
        endpoints=(Endpoint("web", "10.244.0.100"),),
    )
    four, six = rendered(made)["plugins"][0]["ipam"]["ranges"]
    assert [(one["rangeStart"], one["rangeEnd"]) for one in four] == [
        ("10.244.0.16", "10.244.0.99"),
        ("10.244.0.101", "10.244.0.199"),
    ]
    assert six == [
        {
            "subnet": "fd00::/64",
            "rangeStart": "fd00::1:0",
            "rangeEnd": "fd00::ffff:ffff:ffff:ffff",
            "gateway": "fd00::1",
        }
    ]


def test_no_address_left() -> None:
    with pytest.raises(PodnetError, match=r"n1: no address of 10.244.0.0/30 is left"):
        rendered(plan(subnet="10.244.0.0/30"), ["10.244.0.2"])
    with pytest.raises(PodnetError, match=r"n1: no address of 10.244.0.0/24 is left"):
        rendered(plan(reserved=("10.244.0.0-10.244.0.255",)))


def test_extra_plugins() -> None:
    assert extra_plugins(["tuning", {"type": "firewall", "backend": "nft"}, "bandwidth"]) == [
        {"type": "tuning"},
        {"type": "firewall", "backend": "nft"},
        {"type": "bandwidth", "capabilities": {"bandwidth": True}},
    ]
    assert plugin_types(plan(extra_plugins=("bridge", "tuning"))) == [
        "bridge",
        "host-local",
        "tuning",
    ]
    for bad in ("../x", {"kind": "x"}, 3, {"type": "a/b"}, ""):
        with pytest.raises(PodnetError, match="podnet_cni_extra_plugins"):
            extra_plugins([bad])


def test_best_version() -> None:
    new, old = ("0.3.1", "0.4.0", "1.0.0", "1.1.0"), ("0.3.0", "0.3.1", "0.4.0")
    assert best_version({"a": new}) == "1.0.0"
    assert best_version({"a": new, "b": old}) == "0.4.0"
    with pytest.raises(PodnetError, match=r"share no spec version.*a: 1\.1\.0"):
        best_version({"a": ("1.1.0",), "b": old})


@st.composite
def subnets(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Draw a small subnet, and addresses in it and just beside it."""
    size = draw(st.sampled_from([4, 16]))
    host_bits = draw(st.integers(2, 10))
    base = draw(st.integers(1, 2 ** (size * 8 - host_bits) - 2)) << host_bits
    places = draw(st.lists(st.integers(-2, 2**host_bits + 1), max_size=20))
    network = f"{unpack(base.to_bytes(size, 'big'))}/{size * 8 - host_bits}"
    return network, [unpack((base + place).to_bytes(size, "big")) for place in places]


@given(subnets())
def test_ranges_hand_out_exactly_what_is_free(drawn: tuple[str, list[str]]) -> None:
    subnet, reserved = drawn
    handed: set[int] = set()
    for first, last in free_ranges(subnet, reserved):
        low, high = int(ipaddress.ip_address(first)), int(ipaddress.ip_address(last))
        assert low <= high
        piece = set(range(low, high + 1))
        assert not piece & handed
        handed |= piece
    network = ipaddress.ip_network(subnet)
    base = int(network.network_address)
    never = {base, base + 1, *(int(ipaddress.ip_address(one)) for one in reserved)}
    if network.version == 4:
        never.add(int(network.broadcast_address))
    assert handed == set(range(base, base + network.num_addresses)) - never

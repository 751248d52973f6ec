"""Addresses of others on our devices are told, and only those."""

from __future__ import annotations

import pytest
from podnet.state.foreign_addresses import addresses

CIDRS = ["10.244.0.0/16", "fd00:244::/48"]


@pytest.mark.parametrize(
    ("device", "local", "length", "told"),
    [
        ("cni0", "10.244.0.1", 24, False),
        ("cni0", "fd00:244::1", 64, False),
        ("cni0", "fe80::1", 64, False),
        ("cni0", "198.51.100.77", 32, True),
        ("flannel.1", "2001:db8::7", 64, True),
        ("eth0", "192.0.2.11", 24, False),
    ],
)
def test_only_what_is_not_ours_on_ours_is_told(
    device: str, local: str, length: int, told: bool
) -> None:
    links = [{"ifname": device, "addr_info": [{"local": local, "prefixlen": length}, {}]}]
    said = addresses(links, {"cni0", "flannel.1"}, CIDRS)
    assert bool(said) == told
    assert not said or f"{local}/{length} on {device}" in said[0]

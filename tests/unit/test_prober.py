from __future__ import annotations

import struct

import pytest
from podnet.probe import icmp


@pytest.mark.parametrize("size", [84, 1450, 1451, 9000])
def test_request_has_the_size_and_a_valid_sum(size: int) -> None:
    packet = icmp._request(4, 0x1234, 0x5678, b"tokenize", size)
    assert len(packet) == size - 20
    padded = packet + b"\0" * (len(packet) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF
    assert len(icmp._request(6, 1, 2, b"tokenize", size)) == size - 40

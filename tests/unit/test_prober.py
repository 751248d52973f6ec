from __future__ import annotations

import struct

import pytest
from podnet import probe, prober
from podnet.probe_pod import Pod


@pytest.mark.parametrize("size", [84, 1450, 1451, 9000])
def test_request_has_the_size_and_a_valid_sum(size: int) -> None:
    packet = prober._request(4, 0x1234, 0x5678, b"tokenize", size)
    assert len(packet) == size - 20
    padded = packet + b"\0" * (len(packet) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF
    assert len(prober._request(6, 1, 2, b"tokenize", size)) == size - 40


def test_questions() -> None:
    pod = Pod("/run/netns/x", "10.244.0.5", "fd00::5", "10.244.0.1", "fd00::1", 1450)
    targets = {
        "n1": {"address": "10.244.0.5", "address6": "fd00::5", "mtu": 1450},
        "n2": {"address": "10.244.1.5", "address6": "", "mtu": 1400},
    }
    asked = [
        (one.kind, one.node, one.full, one.probe.source, one.probe.address, one.probe.size)
        for one in probe.questions("n1", pod, targets, ["192.0.2.1"])
    ]
    assert asked == [
        ("gateway", "n1", False, "pod", "10.244.0.1", 84),
        ("gateway", "n1", True, "pod", "10.244.0.1", 1450),
        ("gateway", "n1", False, "pod", "fd00::1", 84),
        ("gateway", "n1", True, "pod", "fd00::1", 1450),
        ("pod", "n2", False, "pod", "10.244.1.5", 84),
        ("pod", "n2", True, "pod", "10.244.1.5", 1400),
        ("host", "n2", False, "host", "10.244.1.5", 84),
        ("host", "n2", True, "host", "10.244.1.5", 1400),
        ("outside", "", False, "pod", "192.0.2.1", 84),
        ("outside-host", "", False, "host", "192.0.2.1", 84),
    ]

"""What a pod calls its own devices must not reach a batch that root runs."""

from __future__ import annotations

import pytest
from podnet.core.state import Port
from podnet.kernel import pods
from podnet.kernel import run as edge


@pytest.mark.parametrize(
    ("name", "other", "word"),
    [
        ("eth0", "lo", "eth0"),
        ("$(reboot)", "lo", "if2"),
        ("a;reboot", "lo", "if2"),
        ("#", "lo", "if2"),
        ("x'y\"z", "lo", "if2"),
        ("eth0@if7", "lo", "if2"),
        ("\\xff", "lo", "if2"),
        ("if2", "lo", "if2"),
        ("if9", "lo", "if9"),
        # Somebody laid a trap: ip(8) looks for a device of that name first.
        ("#", "if2", ""),
        ("eth0", "if2", "eth0"),
    ],
)
def test_names_that_a_pod_chose(
    monkeypatch: pytest.MonkeyPatch, name: str, other: str, word: str
) -> None:
    inside = [
        {"ifindex": 1, "ifname": other, "mtu": 1},
        {"ifindex": 2, "ifname": name, "mtu": 1450},
    ]
    monkeypatch.setattr(pods, "_namespaces", lambda: ["/run/netns/pod"])
    monkeypatch.setattr(pods, "_namespace_number", lambda _path: 0)
    monkeypatch.setattr(pods, "read_json", lambda _argv, _check: inside)
    links = [{"ifname": "veth1", "link_netnsid": 0, "link_index": 2}]
    found = pods.with_inner_ends({"veth1": Port(1450)}, links)
    expected = Port(1450, 1450, word, "/run/netns/pod") if word else Port(1450)
    assert found == {"veth1": expected}


@pytest.mark.parametrize(
    "raw",
    [b"plain", b"x'y", b'quo\\"te', b"\xff@w", b"\\\\x41", b"\\'z", b"caf\xc3\xa9", b"tab\tx"],
)
def test_what_iproute2_prints_of_such_a_name_is_read(
    monkeypatch: pytest.MonkeyPatch, raw: bytes
) -> None:
    text = b'[{"ifindex":2,"ifname":"' + raw + b'","mtu":1450}]'
    said = edge.Result(0, text.decode("utf-8", "backslashreplace"), "")
    monkeypatch.setattr(edge, "run", lambda _argv: said)
    found = edge.read_json(["ip"], lambda _entry: None)
    assert found[0]["ifindex"] == 2
    assert found[0]["mtu"] == 1450

"""What a pod calls its own devices must not reach a batch that root runs."""

from __future__ import annotations

import pytest
from podnet.kernel import pods
from podnet.state import Port


@pytest.mark.parametrize(
    ("name", "followed"), [("eth0", True), ("$(reboot)", False), ("a;reboot", False), ("#", False)]
)
def test_names_that_a_pod_chose(monkeypatch: pytest.MonkeyPatch, name: str, followed: bool) -> None:
    inside = [{"ifindex": 2, "ifname": name, "mtu": 1450}]
    monkeypatch.setattr(pods, "_namespaces", lambda: ["/run/netns/pod"])
    monkeypatch.setattr(pods, "_namespace_number", lambda _path: 0)
    monkeypatch.setattr(pods, "read_json", lambda _argv, _check: inside)
    links = [{"ifname": "veth1", "link_netnsid": 0, "link_index": 2}]
    found = pods.with_inner_ends({"veth1": Port(1450)}, links)
    expected = Port(1450, 1450, name, "/run/netns/pod") if followed else Port(1450)
    assert found == {"veth1": expected}

"""Values that YAML has read as something else than the text that was meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from podnet.core.errors import PodnetError
from podnet.plan.plan_run import run

#: variable: what stands in the inventory without quotes -> words of the message.
ROWS = [
    ("podnet_node_mac: 52:54:00:12:34:56", ["41135085296", "a number", '"52:54:00:12:34:56"']),
    ("podnet_node_mac: 12:00:00:01:02:03", ["podnet_node_mac", '"12:00:00:01:02:03"']),
    ("podnet_node_ip6: 2001:10:20:30:40:50:1:2", ["podnet_node_ip6", "a number", "into quotes"]),
    ("podnet_bridge: on", ["podnet_bridge", "true or false", "into quotes"]),
    ("podnet_name: 2026-01-02", ["podnet_name", "a date", "into quotes"]),
    ("podnet_vxlan_device: 0x10", ["podnet_vxlan_device", "a number", "into quotes"]),
]


@pytest.mark.parametrize(("text", "words"), ROWS, ids=[row[0] for row in ROWS])
def test_the_message_says_so(tmp_path: Path, text: str, words: list[str]) -> None:
    # Ansible's loader follows YAML 1.1, as PyYAML's does.
    variables: dict[str, Any] = yaml.safe_load(text)
    host = {"name": "n1", "ansible_host": "192.0.2.1", "inventory_dir": str(tmp_path), **variables}
    with pytest.raises(PodnetError) as caught:
        run([host])
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


@pytest.mark.parametrize("mac", ["52:54:00:12:34:56", "02:00:00:01:02:03"])
def test_the_same_in_quotes_is_taken(tmp_path: Path, mac: str) -> None:
    host = {
        "name": "n1",
        "ansible_host": "192.0.2.1",
        "inventory_dir": str(tmp_path),
        **yaml.safe_load(f'podnet_node_mac: "{mac}"'),
    }
    assert mac in run([host])["document"]

"""Tests against the real kernel and real CNI plugins: root is needed, and nothing is touched."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.kernel.netns_hosts import PLUGINS, Host, hosts


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "kernel: needs root and makes namespaces")


@pytest.fixture(scope="module")
def three() -> Iterator[list[Host]]:
    """Three hosts with bridges and routes, no podnet file on them."""
    if os.geteuid() != 0 or not (PLUGINS / "bridge").exists():
        pytest.skip("needs root and the CNI plugins in /usr/lib/cni")
    with hosts(3) as made:
        yield made

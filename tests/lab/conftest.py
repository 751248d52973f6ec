"""Tests on a lab of their own; skipped where one cannot be."""

import os
import shutil

import pytest

TOOLS = ("systemd-nspawn", "mmdebstrap", "ip", "nsenter", "nc", "ssh")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if os.geteuid() == 0 and not missing:
        return
    reason = f"a lab needs root and {', '.join(missing) or 'its tools'} (make venv)"
    for item in items:
        if "lab" in item.keywords:
            item.add_marker(pytest.mark.skip(reason=reason))

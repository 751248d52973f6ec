"""Unit tests touch nothing of the machine they run on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings
from podnet.keep import files

# The same inputs in every run: what a test says of a change must not depend on luck. To search
# further: HYPOTHESIS_PROFILE=default python -m pytest tests/unit
settings.register_profile("same", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(autouse=True)
def files_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOCK", str(tmp_path.parent / "podnet.lock"))

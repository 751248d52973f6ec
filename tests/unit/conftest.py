"""Unit tests touch nothing of the machine they run on."""

from __future__ import annotations

from pathlib import Path

import pytest
from podnet import files


@pytest.fixture(autouse=True)
def files_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOCK", str(tmp_path.parent / "podnet.lock"))

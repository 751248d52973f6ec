"""Environments of tools' own: made with venv and pip, run without the caller's Ansible settings."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path


def make(directory: Path, python: Path, packages: Sequence[str]) -> Path:
    """Make an environment, or bring it up to date; return its bin directory."""
    if not (directory / "bin" / "pip").exists():
        subprocess.run([str(python), "-m", "venv", "--clear", str(directory)], check=True)
    command = [str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    command += ["--disable-pip-version-check", "--no-input", "--upgrade"]
    command += ["--retries", "5", "--timeout", "60"]
    subprocess.run([*command, *packages], check=True, stdin=subprocess.DEVNULL)
    return directory / "bin"


def variables(place: Path, **more: str) -> dict[str, str]:
    """Return the environment variables of what runs from the bin directory `place`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    path = f"{place}:{os.environ['PATH']}"
    return {**kept, "PATH": path, "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8", **more}

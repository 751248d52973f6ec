"""Files that earlier versions of podnet wrote on hosts, and what today's code makes of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_name("recorded")


@dataclass(frozen=True)
class Recorded:
    """What one version wrote for one case; `record.py` makes it.

    `hosts` maps a host to its files: path -> {"link": target} or {"mode", "lines"}.
    """

    version: str
    case: str
    variables: dict[str, Any]
    allocations: str
    hosts: dict[str, dict[str, dict[str, Any]]]

    def __str__(self) -> str:
        """Return a name for a test."""
        return f"{self.version}-{self.case}"

    def text(self, host: str, path: str) -> str | None:
        """Return the text of a file, None where there is none."""
        found = self.hosts[host].get(path)
        return None if found is None or "link" in found else "\n".join(found["lines"])


def recorded() -> list[Recorded]:
    """Return all that was recorded."""
    return [_read(file) for file in sorted(RECORDED.glob("*/*.json"))]


def _read(file: Path) -> Recorded:
    content = json.loads(file.read_text())
    hosts = content["hosts"]
    common = hosts.pop("all")
    return Recorded(
        file.parent.name,
        file.stem,
        content["variables"],
        "\n".join(content["allocations"]),
        {host: common | files for host, files in hosts.items()},
    )

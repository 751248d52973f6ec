"""From rows to a table on the screen, and to docs/benchmarks.md with its picture."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .measure import ROOT, Row

#: What was measured last, for each part; the page is made from it.
RESULTS = ROOT / "docs" / "benchmarks.json"
PAGE = ROOT / "docs" / "benchmarks.md"
PICTURE = ROOT / "docs" / "benchmarks.svg"

TITLES = {
    "hosts": "Playbooks on real hosts",
    "controller": "The controller alone, with hundreds of hosts",
    "peers": "One host with thousands of peers",
    "plan": "The plan",
    "throughput": "Packets",
}


@dataclass(frozen=True)
class Result:
    """What one part measured, and where and when."""

    rows: tuple[Row, ...]
    date: str
    kernel: str
    cores: int
    load: float


def here(rows: Sequence[Row], load: float) -> Result:
    """Return rows with this machine's particulars; `load` is the most of before and after."""
    date = time.strftime("%Y-%m-%d")
    return Result(tuple(rows), date, platform.release(), os.cpu_count() or 0, round(load, 1))


def read() -> dict[str, Result]:
    """Return the last results of all parts."""
    if not RESULTS.exists():
        return {}
    found: dict[str, Any] = json.loads(RESULTS.read_text())
    return {
        part: Result(**(entry | {"rows": tuple(Row(**row) for row in entry["rows"])}))
        for part, entry in found.items()
        if part in TITLES
    }


def write(results: Mapping[str, Result]) -> None:
    """Write the results, the page and its picture."""
    ordered = {part: results[part] for part in TITLES if part in results}
    text = json.dumps({part: asdict(one) for part, one in ordered.items()}, indent=1)
    RESULTS.write_text(text + "\n")
    PAGE.write_text(page(ordered))
    PICTURE.write_text(picture(ordered))


def cells(row: Row) -> tuple[str, str, str, str, str]:
    """Return what a row is, measured, as a multiple, its target, and the verdict."""
    multiple = f"{_number(row.ratio)} x {row.yardstick}" if row.ratio else ""
    target = f"at most {row.target:g}{' x' if row.ratio else ' ' + row.unit}" if row.target else ""
    verdict = "" if not row.target else "met" if row.judged <= row.target else "missed"
    measured = f"{_number(row.value)} {row.unit}"
    if row.unit.startswith("s") and row.value < 1:
        measured = f"{_number(row.value * 1000)} m{row.unit}"
    return row.what, measured, multiple, target, verdict


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


_HEAD = ("what", "measured", "as a multiple", "target", "")


def table(rows: Sequence[Row]) -> str:
    """Return rows as aligned text."""
    lines = [_HEAD, *(cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


_WHAT = """\
- **The ping playbook** has one task, `ansible.builtin.ping`, on the same hosts with the same
  settings. It runs before and after each measured playbook, which also keeps the SSH connections
  of both open.
- **Bootstrap** begins on hosts that `reset.yml` has cleaned. **A switch** goes from vxlan to
  host-gw in three phases; each host asks its peers before and after its routes move.
  **verify.yml** makes a pod on every host and asks every pair.
- **The controller alone** runs site.yml for hosts that are not there: a connection plugin of the
  bench answers each call at once (bench/connection_plugins). What SSH, the network and the hosts
  take is left out. Memory is that of the largest process.
- **A fresh apply** is the core of `podnet_network` in a network namespace, boot files and the look
  afterwards included; its yardstick gets the same lines in the same order. **Nothing to do** is a
  whole Python process that reads, computes and compares.
- **The plan** is measured in seconds of processor time; it is one process.
- **One TCP stream** is iperf3's, **a request** is one byte there and one byte back over TCP (the
  median), between static endpoints of two hosts and between the hosts themselves. No network card
  is in between, so the cost of encapsulation stands out more than between real machines.
"""


def page(results: Mapping[str, Result]) -> str:
    """Return the page of the documentation."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`; `make bench PART=hosts HOSTS=10` runs one part (hosts,",
        "controller, peers, plan, throughput). Controller and hosts share one machine, so seconds",
        "say little. What counts is a multiple of a yardstick that was measured in turns with it:",
        "the median of the rounds' ratios.",
        "",
        "![How much of each target is used](benchmarks.svg)",
    ]
    for part, result in results.items():
        lines += [
            "",
            f"## {TITLES[part]}",
            "",
            f"{result.date}, Linux {result.kernel}, {result.cores} cores, load "
            f"{result.load:g} at most.",
            "",
            "| " + " | ".join(_HEAD) + " |",
            "|---|--:|--:|--:|---|",
        ]
        lines += ["| " + " | ".join(cells(row)) + " |" for row in result.rows]
    lines += [
        "",
        "## What is measured",
        "",
        _WHAT,
    ]
    return "\n".join(lines)


def picture(results: Mapping[str, Result]) -> str:
    """Return an SVG of bars: each judged row as a share of what its target allows."""
    rows = [row for result in results.values() for row in result.rows if row.target]
    left, scale, step, top = 330, 300, 26, 34
    height = top + step * len(rows) + 10
    width = left + scale * 3 // 2 + 90
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="{left + scale}" y="16" text-anchor="middle" fill="#444">target</text>',
        f'<line x1="{left + scale}" y1="22" x2="{left + scale}" y2="{height - 8}" '
        'stroke="#888" stroke-dasharray="4 3"/>',
    ]
    for number, row in enumerate(rows):
        y = top + step * number
        share = row.judged / row.target
        bar = round(min(share, 1.5) * scale)
        colour = "#2a7f62" if share <= 1 else "#c0562b"
        unit = "x" if row.ratio else row.unit
        parts += [
            f'<text x="{left - 8}" y="{y + 12}" text-anchor="end" fill="#222">{row.what}</text>',
            f'<rect x="{left}" y="{y}" width="{bar}" height="16" fill="{colour}"/>',
            f'<text x="{left + bar + 6}" y="{y + 12}" fill="#222">{_number(row.judged)} {unit}'
            f" of {row.target:g}</text>",
        ]
    return "\n".join([*parts, "</svg>", ""])


def show(path: Path) -> str:
    """Return a path as a user in the project's directory writes it."""
    return str(path.relative_to(ROOT))

"""Run the benchmarks and write docs/benchmarks.md: `python -m bench [PART ...] [--hosts N]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from lab import LabError

from . import controller, hosts, peers, plan, report, throughput
from .measure import BenchError, Row, load


def main() -> int:
    """Measure, print tables, write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "part", nargs="*", help="hosts, controller, peers, plan, throughput (default: all)"
    )
    parser.add_argument("--hosts", type=int, default=10, help="hosts of the part hosts (10)")
    options = parser.parse_args()
    parts: dict[str, Callable[[], list[Row]]] = {
        "hosts": lambda: hosts.measure(options.hosts),
        "controller": controller.measure,
        "peers": peers.measure,
        "plan": plan.measure,
        "throughput": throughput.measure,
    }
    unknown = [part for part in options.part if part not in parts]
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(parts)}")
    results = report.read()
    for part in options.part or parts:
        before = load()
        try:
            rows = parts[part]()
        except (BenchError, LabError) as error:
            print(f"bench: {part}: {error}", file=sys.stderr)
            return 1
        results[part] = report.here(rows, max(before, load()))
        # After each part: one that fails later does not cost what was measured.
        report.write(results)
        print(f"\n{report.TITLES[part]}\n{report.table(rows)}\n")
    print(f"written: {report.show(report.PAGE)}, {report.show(report.PICTURE)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

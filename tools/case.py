"""Print what a case of tests/unit/cases yields now, to be read and then kept; or check them all.

    python tools/case.py diff/a_new_peer
    python tools/case.py --all

A new case is a new folder: write its input, print this, and hold each line against what should be
before it goes into the expected files.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "module_utils"), str(ROOT)]

from tests.unit import walk  # noqa: E402


def main() -> int:
    """Show the cases that are named, or check all."""
    if sys.argv[1:] == ["--all"]:
        for case in walk.cases():
            walk.check(case)
        return 0
    for case in sys.argv[1:]:
        print(walk.show(case))
    return 0 if sys.argv[1:] else 2


if __name__ == "__main__":
    sys.exit(main())

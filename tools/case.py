"""Print what a case of tests/unit/cases yields now, or write it into the expected files.

    python tools/case.py diff/peer_joins
    python tools/case.py --keep diff/peer_joins desire/vxlan
    python tools/case.py --keep all

A new case is a new folder: write its input, print the rest, and hold each line against what should
be before you keep it. After a change that all cases show, keep them all and read `git diff`: what
is in there and was not meant is a bug.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "module_utils"), str(ROOT)]

from tests.unit import walk  # noqa: E402


def main() -> int:
    """Show or keep the cases that are named."""
    keep, named = sys.argv[1:2] == ["--keep"], sys.argv[1:]
    for case in walk.cases() if named[1:] == ["all"] else named[keep:]:
        if keep:
            walk.keep(case)
        else:
            print(walk.show(case))
    return 0 if named else 2


if __name__ == "__main__":
    sys.exit(main())

"""Print the figures of the exhaustive test: python -m tests.model [CASE...]."""

from __future__ import annotations

import sys
import time

from .alone import Counterexample
from .cases import cases
from .explore import Explorer
from .machine import edge_replaced
from .meetings import Figures


def main() -> int:
    """Go through the named cases, by default all."""
    total, wrong, begin = Figures(), 0, time.monotonic()
    made = cases()
    for name in sys.argv[1:] or made:
        since = time.monotonic()
        try:
            with edge_replaced():
                figures = Explorer(made[name]).explore()
        except Counterexample as found:
            wrong += 1
            print(f"{found}\n", flush=True)
            continue
        total.add(figures)
        print(f"{name}: {figures}, {time.monotonic() - since:.1f} s", flush=True)
    print(f"all: {total}, {time.monotonic() - begin:.0f} s; {wrong} counterexamples")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.path.insert(0, "module_utils")
    sys.exit(main())

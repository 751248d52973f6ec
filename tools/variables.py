"""Write docs/variables.md from the table of variables; `--check` only says if it is out of date.

    python tools/variables.py [--check]

The table is VARIABLES in module_utils/podnet/plan/variables.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "module_utils"))

from podnet.plan.variables import VARIABLES, Variable  # noqa: E402

MARK = "made by tools/variables.py from module_utils/podnet/plan/variables.py"


def document() -> str:
    """Return docs/variables.md."""
    network = "\n".join(_row(one) for one in VARIABLES if not one.per_host)
    host = "\n".join(_row(one) for one in VARIABLES if one.per_host)
    head = "| variable | default | meaning |\n|---|---|---|"
    return f"""<!-- {MARK} -->
# Variables

Set them in the inventory (group_vars or host_vars of the group `podnet_nodes`) or with `-e`.
Variables of a play or a role are not seen: the plan reads every host's inventory variables.
A name that begins with `podnet_` and is not listed here is an error, so that a typo is not
silently ignored.

## The network: equal on all hosts

{head}
{network}

## A host's own

{head}
{host}
"""


def _row(one: Variable) -> str:
    default = "empty" if one.default == "" else f"`{_plain(one.default)}`"
    return f"| {one.name} | {default} | {one.meaning.replace('|', chr(92) + '|')} |"


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


DOCUMENT = ROOT / "docs" / "variables.md"


def stale() -> bool:
    """Whether docs/variables.md does not say what the table says."""
    return not DOCUMENT.is_file() or DOCUMENT.read_text(encoding="utf-8") != document()


def main() -> int:
    """Write the document, or check it."""
    if not stale():
        return 0
    if "--check" in sys.argv[1:]:
        print(f"{DOCUMENT.relative_to(ROOT)}: out of date, run python tools/variables.py")
        return 1
    DOCUMENT.write_text(document(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

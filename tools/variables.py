"""Write what follows from the table of variables; `--check` only says what is out of date.

    python tools/variables.py [--check]

The table is VARIABLES in module_utils/podnet/variables.py.
"""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "module_utils"))

from podnet.variables import VARIABLES, Variable  # noqa: E402

MARK = "made by tools/variables.py from module_utils/podnet/variables.py"


def defaults() -> str:
    """Return the role's defaults: the variables of the network."""
    lines = ["---", f"# The variables of the network; {MARK}."]
    lines += [f"{one.name}: {json.dumps(one.default)}" for one in VARIABLES if not one.per_host]
    return "\n".join(lines) + "\n"


def argument_specs() -> str:
    """Return the role's argument_specs.

    All types are raw: the planner checks values itself, for all hosts and with better messages.
    """
    lines = [
        "---",
        f"# The variables of the network; {MARK}.",
        "# Types are raw: the module checks every value, on all hosts, and says the way out.",
        "argument_specs:",
        "  main:",
        "    short_description: Plan the network on the controller",
        "    options:",
    ]
    for one in VARIABLES:
        if one.per_host:
            continue
        lines += [
            f"      {one.name}:",
            "        type: raw",
            f"        default: {json.dumps(one.default)}",
            "        description: >-",
            *textwrap.wrap(
                one.meaning[0].upper() + one.meaning[1:] + ".",
                98,
                initial_indent=" " * 10,
                subsequent_indent=" " * 10,
            ),
        ]
    return "\n".join(lines) + "\n"


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


FILES = {
    "roles/podnet_plan/defaults/main.yml": defaults,
    "roles/podnet_plan/meta/argument_specs.yml": argument_specs,
    "docs/variables.md": document,
}


def stale() -> list[str]:
    """Return the files that do not say what the table says."""
    return [
        name
        for name, make in FILES.items()
        if not (ROOT / name).is_file() or (ROOT / name).read_text() != make()
    ]


def main() -> int:
    """Write the files, or check them."""
    found = stale()
    if "--check" in sys.argv[1:]:
        for name in found:
            print(f"{name}: out of date, run python tools/variables.py")
        return 1 if found else 0
    for name in found:
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(FILES[name]())
        print(f"{name}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())

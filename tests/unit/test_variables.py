"""The table of variables and everything that follows it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from podnet.plan.variables import BY_NAME, VARIABLES, Variable

from tools import variables as tool

ROOT = Path(__file__).resolve().parents[2]


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(VARIABLES)


@pytest.mark.parametrize("variable", VARIABLES, ids=[one.name for one in VARIABLES])
def test_default_passes_its_own_check(variable: Variable) -> None:
    if not (isinstance(variable.default, str) and "{{" in variable.default):
        variable.check(variable.default)


def test_the_document_is_up_to_date() -> None:
    assert not tool.stale(), "run python tools/variables.py"


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("roles/*/defaults/main.yml")), ids=lambda path: path.parts[-3]
)
def test_roles_agree_with_the_table(path: Path) -> None:
    """A role's default of a variable that users know is the table's."""
    for name, value in (yaml.safe_load(path.read_text()) or {}).items():
        assert name.startswith("_") or name in BY_NAME, f"{name}: add it to VARIABLES"
        if name in BY_NAME:
            assert value == BY_NAME[name].default, name

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


#: The scenario in which each variable has a value that is not its default.
ALTERNATIVE = ROOT / "molecule" / "alternative" / "inventory"

#: They belong to one run, or forbid it; other scenarios give them, and tests/unit.
GIVEN_TO_A_RUN = {
    "podnet_allocations_write",
    "podnet_force_allocations",
    "podnet_force_limited",
    "podnet_force_unproven",
    "podnet_from",
    "podnet_kubernetes_nodes",
    "podnet_kubernetes_patch",
    "podnet_report_dir",
    "podnet_node",
    "podnet_release",
    "podnet_to",
}
#: Those of another backend, which has a scenario.
OTHERS = "podnet_wireguard_"

#: host-gw has no device whose variables could be tested here; it has a scenario.
ELSEWHERE = {"podnet_backend"}


def test_the_scenario_alternative_forgets_no_variable() -> None:
    said: dict[str, object] = {"podnet_node_ip": "lab", "podnet_node_ip6": "lab"}
    for file in sorted(ALTERNATIVE.glob("*_vars/*.yml")):
        said |= yaml.safe_load(file.read_text())
    wanted = {one.name for one in VARIABLES if not one.name.startswith(OTHERS)} - GIVEN_TO_A_RUN
    assert wanted - set(said) == set()
    same = {one.name for one in VARIABLES if said.get(one.name) == one.default}
    assert same - ELSEWHERE == set()

"""The project's own checks fail on what they are for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import checks

_HOST_GW = "podnet_backend: host-gw"


def write(root: Path, name: str, text: str) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize("name", checks.CHECKS)
def test_the_project_passes(name: str) -> None:
    assert list(checks.CHECKS[name]()) == []


@pytest.mark.parametrize(
    ("defaults", "options", "said"),
    [
        ("a: 1\nb: x", "a: {default: 1}\n      b: {default: x}", ""),
        ("a: 1", "a: {default: 2}", "a: argument_specs.yml says 2, defaults/main.yml 1"),
        ("a: 1", "b: {default: 2}", "a has a default and is not in argument_specs.yml"),
        ("{}", "b: {default: 2}", "b is in argument_specs.yml and has no default"),
        ("{}", "b: {required: true}", ""),
    ],
)
def test_roles(tmp_path: Path, defaults: str, options: str, said: str) -> None:
    write(tmp_path, "roles/r/defaults/main.yml", defaults)
    specs = f"argument_specs:\n  main:\n    options:\n      {options}"
    write(tmp_path, "roles/r/meta/argument_specs.yml", specs)
    problems = "\n".join(checks.roles(tmp_path))
    assert said in problems
    assert bool(said) == bool(problems)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("prepare.yml", ""),
        (
            '"{{ mode }}.yml"',
            'roles/r/tasks/main.yml:2: the name needs a default: "{{ mode }}.yml"',
        ),
        ("\"{{ mode | default('all') }}.yml\"", ""),
    ],
)
def test_includes(tmp_path: Path, name: str, said: str) -> None:
    write(
        tmp_path, "roles/r/tasks/main.yml", f"- name: X\n  ansible.builtin.include_tasks: {name}\n"
    )
    assert list(checks.includes(tmp_path)) == ([said] if said else [])


def test_a_role_without_specs(tmp_path: Path) -> None:
    write(tmp_path, "roles/r/tasks/main.yml", "[]")
    assert list(checks.roles(tmp_path)) == [
        "r: meta/argument_specs.yml has no entry point `main`",
    ]


def test_a_backend_without_a_scenario(tmp_path: Path) -> None:
    write(tmp_path, "module_utils/podnet/backends/__init__.py", "")
    write(tmp_path, "module_utils/podnet/backends/host_gw/__init__.py", "")
    assert list(checks.scenarios(tmp_path)) == [
        "backend host-gw: there is no molecule/host_gw/molecule.yml"
    ]
    write(tmp_path, "molecule/host_gw/molecule.yml", "")
    write(tmp_path, "molecule/host_gw/inventory/group_vars/podnet_nodes.yml", "a: 1")
    assert list(checks.scenarios(tmp_path)) == [
        "molecule/host_gw: has no test_*.py, so it proves nothing of its own",
        "backend host-gw: no scenario's inventory sets podnet_backend: host-gw",
    ]
    write(tmp_path, "molecule/host_gw/test_host_gw.py", "")
    write(tmp_path, "molecule/host_gw/inventory/group_vars/podnet_nodes.yml", _HOST_GW)
    assert list(checks.scenarios(tmp_path)) == []
    write(tmp_path, "molecule/host_gw/molecule.yml", "scenario: {test_sequence: [converge]}")
    assert list(checks.scenarios(tmp_path)) == [
        "backend host-gw: molecule/host_gw must show all that .config/molecule has",
    ]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import json", ""),
        ("match 1:\n    case 1: pass", "(Python 3.8)"),
        ("def f(x):\n    return x.removeprefix('a')", ":2: removeprefix: str, 3.9"),
        ("import os\nos.readlink('a')", ""),
        ("import netaddr", ":1: import netaddr: hosts do not have it"),
        ("from yaml import load", ":1: import yaml: hosts do not have it"),
    ],
)
def test_hostcode(tmp_path: Path, code: str, said: str) -> None:
    write(tmp_path, "module_utils/podnet/a.py", code)
    problems = "\n".join(checks.hostcode(tmp_path))
    assert said in problems
    assert bool(said) == bool(problems)

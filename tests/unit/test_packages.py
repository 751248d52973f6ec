"""The packages of module_utils/podnet keep to what their docstrings say.

A docstring has a line "Imports: A, B." with the packages that it may import, and a line "Touches:
files, processes and sockets in MODULE." with what of the machine its modules may touch, in one
module alone or in all.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from podnet.backends.planners import PLANNERS
from podnet.backends.registry import BACKENDS

ROOT = Path(__file__).resolve().parent.parent.parent / "module_utils" / "podnet"

PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))

#: What an import lets a module do. `socket` is also the home of inet_pton, so calls count there.
BY_IMPORT = {
    "subprocess": "processes",
    "multiprocessing": "processes",
    **dict.fromkeys(
        ("ctypes", "fcntl", "glob", "io", "os", "pathlib", "shutil", "tempfile"), "files"
    ),
    **dict.fromkeys(("select", "selectors", "ssl", "socketserver", "urllib", "http"), "sockets"),
}
BY_CALL = {
    "open": "files",
    **dict.fromkeys(
        ("os.fork", "os.system", "os.popen", "os.execv", "os.posix_spawn"), "processes"
    ),
    **dict.fromkeys(("socket.socket", "socket.create_connection"), "sockets"),
}


def said(package: str, what: str, text: str = "") -> list[str]:
    """Return what the line `what` of a package's docstring lists; "nothing" is nothing."""
    text = text or ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text())) or ""
    found = re.search(rf"^{what}: (.*)\.$", text, re.MULTILINE)
    assert found, f"{package}: its docstring has no line {what!r}"
    words = re.split(r", | and ", found[1])
    return [] if words == ["nothing"] else words


def imports(path: Path, root: Path = ROOT) -> Iterator[tuple[str, ...]]:
    """Yield what a module imports of podnet, from the top: ("state", "diff")."""
    here = path.relative_to(root).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level + 1]
            base += tuple(node.module.split(".")) if node.module else ()
            for alias in node.names:
                yield (*base, alias.name)


def touched(tree: ast.AST) -> set[str]:
    """Return what of the machine the code can touch: files, processes, sockets."""
    found = set()
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [str(node.module)]
        found |= {BY_IMPORT[one.split(".")[0]] for one in names if one.split(".")[0] in BY_IMPORT}
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            found |= {BY_CALL[called]} if called in BY_CALL else set()
    return found


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def test_every_module_is_in_a_package() -> None:
    assert [path.name for path in ROOT.glob("*.py")] == ["__init__.py"]
    assert PACKAGES


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_what_it_says(package: str) -> None:
    used = {one[0] for path in modules(package) for one in imports(path)} - {package}
    assert sorted(used) == sorted(said(package, "Imports"))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_touches_what_it_says(package: str) -> None:
    allowed = said(package, "Touches")
    alone = ""
    if allowed and " in " in allowed[-1]:
        allowed[-1], _, alone = allowed[-1].partition(" in ")
    used = set()
    for path in modules(package):
        found = touched(ast.parse(path.read_text()))
        assert not found or not alone or path.stem == alone, f"{path.stem} touches {found}"
        used |= found
    assert sorted(used) == sorted(allowed)


def test_packages_import_in_one_direction() -> None:
    below = {package: set(said(package, "Imports")) for package in PACKAGES}
    done: set[str] = set()
    while ready := {one for one in below if one not in done and below[one] <= done}:
        done |= ready
    assert done == set(PACKAGES), f"in a circle: {sorted(set(PACKAGES) - done)}"


def test_what_runs_on_one_side_does_not_import_the_other() -> None:
    sides = {package: said(package, "Runs on") for package in PACKAGES}
    for package in PACKAGES:
        for other in said(package, "Imports"):
            assert sides[other] in (["everywhere"], sides[package]), f"{package} imports {other}"


def test_a_backend_is_named_in_its_own_package_alone() -> None:
    """Variables, and what flannel and nft call their own, are words that users type: they may."""
    names = [path.parent.name for path in ROOT.glob("backends/*/__init__.py")]
    assert names
    pattern = re.compile("|".join(name.replace("_", "[-_ ]?") for name in names), re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted(ROOT.rglob("*.py"))
        if path.relative_to(ROOT).parts[0] != "backends"
        and path.name not in ("variables.py", "nft_words.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


def test_controller_and_hosts_know_the_same_backends() -> None:
    assert list(BACKENDS) == list(PLANNERS)
    packages = {path.parent.name for path in ROOT.glob("backends/*/__init__.py")}
    assert {name.replace("-", "_") for name in BACKENDS} == packages


def test_a_backend_does_not_know_the_registry() -> None:
    """It would know all others by it."""
    for path in ROOT.glob("backends/*/*.py"):
        named = {part for one in imports(path) for part in one}
        assert not named & {"registry", "planners"}, path


def test_a_type_has_one_name() -> None:
    homes: dict[str, list[str]] = {}
    for path in ROOT.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import subprocess", {"processes"}),
        ("import os.path", {"files"}),
        ("from pathlib import Path", {"files"}),
        ("import socket\nsocket.inet_pton(2, a)", set()),
        ("import socket\nsocket.socket()", {"sockets"}),
        ("open(name)", {"files"}),
        ("import re, json", set()),
        ("def f():\n    import os\n    os.fork()", {"files", "processes"}),
    ],
)
def test_touched(code: str, expected: set[str]) -> None:
    assert touched(ast.parse(code)) == expected


def test_a_line_that_is_missing_is_told() -> None:
    with pytest.raises(AssertionError, match="x: its docstring has no line 'Imports'"):
        said("x", "Imports", "What is this?")

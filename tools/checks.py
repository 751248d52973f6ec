"""Checks of the project's own rules that no linter knows. Prints what is wrong; 1 if something is.

python tools/checks.py roles|includes|scenarios|hostcode
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent

#: Methods newer than Python 3.8 that vermin cannot see, because it does not know an object's type.
_NEWER = {
    "removeprefix": "str, 3.9",
    "removesuffix": "str, 3.9",
    "is_relative_to": "Path, 3.9",
    "with_stem": "Path, 3.9",
    "readlink": "Path, 3.9 (os.readlink)",
    "hardlink_to": "Path, 3.10",
    "bit_count": "int, 3.10",
}


def roles(root: Path = ROOT) -> Iterator[str]:
    """Yield where a role's defaults/main.yml and meta/argument_specs.yml differ."""
    for role in sorted(path for path in (root / "roles").iterdir() if path.is_dir()):
        specs = _yaml(role / "meta/argument_specs.yml").get("argument_specs", {})
        if "main" not in specs:
            yield f"{role.name}: meta/argument_specs.yml has no entry point `main`"
            continue
        options = specs["main"].get("options") or {}
        defaults = _yaml(role / "defaults/main.yml")
        for name in sorted({*options, *defaults}):
            if name not in options:
                yield f"{role.name}: {name} has a default and is not in argument_specs.yml"
            elif name not in defaults:
                if not options[name].get("required"):
                    yield f"{role.name}: {name} is in argument_specs.yml and has no default"
            elif options[name].get("default") != defaults[name]:
                yield (
                    f"{role.name}: {name}: argument_specs.yml says "
                    f"{options[name].get('default')!r}, defaults/main.yml {defaults[name]!r}"
                )


def includes(root: Path = ROOT) -> Iterator[str]:
    """Yield includes whose name only a host's variables make.

    ansible-core 2.16 to 2.18 ask for its directory before there is a host, when a file below it
    imports another, and stop there.
    """
    for file in sorted([*root.glob("roles/*/*/*.yml"), *root.glob("playbooks/*.yml")]):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            name = line.partition("include_tasks:")[2]
            if "{{" in name and "default(" not in name:
                yield f"{file.relative_to(root)}:{number}: the name needs a default: {name.strip()}"


def scenarios(root: Path = ROOT) -> Iterator[str]:
    """Yield backends without a scenario, and scenarios that would pass without a test.

    A scenario may leave steps out of molecule's sequence; that of a backend shows all.
    """
    names = {path.parent.name for path in root.glob("molecule/*/molecule.yml")}
    for name in sorted(names):
        if not list(root.glob(f"molecule/{name}/test_*.py")):
            yield f"molecule/{name}: has no test_*.py, so it proves nothing of its own"
    used = set()
    for name in names:
        for file in root.glob(f"molecule/{name}/**/group_vars/podnet_nodes.yml"):
            used.add(_yaml(file).get("podnet_backend", "vxlan"))
    # The backends' packages are named as the backends, but for the hyphen.
    for package in sorted((root / "module_utils/podnet/backends").glob("*/__init__.py")):
        name = package.parent.name
        backend = name.replace("_", "-")
        if name not in names:
            yield f"backend {backend}: there is no molecule/{name}/molecule.yml"
        elif backend not in used:
            yield f"backend {backend}: no scenario's inventory sets podnet_backend: {backend}"
        if _yaml(root / f"molecule/{name}/molecule.yml").keys() & {"ansible", "scenario"}:
            yield f"backend {backend}: molecule/{name} must show all that .config/molecule has"


def hostcode(root: Path = ROOT) -> Iterator[str]:
    """Yield what Python 3.8 on a host would not understand, and imports beyond its library."""
    allowed = {"ansible", "__future__", *sys.stdlib_module_names}
    for file in sorted([*(root / "library").glob("*.py"), *(root / "module_utils").rglob("*.py")]):
        shown = file.relative_to(root)
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 8))
        except SyntaxError as error:
            yield f"{shown}:{error.lineno}: {error.msg} (Python 3.8)"
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in _NEWER:
                owner = node.value.id if isinstance(node.value, ast.Name) else ""
                if owner != "os":
                    yield f"{shown}:{node.lineno}: {node.attr}: {_NEWER[node.attr]}"
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.split(".")[0] not in allowed:
                        yield f"{shown}:{node.lineno}: import {alias.name}: hosts do not have it"
            elif isinstance(node, ast.ImportFrom) and not node.level:
                name = str(node.module)
                if name.split(".", maxsplit=1)[0] not in allowed:
                    yield f"{shown}:{node.lineno}: import {name}: hosts do not have it"


def _yaml(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    content: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    return content


CHECKS: dict[str, Callable[[], Iterator[str]]] = {
    "roles": roles,
    "includes": includes,
    "scenarios": scenarios,
    "hostcode": hostcode,
}


def main() -> int:
    """Run the checks that are named."""
    problems = [problem for name in sys.argv[1:] for problem in CHECKS[name]()]
    print("\n".join(problems))
    return 1 if problems or not sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())

"""Build the collection podnet.podnet from this tree: python tools/collection.py [DIRECTORY].

The tree is the only source: each file is copied to where a collection has it, and names that only
this tree's ansible.cfg makes known (modules, roles, filters, imports) get the collection's name.
Prints the file that ansible-galaxy built, in .cache/collection unless DIRECTORY is given.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools import filter_docs  # noqa: E402

OUTPUT = ROOT / ".cache" / "collection"
NAME = "podnet.podnet"
UTILS = "ansible_collections.podnet.podnet.plugins.module_utils.podnet"

#: Directory of the tree -> where a collection has it.
PLACES = {
    "library": "plugins/modules",
    "module_utils": "plugins/module_utils",
    "action_plugins": "plugins/action",
    "filter_plugins": "plugins/filter",
    "roles": "roles",
    "playbooks": "playbooks",
}
FILES = ("CHANGELOG.md", "LICENSE")

_README = """\
# podnet.podnet

A pod network for Linux nodes, declared in an Ansible inventory and pushed over SSH: VXLAN or plain
routes, with no daemon. The inventory has a group `podnet_nodes`; all variables have a default.

    ansible-galaxy collection install podnet-podnet-{version}.tar.gz
    pip install {python}

    ansible-playbook -i INVENTORY podnet.podnet.plan      # who gets what; no host is asked
    ansible-playbook -i INVENTORY podnet.podnet.site      # bootstrap, repair, switch, grow
    ansible-playbook -i INVENTORY podnet.podnet.verify    # prove every pair
    ansible-playbook -i INVENTORY podnet.podnet.remove_node -e podnet_node=NAME
    ansible-playbook -i INVENTORY podnet.podnet.reset     # back to before

Turn pipelining on (`pipelining = true` in `[ssh_connection]` of your ansible.cfg), and keep Ansible
from reading the allocations file as an inventory (`ignore_patterns = podnet_allocations\\.yml` in
`[inventory]`).

An upgrade is the newer file installed with `--force`, and a run of `podnet.podnet.site`. Hosts that
a newer podnet has changed refuse an older one.

Modules: {modules}. `ansible-doc podnet.podnet.podnet_network` describes one.

Roles: {roles}. In a play of your own `podnet.podnet.podnet_plan` comes first, once for all hosts.
"""


_ENVIRONMENT = """\
---
version: 1
dependencies:
  python: requirements.txt
  system: bindep.txt
"""

#: How Ansible reaches hosts.
_BINDEP = """\
openssh-client [platform:dpkg]
openssh-clients [platform:rpm]
"""


@dataclass(frozen=True)
class Names:
    """What gets the collection's name in front."""

    modules: frozenset[str]
    roles: frozenset[str]
    filters: frozenset[str]


def names(root: Path = ROOT) -> Names:
    """Return the names that the tree's files give to modules, roles and filters."""
    filters: set[str] = set()
    for file in (root / "filter_plugins").glob("*.py"):
        filters |= filter_docs.filters(file).keys()
    return Names(
        frozenset(file.stem for file in (root / "library").glob("*.py")),
        frozenset(path.name for path in (root / "roles").iterdir() if path.is_dir()),
        frozenset(filters),
    )


def tasks(text: str, known: Names) -> str:
    """Return a file of tasks or plays with the collection's names."""
    text = re.sub(rf"^(\s*(?:- )?)({_any(known.modules)}):$", rf"\1{NAME}.\2:", text, flags=re.M)
    text = re.sub(
        rf"^(\s+(?:- )?(?:name|role): )({_any(known.roles)})$", rf"\1{NAME}.\2", text, flags=re.M
    )
    return re.sub(rf"(\|\s*)({_any(known.filters)})\b", rf"\1{NAME}.\2", text)


def module(text: str, known: Names) -> str:
    """Return a module with the collection's imports, links and examples."""
    text = text.replace("ansible.module_utils.podnet", UTILS)
    one = _any(known.modules)
    text = re.sub(rf"\bM\(({one})\)", rf"M({NAME}.\1)", text)
    text = re.sub(rf"\b([OV])\(({one})#", rf"\1({NAME}.\2#", text)
    before, mark, examples = text.partition("EXAMPLES = ")
    return before + mark + tasks(examples, known)


def plugin(text: str) -> str:
    """Return a plugin of the controller, which imports the core by the collection's name."""
    text = re.sub(r"(?m)^# Ansible puts module_utils on .*\nsys\.path\.insert\(.*\)\n\n?", "", text)
    text = re.sub(r"(?m)^(\s*from )podnet(?=[. ])", rf"\1{UTILS}", text)
    for line, use in (("import sys", r"\bsys\."), ("from pathlib import Path", r"\bPath\b")):
        rest = text.replace(f"{line}\n", "", 1)
        if not re.search(use, rest):
            text = rest
    return text


def _any(words: Collection[str]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


def rewritten(place: str, file: Path, known: Names) -> str:
    """Return what a file of the tree is in the collection."""
    text = file.read_text(encoding="utf-8")
    if place == "library":
        return module(text, known)
    if place in ("action_plugins", "filter_plugins"):
        return plugin(text)
    if place in ("roles", "playbooks") and file.suffix in (".yml", ".yaml"):
        return tasks(text, known)
    return text


def role_readme(role: Path) -> str:
    """Return a role's README.md, which Galaxy demands, from its argument specification."""
    spec = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]
    said = [re.sub(r"\b[CMOV]\(([^)]*)\)", r"`\1`", one) for one in spec["description"]]
    ask = f"`ansible-doc -t role {NAME}.{role.name}` describes its variables."
    return "\n\n".join([f"# {NAME}.{role.name}", f"{spec['short_description']}.", *said, ask, ""])


def left(tree: Path) -> Iterator[str]:
    """Yield imports that would not be found in the collection."""
    for file in sorted(tree.rglob("*.py")):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if re.match(r"\s*(from|import) (podnet|ansible\.module_utils\.podnet)\b", line):
                yield f"{file.relative_to(tree)}:{number}: {line.strip()}"


def podnet_version(root: Path = ROOT) -> str:
    """Return the tree's version; read and not imported, because `root` may be another tree."""
    text = (root / "module_utils/podnet/core/version.py").read_text()
    found = re.search(r'^VERSION = "(.+)"$', text, re.MULTILINE)
    assert found, "version.py has no VERSION"
    return found[1]


def requirements(root: Path = ROOT) -> dict[str, str]:
    """Return package -> its range, as requirements.txt has it."""
    found = re.findall(r"^([\w-]+)(.*)$", (root / "requirements.txt").read_text(), re.MULTILINE)
    return dict(found)


def requires_ansible(specifier: str) -> str:
    """Return the range as Ansible's meta/runtime.yml takes it, which needs three numbers."""
    parts = [part.strip() for part in specifier.split(",")]
    return ",".join(f"{part}.0" if part.count(".") == 1 else part for part in parts)


def write(tree: Path, root: Path = ROOT, repository: str = "") -> None:
    """Write the collection's tree.

    `repository` is where its source is, where pyproject.toml names none.
    """
    known = names(root)
    for place, target in PLACES.items():
        for file in sorted((root / place).rglob("*")):
            if not file.is_file() or "__pycache__" in file.parts:
                continue
            to = tree / target / file.relative_to(root / place)
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_text(rewritten(place, file, known), encoding="utf-8")
    for file in sorted((root / "filter_plugins").glob("*.py")):
        for name, function in filter_docs.filters(file).items():
            (tree / PLACES["filter_plugins"] / f"{name}.yml").write_text(
                filter_docs.document(name, function)
            )
    for name in known.roles:
        (tree / "roles" / name / "README.md").write_text(role_readme(root / "roles" / name))
    for name in FILES:
        shutil.copy(root / name, tree / name)
    # Messages refer to them.
    (tree / "docs").mkdir()
    for file in sorted([*(root / "docs").glob("*.md"), *(root / "docs").glob("*.svg")]):
        shutil.copy(file, tree / "docs" / file.name)
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    ranges = requirements(root)
    python = " ".join(f"'{name}{ranges[name]}'" for name in sorted(ranges))
    shown = {
        "modules": ", ".join(f"`{one}`" for one in sorted(known.modules)),
        "roles": ", ".join(f"`{one}`" for one in sorted(known.roles)),
    }
    version = podnet_version(root)
    readme = _README.format(version=version, python=python, **shown)
    (tree / "README.md").write_text(readme)
    galaxy = {
        "namespace": "podnet",
        "name": "podnet",
        "version": version,
        "readme": "README.md",
        "authors": ["podnet contributors"],
        "description": project["description"],
        "license_file": "LICENSE",
        "tags": ["networking", "linux", "kubernetes", "cni", "vxlan"],
        "dependencies": {},
    }
    repository = project.get("urls", {}).get("repository", repository)
    if repository:
        galaxy["repository"] = repository
    (tree / "galaxy.yml").write_text(yaml.safe_dump(galaxy, sort_keys=False))
    (tree / "meta").mkdir()
    # What ansible-builder puts into an execution environment that has this collection.
    others = [f"{name}{ranges[name]}\n" for name in sorted(ranges) if name != "ansible-core"]
    (tree / "requirements.txt").write_text("".join(others))
    (tree / "bindep.txt").write_text(_BINDEP)
    (tree / "meta" / "execution-environment.yml").write_text(_ENVIRONMENT)
    runtime = {"requires_ansible": requires_ansible(ranges["ansible-core"])}
    (tree / "meta" / "runtime.yml").write_text("---\n" + yaml.safe_dump(runtime))


def build(output: Path, root: Path = ROOT, repository: str = "") -> Path:
    """Build the collection into `output`; return the file. `repository` is as in `write`."""
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="podnet-collection-") as scratch:
        tree = Path(scratch)
        write(tree, root, repository)
        problems = list(left(tree))
        if problems:
            raise SystemExit("\n".join(problems))
        galaxy = Path(sys.executable).with_name("ansible-galaxy")
        command = [str(galaxy), "collection", "build", str(tree), "--force"]
        command += ["--output-path", str(output)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        version = yaml.safe_load((tree / "galaxy.yml").read_text())["version"]
    return output / f"podnet-podnet-{version}.tar.gz"


def main() -> int:
    """Build."""
    try:
        print(build(Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT))
    except OSError as error:
        print(f"collection: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

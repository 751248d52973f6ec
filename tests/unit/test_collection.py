"""The collection: names that only this tree knows are rewritten, and it works where it is alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from tools import collection, filter_docs
from tools.collection import UTILS, Names

ROOT = Path(__file__).resolve().parents[2]
KNOWN = Names(
    frozenset({"podnet_cni", "podnet_network"}),
    frozenset({"podnet_plan", "podnet_cni"}),
    frozenset({"podnet_course", "podnet_course_of"}),
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "- name: X\n  podnet_cni:\n    a: 1\n",
            "- name: X\n  podnet.podnet.podnet_cni:\n    a: 1\n",
        ),
        ("- podnet_network:\n", "- podnet.podnet.podnet_network:\n"),
        ("    name: podnet_plan\n", "    name: podnet.podnet.podnet_plan\n"),
        ("    - role: podnet_cni\n", "    - role: podnet.podnet.podnet_cni\n"),
        ("  until: x | podnet_course(y)\n", "  until: x | podnet.podnet.podnet_course(y)\n"),
        ("{{ x |podnet_course_of }}", "{{ x |podnet.podnet.podnet_course_of }}"),
        # Variables, what is registered, a network's name.
        ("  podnet_cni_package: x\n", ""),
        ("    podnet_name: podnet\n", ""),
        ("  register: _podnet_cni\n", ""),
        ("    hosts: podnet_nodes\n", ""),
    ],
)
def test_names_in_tasks(before: str, after: str) -> None:
    assert collection.tasks(before, KNOWN) == (after or before)


def test_names_in_a_module() -> None:
    text = (
        'DOCUMENTATION = """\nmodule: podnet_cni\ndescription: As M(podnet_network), '
        'O(podnet_network#module:plan).\n"""\nEXAMPLES = """\n- name: X\n  podnet_cni:\n"""\n'
        "from ansible.module_utils.podnet.kernel import run\n"
        "from ansible.module_utils.basic import AnsibleModule\n"
    )
    new = collection.module(text, KNOWN)
    assert "\nmodule: podnet_cni\n" in new
    assert "M(podnet.podnet.podnet_network)" in new
    assert "O(podnet.podnet.podnet_network#module:plan)" in new
    assert "\n  podnet.podnet.podnet_cni:\n" in new
    assert f"from {UTILS}.kernel import run\n" in new
    assert "from ansible.module_utils.basic import" in new


def test_imports_of_a_plugin() -> None:
    text = (
        "import sys\nfrom pathlib import Path\n\n# Ansible puts module_utils on modules' path.\n"
        'sys.path.insert(0, str(Path(__file__).parent / "x"))\n\n'
        "from podnet import course\nfrom podnet.plan.keep import y\n\nPath()\n"
    )
    assert collection.plugin(text) == (
        f"from pathlib import Path\n\nfrom {UTILS} import course\n"
        f"from {UTILS}.plan.keep import y\n\nPath()\n"
    )


def test_an_import_that_nobody_rewrote_is_found(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text(f"import podnet_other\nfrom {UTILS} import a\nimport podnet.b\n")
    assert list(collection.left(tmp_path)) == ["x.py:3: import podnet.b"]


def test_the_range_of_ansible() -> None:
    assert collection.requires_ansible(">=2.16,<2.23") == ">=2.16.0,<2.23.0"
    assert collection.requires_ansible(">=2.16.3") == ">=2.16.3"


def example(nodes: list[str], forced: object = False) -> list[str]:
    """Return what is said: first.

    `nodes` are
    all.
    """
    return nodes if forced else []


def test_a_filters_page_is_made_from_its_function() -> None:
    page = yaml.safe_load(filter_docs.document("podnet_example", example))
    said = page["DOCUMENTATION"]
    assert said["short_description"] == "Return what is said"
    assert said["description"][:2] == ["Return what is said: first.", "`nodes` are all."]
    assert said["positional"] == "forced"
    assert said["options"]["_input"]["type"] == "list"
    assert said["options"]["forced"]["default"] is False
    assert page["RETURN"]["_value"]["type"] == "list"


def ansible(directory: Path, program: str, *arguments: str) -> str:
    """Run a program of Ansible's that knows of nothing but the collections in `directory`."""
    known = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    done = subprocess.run(
        [str(Path(sys.executable).with_name(program)), *arguments],
        cwd=directory,
        env=known
        | {
            "ANSIBLE_COLLECTIONS_PATH": str(directory),
            "ANSIBLE_INVENTORY_IGNORE_PATTERNS": r"podnet_allocations\.yml",
            "ANSIBLE_LOCAL_TEMP": str(directory / "tmp"),
            "ANSIBLE_NOCOLOR": "1",
            "HOME": str(directory),
            "LC_ALL": "C.UTF-8",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_it_works_where_it_is_alone(tmp_path: Path) -> None:
    file = collection.build(tmp_path / "built")
    with tarfile.open(file) as archive:
        held = set(archive.getnames())
    core = {str(one.relative_to(ROOT)) for one in (ROOT / "module_utils").rglob("*.py")}
    assert {f"plugins/{one}" for one in core} <= held
    assert not [one for one in held if "__pycache__" in one]
    assert {f"docs/{one.name}" for one in (ROOT / "docs").glob("*.md")} <= held
    # What Galaxy, ansible-doc and ansible-builder look for.
    assert {f"roles/{one.name}/README.md" for one in (ROOT / "roles").iterdir()} <= held
    assert {f"plugins/filter/{one}.yml" for one in collection.names().filters} <= held
    assert {"meta/execution-environment.yml", "requirements.txt", "bindep.txt"} <= held

    ansible(tmp_path, "ansible-galaxy", "collection", "install", str(file), "-p", ".", "--offline")
    tree = tmp_path / "ansible_collections/podnet/podnet"
    for short in tree.rglob("*.yml"):
        found = re.findall(r"\| *podnet_\w+|^ *(?:- )?role: podnet_\w+", short.read_text(), re.M)
        assert found == [], short

    assert "attach" in ansible(tmp_path, "ansible-doc", "podnet.podnet.podnet_network")
    page = ansible(tmp_path, "ansible-doc", "-t", "filter", "podnet.podnet.podnet_course")
    assert "how the run goes on" in page
    example = str(ROOT / "inventory/example")
    said = ansible(tmp_path, "ansible-playbook", "-i", example, "podnet.podnet.plan")
    assert "10.244.2.0/24" in said

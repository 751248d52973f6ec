"""ansible-runner, which AWX and ansible-navigator run playbooks by, in a place without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
TREES = ("playbooks", "roles", "library", "module_utils", "action_plugins", "filter_plugins")

#: Nobody listens there, nor leads a way there.
HOSTS = """\
podnet_nodes:
  vars: {podnet_allocations_write: false}
  hosts:
    n1: {ansible_host: 192.0.2.1}
    n2: {ansible_host: 192.0.2.2}
"""


def files(top: Path) -> set[str]:
    return {
        str(path.relative_to(top)) for path in top.rglob("*") if "__pycache__" not in path.parts
    }


def test_a_job_fetches_nothing_and_writes_nothing_that_would_be_lost(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for name in TREES:
        unwanted = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, project / name, symlinks=True, ignore=unwanted)
    shutil.copy(ROOT / "ansible.cfg", project)
    (project / "inventory" / "mine").mkdir(parents=True)
    (project / "inventory" / "mine" / "hosts.yml").write_text(HOSTS)
    before = files(project)
    said = {}
    for playbook in ("plan.yml", "site.yml"):
        job = ["ansible-runner", "run", str(tmp_path), "--playbook", f"playbooks/{playbook}"]
        job += ["--inventory", str(project / "inventory" / "mine")]
        done = subprocess.run(
            ["unshare", "--map-root-user", "--net", *job],
            env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        said[playbook] = (done.returncode, " ".join(done.stdout.replace("\\n", " ").split()))
        assert files(project) == before
    assert said["plan.yml"][0] == 0
    assert "n2 10.244.1.0/24 192.0.2.2 02:00:0a:f4:01:00" in said["plan.yml"][1]
    assert said["site.yml"][0] != 0
    assert "has no subnet for n1, n2, and podnet_allocations_write is false" in said["site.yml"][1]

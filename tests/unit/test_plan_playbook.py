"""The filter, the module, the role and plan.yml for real: ansible-playbook, no host asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ANSIBLE = Path(sys.executable).parent

WRITE = """\
- hosts: podnet_nodes
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: podnet_plan}
      run_once: true
    - ansible.builtin.copy:
        dest: "{{ inventory_dir | dirname }}/out.{{ inventory_hostname }}"
        content: "{{ _podnet_plan.document }}"
        mode: "0600"
      delegate_to: localhost
      connection: local
      check_mode: false
"""


class Project:
    """An inventory directory, and playbooks run against it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.record = directory / "inventory" / "podnet_allocations.yml"
        self.record.parent.mkdir()

    def hosts(self, hosts: dict[str, Any], **variables: Any) -> None:
        content = {"podnet_nodes": {"hosts": hosts, "vars": variables}}
        (self.record.parent / "hosts.yml").write_text(yaml.safe_dump(content, sort_keys=False))

    def play(
        self, *arguments: str, playbook: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        if playbook is None:
            path = self.directory / "write.yml"
            path.write_text(WRITE)
        else:
            path = ROOT / "playbooks" / playbook
        environment = os.environ | {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            "ANSIBLE_LOCAL_TEMP": str(self.directory / "tmp"),
        }
        inventory = [] if "-i" in arguments else ["-i", str(self.record.parent)]
        return subprocess.run(
            [str(ANSIBLE / "ansible-playbook"), *inventory, str(path), *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def documents(self) -> list[str]:
        return [path.read_text() for path in sorted(self.directory.glob("out.*"))]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.hosts({f"n{i}": {"ansible_host": f"192.0.2.{i}"} for i in (1, 2, 3)})
    return made


def test_two_runs_and_a_check_before(project: Project) -> None:
    check = project.play("--check", "--diff")
    assert check.returncode == 0, check.stdout
    assert "changed=1" in check.stdout
    assert "+      n3: {subnet: 10.244.2.0/24}" in check.stdout
    assert not project.record.exists()

    first = project.play("--diff")
    assert first.returncode == 0, first.stdout
    assert "+      n3: {subnet: 10.244.2.0/24}" in first.stdout
    assert "[WARNING]" not in first.stdout + first.stderr
    before = project.record.read_text()
    documents = project.documents()
    assert len(documents) == 3
    assert len(set(documents)) == 1
    assert [node["name"] for node in json.loads(documents[0])["nodes"]] == ["n1", "n2", "n3"]

    second = project.play("--diff")
    assert "podnet_allocations" not in second.stdout
    # Ansible reads the file as part of the inventory, and has nothing to say about it.
    assert "[WARNING]" not in second.stdout + second.stderr
    assert project.record.read_text() == before
    assert project.documents() == documents


def test_limit_sees_all_hosts(project: Project) -> None:
    project.play("--limit", "n3")
    assert len(project.documents()) == 1
    assert len(json.loads(project.documents()[0])["nodes"]) == 3
    assert "n1: {subnet: 10.244.0.0/24}" in project.record.read_text()


def test_plan_shows_and_writes_nothing(project: Project) -> None:
    for arguments in ([], ["--limit", "n2"], ["--check"]):
        shown = project.play(*arguments, playbook="plan.yml")
        assert shown.returncode == 0, shown.stdout
        assert "n2    10.244.1.0/24  192.0.2.2  02:00:0a:f4:01:00" in shown.stdout
        assert "3 of 256 subnets used, 253 more nodes fit" in shown.stdout
        assert "changed=1" not in shown.stdout
        assert not project.record.exists()


def test_plan_shows_routes_where_it_is_asked_to(project: Project) -> None:
    hosts = {"n1": {"ansible_host": "192.0.2.1"}}
    project.hosts(hosts, podnet_masquerade=False)
    shown = project.play(playbook="plan.yml").stdout
    assert "podnet_masquerade is off: routers outside need a route" in shown
    assert "ip route add" not in shown
    shown = project.play("-e", "podnet_plan_routes=frr", playbook="plan.yml").stdout
    assert '"ip route 10.244.0.0/24 192.0.2.1"' in shown
    project.hosts(hosts, podnet_plan_routes="bord")
    shown = project.play(playbook="plan.yml").stdout
    assert "must be ip, frr or bird (did you mean bird?)" in shown


@pytest.mark.parametrize("whole", [False, True])
def test_another_working_directory(project: Project, whole: bool) -> None:
    """Beside the playbooks lies what they use; Ansible ignores ansible.cfg where anybody can write.

    `whole`: the project itself lies there.
    """
    here = project.directory / "here"
    here.mkdir()
    here.chmod(0o777)
    names = ("playbooks", "roles", "library", "module_utils", "action_plugins", "filter_plugins")
    for name in (*names, "ansible.cfg") if whole else ():
        (here / name).symlink_to(ROOT / name)
    playbook = "playbooks/plan.yml" if whole else str(ROOT / "playbooks/plan.yml")
    unwanted = ("ANSIBLE_CONFIG", "ANSIBLE_ROLES_PATH", "ANSIBLE_LIBRARY")
    shown = subprocess.run(
        [str(ANSIBLE / "ansible-playbook"), "-i", str(project.record.parent), playbook],
        cwd=here,
        env={key: value for key, value in os.environ.items() if key not in unwanted},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "n2    10.244.1.0/24  192.0.2.2  02:00:0a:f4:01:00" in shown.stdout
    assert ("world writable directory" in shown.stderr) == whole


@pytest.mark.parametrize("inventory", ["all: {hosts: {}}", "podnet_nodes: {hosts: {}}"])
def test_empty_group(project: Project, inventory: str) -> None:
    (project.record.parent / "hosts.yml").write_text(inventory)
    shown = project.play(playbook="plan.yml")
    assert shown.returncode != 0
    assert "podnet_nodes: the group is empty or missing" in shown.stdout + shown.stderr


def test_extra_variables_and_release(project: Project) -> None:
    assert project.play("-e", "podnet_vxlan_vni=42").returncode == 0
    assert json.loads(project.documents()[0])["vni"] == 42
    project.hosts({f"n{i}": {"ansible_host": f"192.0.2.{i}"} for i in (1, 3, 4)})
    assert project.play("-e", "podnet_release=n2").returncode == 0
    assert "n4: {subnet: 10.244.1.0/24}" in project.record.read_text()


def test_inventory_without_a_directory(project: Project) -> None:
    shown = project.play("-i", "podnet_nodes,", playbook="plan.yml")
    assert shown.returncode != 0
    assert not project.record.exists()


def test_inventories_in_two_directories(project: Project) -> None:
    other = project.directory / "other"
    other.mkdir()
    (other / "hosts.yml").write_text("podnet_nodes: {hosts: {n9: {ansible_host: 192.0.2.9}}}")
    both = ("-i", str(project.record.parent), "-i", str(other))
    shown = project.play(*both, playbook="plan.yml")
    assert shown.returncode != 0
    assert "podnet_allocations_file: not set" in shown.stdout + shown.stderr
    chosen = project.play(*both, "-e", f"podnet_allocations_file={other}/a.yml")
    assert chosen.returncode == 0, chosen.stdout
    assert (other / "a.yml").exists()


HOSTILE = [
    ("podnet_bridge", "cni0\nfail"),
    ("podnet_bridge", "{{ lookup('ansible.builtin.pipe', 'id') }}"),
    ("podnet_bridge", "\"'; reboot #"),
    ("podnet_bridge", "cni\u20130"),
    ("podnet_mtu", "{{ nowhere }}"),
    ("podnet_vxlan_vin", 1),
    ("podnet_cluster_cidr", "10.244.0.0/24\n10.0.0.0/8"),
]


@pytest.mark.parametrize(("variable", "value"), HOSTILE)
def test_one_clear_error_and_no_file(project: Project, variable: str, value: object) -> None:
    project.hosts({"n1": {"ansible_host": "192.0.2.1"}}, **{variable: value})
    before = sorted(path.name for path in project.record.parent.iterdir())
    failed = project.play()
    output = failed.stdout + failed.stderr
    assert failed.returncode != 0
    assert variable in output
    assert "Traceback" not in output
    assert "failed=1" in output
    assert sorted(path.name for path in project.record.parent.iterdir()) == before


def test_what_cannot_be_computed_names_host_and_variable(project: Project) -> None:
    broken = {
        "podnet_node_ip": "{{ eth9.ip }}",
        "podnet_bridge": "br-{{ rack }}",
        "podnet_mtu": "{{ 1500 / 0 }}",
        "podnet_endpoints": [{"name": "{{ service }}"}],
    }
    project.hosts({"n1": {"ansible_host": "192.0.2.1"}, "n2": broken})
    output = project.play().stdout
    assert "n2: podnet_node_ip: cannot be computed: 'eth9' is undefined" in output
    assert "n2: podnet_bridge: cannot be computed: 'rack' is undefined" in output
    assert "n2: podnet_mtu: cannot be computed: Error rendering template: division by" in output
    assert "n2: podnet_endpoints: cannot be computed: 'service' is undefined" in output


def test_templates_of_a_host_are_computed_for_it(project: Project) -> None:
    project.hosts(
        {"n1": {"number": 1}, "n2": {"number": 2}},
        podnet_node_ip="192.0.2.{{ number }}/24",
        podnet_endpoints=[{"name": "dns-{{ number }}"}],
        podnet_vxlan_device="podnet.{{ podnet_vxlan_vni }}",
        podnet_vxlan_vni="{{ 6 * 7 }}",
    )
    failed = project.play()
    assert failed.returncode == 0, failed.stdout
    plan = json.loads(project.documents()[0])
    assert plan["device"] == "podnet.42"
    assert [node["ip"] for node in plan["nodes"]] == ["192.0.2.1", "192.0.2.2"]
    assert [node["endpoints"][0]["name"] for node in plan["nodes"]] == ["dns-1", "dns-2"]


def test_a_damaged_file_is_left_alone(project: Project) -> None:
    project.record.write_text("podnet_allocations:\n  vars:\n    version: 1\n    nodes: 7\n")
    failed = project.play()
    assert "podnet_allocations.yml: line 4: nodes must be followed" in failed.stdout
    assert project.record.read_text().endswith("nodes: 7\n")


def test_documentation_is_complete() -> None:
    shown = subprocess.run(
        [str(ANSIBLE / "ansible-doc"), "-t", "module", "podnet_plan", "--json"],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    described = json.loads(shown.stdout)["podnet_plan"]
    assert set(described["doc"]["options"]) == {
        "hosts",
        "allocations_file",
        "release",
        "write",
        "keep",
        "keys",
        "kubernetes_nodes",
        "patches",
        "forget",
    }
    assert described["examples"]
    assert {"document", "nodes", "table"} <= set(described["return"])


def test_a_clusters_pod_cidrs_both_ways(project: Project) -> None:
    nodes = project.directory / "nodes.json"
    items = [
        {"kind": "Node", "metadata": {"name": f"n{k}"}, "spec": {"podCIDRs": [f"10.244.{k}.0/24"]}}
        for k in (1, 2, 3)
    ]
    nodes.write_text(json.dumps({"kind": "List", "items": items}))
    option = ("-e", f"podnet_kubernetes_nodes={nodes}")
    shown = project.play("--check", *option, playbook="import_kubernetes.yml")
    assert shown.returncode == 0, shown.stdout
    assert not project.record.exists()
    taken = project.play(*option, playbook="import_kubernetes.yml")
    assert "has taken over what the cluster says" in taken.stdout, taken.stdout
    allocated = yaml.safe_load(project.record.read_text())["podnet_allocations"]["vars"]["nodes"]
    assert {name: one["subnet"] for name, one in allocated.items()} == {
        f"n{k}": f"10.244.{k}.0/24" for k in (1, 2, 3)
    }
    again = project.play(*option, playbook="import_kubernetes.yml")
    assert "and the cluster agree" in again.stdout, again.stdout
    assert "changed=0" in again.stdout
    missing = project.play(playbook="import_kubernetes.yml")
    assert missing.returncode != 0
    assert "-e podnet_kubernetes_nodes=nodes.json" in missing.stdout, missing.stdout
    absent = project.play(
        "-e", "podnet_kubernetes_nodes=/nowhere", playbook="import_kubernetes.yml"
    )
    assert "/nowhere: cannot be read (No such file" in absent.stdout, absent.stdout

    script = project.directory / "patch.sh"
    told = project.play("-e", f"podnet_kubernetes_patch={script}", playbook="export_kubernetes.yml")
    assert told.returncode == 0, told.stdout
    lines = script.read_text().splitlines()
    assert len([one for one in lines if one.startswith("kubectl patch node n")]) == 3
    subprocess.run(["sh", "-n", str(script)], check=True)
    nowhere = project.directory / "nowhere"
    told = project.play(
        "-e", f"podnet_kubernetes_patch={nowhere}/patch.sh", playbook="export_kubernetes.yml"
    )
    assert told.returncode != 0
    said = " ".join(told.stdout.split())
    assert f"podnet_kubernetes_patch: {nowhere} is no directory on the controller" in said, said


def test_a_cluster_gets_no_subnets_that_are_not_kept(project: Project) -> None:
    done = project.play(playbook="export_kubernetes.yml")
    assert done.returncode != 0
    assert "run site.yml or allocate.yml first" in " ".join(done.stdout.split()), done.stdout

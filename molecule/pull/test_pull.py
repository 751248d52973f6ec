"""ansible-pull on every host by a timer, from a git repository: docs/pull.md, word by word."""

from __future__ import annotations

import importlib.metadata
import io
import os
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from lab import Lab, addresses, machine
from tests.scenario.cluster import PROJECT, Cluster, difference

PAGE = (PROJECT / "docs" / "pull.md").read_text()
UNITS = ("/etc/systemd/system/podnet-pull.service", "/etc/systemd/system/podnet-pull.timer")

#: What a host has from its distribution: ansible-core, what that needs, and netaddr.
PACKAGES = ("ansible-core", "jinja2", "markupsafe", "pyyaml", "packaging", "resolvelib", "netaddr")
PROGRAMS = {"ansible": "adhoc", "ansible-playbook": "playbook", "ansible-pull": "pull"}
_MODULES = "usr/lib/python3/dist-packages"

#: What of this tree is in the hosts' repository.
TREES = (
    *("playbooks", "roles", "library", "module_utils", "action_plugins", "filter_plugins"),
    "ansible.cfg",
)

#: Each start of the timer starts the service, and nothing else does: an empty value takes away all
#: times of the page's timer (systemd.timer(5)), such as a minute after the boot.
AT_ONCE = "[Timer]\nOnActiveSec=\nOnActiveSec=1\nRandomizedDelaySec=0\nAccuracySec=10ms\n"


def block(after: str) -> str:
    """Return the first indented block of the page that follows a text."""
    found = re.search(
        r"^    .*\n(?:    .*\n|\n)*", PAGE.partition(after)[2].partition("\n")[2], re.M
    )
    assert found, after
    return re.sub(r"^    ", "", found[0], flags=re.M).strip("\n") + "\n"


def packages() -> bytes:
    """Return a tar archive, as of a host's root directory, of what lies in PACKAGES."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name in PACKAGES:
            for file in importlib.metadata.distribution(name).files or ():
                if file.parts[0] not in ("..", "ansible_test"):
                    archive.add(str(file.locate()), f"{_MODULES}/{file}", recursive=False)
        for name, module in PROGRAMS.items():
            text = f"#!/usr/bin/python3\nfrom ansible.cli.{module} import main\nmain()\n".encode()
            program = tarfile.TarInfo(f"usr/bin/{name}")
            program.size, program.mode = len(text), 0o755
            archive.addfile(program, io.BytesIO(text))
    return held.getvalue()


class Repository:
    """The hosts' repository, and an administrator's clone of it in the lab's directory."""

    def __init__(self, lab: Lab) -> None:
        self.clone = lab.directory / "network"
        self.origin = lab.directory / "git" / "network.git"
        self.inventory = self.clone / "inventory" / "mine"
        #: The lab's own inventory: how a controller reaches the hosts.
        self._all = yaml.safe_load((lab.inventory_dir / "hosts.yml").read_text())

    def make(self) -> None:
        """Begin anew, with podnet's tree and nothing else."""
        shutil.rmtree(self.origin, ignore_errors=True)
        shutil.rmtree(self.clone, ignore_errors=True)
        self.git("init", "--quiet", "--bare", "--initial-branch", "main", str(self.origin), at="/")
        self.git("clone", "--quiet", str(self.origin), str(self.clone), at="/")
        self.inventory.mkdir(parents=True)
        for name in TREES:
            if (PROJECT / name).is_dir():
                unwanted = shutil.ignore_patterns("__pycache__")
                shutil.copytree(PROJECT / name, self.clone / name, symlinks=True, ignore=unwanted)
            else:
                shutil.copy(PROJECT / name, self.clone / name)
        shutil.copy(PROJECT / ".gitignore", self.clone)
        for words in (["add", "."], ["commit", "--message=podnet"], ["push"]):
            self.git(*words, at=self.clone)

    def write(self, hosts: Sequence[str], **variables: str) -> None:
        """Write the inventory: these hosts, these variables without their `podnet_`."""
        nodes = {host: self._all["podnet_nodes"]["hosts"][host] for host in hosts}
        content = {**self._all, "podnet_nodes": {"hosts": nodes}}
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump(content, sort_keys=False))
        (self.inventory / "group_vars").mkdir(exist_ok=True)
        text = yaml.safe_dump({f"podnet_{name}": value for name, value in variables.items()})
        (self.inventory / "group_vars" / "podnet_nodes.yml").write_text(text)

    def commit(self) -> None:
        """Do what the page says."""
        commands = [one.split() for one in block("`ansible_host` is set for each.").splitlines()]
        ours = [words for words in commands if words[:1] == ["git"] and words[1] != "clone"]
        assert [words[1] for words in ours] == ["add", "commit", "push"]
        for words in ours:
            self.git(*words[1:], at=self.clone)

    def git(self, *argv: str, at: str | Path) -> None:
        """Run git in a directory."""
        subprocess.run(
            ["git", *argv], cwd=at, env=self._environment(), check=True, capture_output=True
        )

    def _environment(self) -> dict[str, str]:
        """Return an environment without the settings of whoever runs the tests."""
        who = {f"GIT_{role}_{what}": "admin@example.org" for role in ("AUTHOR", "COMMITTER")
               for what in ("NAME", "EMAIL")}  # fmt: skip
        return (
            os.environ | who | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
        )


class Pulling:
    """Hosts whose timers start ansible-pull."""

    def __init__(self, cluster: Cluster, repository: Repository) -> None:
        self.cluster = cluster
        self.repository = repository

    def install(self) -> None:
        """Do on every host what the page says, but that the repository is the lab's."""
        archive = packages()
        url = f"git://{addresses.OUTSIDE}/network.git"
        for host in self.cluster.hosts:
            unpack = [*self.cluster.lab.ssh_command(host), "tar -x -C /"]
            subprocess.run(unpack, input=archive, check=True)
            for path in UNITS:
                text = block(f"`{path}`:").replace("https://git.example.org/network.git", url)
                self.cluster.on(host, "tee", path, stdin=text)
            self.cluster.on(host, "mkdir", f"{UNITS[1]}.d")
            self.cluster.on(host, "tee", f"{UNITS[1]}.d/lab.conf", stdin=AT_ONCE)
            assert block("Then\n").splitlines()[0] == "systemctl daemon-reload"
            self.cluster.on(host, "systemctl", "daemon-reload")

    def remove(self) -> None:
        """Take all of that away, but for the packages."""
        for host in self.cluster.hosts:
            self.cluster.on(host, "systemctl", "disable", "--now", "podnet-pull.timer")
            self.cluster.on(host, "rm", "-r", *UNITS, f"{UNITS[1]}.d", "/var/lib/podnet-pull")
            self.cluster.on(host, "systemctl", "daemon-reload")
            self.cluster.on(host, "systemctl", "reset-failed")

    def run(self, *hosts: str) -> dict[str, tuple[str, str]]:
        """Let the timers of hosts elapse; return how each run ended, and what it said."""
        before = {host: self._show(host, "InvocationID") for host in hosts}
        for host in hosts:
            self.cluster.on(host, "systemctl", "enable", "podnet-pull.timer")
            self.cluster.on(host, "systemctl", "restart", "podnet-pull.timer")
        found = {}
        deadline = time.monotonic() + 120
        for host in hosts:
            while True:
                run, state = self._show(host, "InvocationID"), self._show(host, "ActiveState")
                if run and run != before[host] and state in ("inactive", "failed"):
                    break
                assert time.monotonic() < deadline, f"{host}: {state}, {self._said(host, run)}"
                time.sleep(0.2)
            found[host] = (self._show(host, "Result"), self._said(host, run))
        return found

    def demand(self, *hosts: str, changed: int = 1) -> None:
        """Let hosts run, and demand success of each and so many changed tasks."""
        for result, said in self.run(*hosts).values():
            assert result == "success", said
            assert f"changed={changed} " in said.rpartition("PLAY RECAP")[2], said

    def refused(self, host: str) -> str:
        """Let a host run, demand that it fails and changes nothing; return what it said."""
        before = self.cluster.snapshot(host)
        ((result, said),) = self.run(host).values()
        assert result != "success", said
        after = self.cluster.snapshot(host)
        left = [line for line in difference(before, after) if "podnet-pull" not in line]
        assert left == []
        # Nothing that a run wrote would keep git from the next commit.
        assert self.cluster.on(host, "git", "-C", "/var/lib/podnet-pull", "status", "-s") == ""
        return " ".join(said.replace("\\n", " ").split())

    def _show(self, host: str, name: str) -> str:
        return self.cluster.on(
            host, "systemctl", "show", "--value", "-p", name, "podnet-pull.service"
        ).strip()

    def _said(self, host: str, run: str) -> str:
        journal = ("journalctl", "--output=cat", f"_SYSTEMD_INVOCATION_ID={run}")
        return self.cluster.on(host, *journal)


@pytest.fixture(scope="module")
def pulling(cluster: Cluster) -> Iterator[Pulling]:
    """Serve a repository in the lab, and make the hosts ready.

    At the end the timers go: the tests of every scenario know nothing of them.
    """
    repository = Repository(cluster.lab)
    repository.make()
    made = Pulling(cluster, repository)
    made.install()
    served = ["git", "daemon", f"--base-path={repository.origin.parent}", "--export-all"]
    served += [f"--listen={addresses.OUTSIDE}", "--reuseaddr", "--log-destination=none"]
    server = subprocess.Popen(machine.in_netns(cluster.lab.netns, served))
    try:
        yield made
        made.remove()
    finally:
        server.terminate()
        server.wait()


def test_three_hosts_build_themselves(pulling: Pulling, cluster: Cluster) -> None:
    pulling.repository.write(("n1", "n2", "n3"))
    cluster.play("allocate.yml")
    pulling.repository.commit()
    pulling.demand("n1", "n2", "n3")
    assert set(cluster.routes("n1")) == {"10.244.1.0/24", "10.244.2.0/24"}


def test_a_node_is_added_by_a_commit_and_drift_is_repaired(
    pulling: Pulling, cluster: Cluster
) -> None:
    pulling.repository.write(("n4", "n1", "n2", "n3"))
    pulling.repository.commit()
    said = pulling.refused("n1")
    assert "podnet_allocations.yml has no subnet for n4, and this run is on n1 itself" in said
    assert "Write it once with playbooks/allocate.yml, commit it" in said

    cluster.play("allocate.yml")
    pulling.repository.commit()
    cluster.on("n2", "ip", "route", "delete", "10.244.0.0/24")
    pulling.demand("n1", "n2", "n3", "n4")
    cluster.verify()


def test_a_switch_waits_for_a_controller(pulling: Pulling, cluster: Cluster) -> None:
    pulling.repository.write(("n4", "n1", "n2", "n3"), backend="host-gw")
    pulling.repository.commit()
    said = pulling.refused("n1")
    assert "n1 must switch, and this run is on n1 itself without n4, n2, n3" in said
    assert "run site.yml of this commit from a controller that reaches all of them" in said

    assert cluster.site().changed_hosts == {"n1", "n2", "n3", "n4"}
    pulling.demand("n1", changed=0)


def test_a_node_is_taken_out(pulling: Pulling, cluster: Cluster) -> None:
    cluster.on("n4", "sh", "-ec", block("## Take a node out"))
    assert not cluster.has_link("n4", "cni0")
    pulling.repository.write(("n1", "n2", "n3"), backend="host-gw")
    pulling.repository.commit()
    pulling.demand("n1", "n2", "n3")
    assert set(cluster.routes("n1")) == {"10.244.1.0/24", "10.244.2.0/24"}

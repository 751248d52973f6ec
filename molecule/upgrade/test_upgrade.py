"""Files of earlier versions on hosts: taken over as they are; and an older podnet is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.scenario.cluster import PROJECT, Cluster, Run
from tests.upgrade import Recorded, recorded
from tools.collection import PLACES, podnet_version

#: Writes files, given as JSON of `Recorded.hosts`.
_PLACE = """
import json, os, sys
for path, one in json.load(sys.stdin).items():
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if "link" in one:
        os.symlink(one["link"], path)
        continue
    with open(path, "w") as file:
        file.write("\\n".join(one["lines"]))
    os.chmod(path, int(one["mode"], 8))
"""

#: What a boot does with them: each unit that a link enables is started.
_BOOT = """
systemctl daemon-reload
/lib/systemd/systemd-sysctl
networkctl reload
for one in /etc/systemd/system/*.wants/podnet*; do
  systemctl start "${one##*/}"
done
"""

#: How lines of a diff begin that an upgrade may bring.
NEW = (
    *("file ", "table inet podnet set nodes", "table inet podnet chain guard "),
    *("sysctl net.ipv4.neigh.", "sysctl net.ipv6.neigh."),
)

NEWER = "99.0.0"


@pytest.fixture
def settings(cluster: Cluster) -> Iterator[Path]:
    file = cluster.inventory / "group_vars" / "podnet_nodes.yml"
    file.parent.mkdir(exist_ok=True)
    (cluster.inventory / "podnet_allocations.yml").unlink(missing_ok=True)
    yield file
    file.unlink(missing_ok=True)


def place(cluster: Cluster, was: Recorded, settings: Path) -> None:
    """Bring hosts and inventory to where that version has left them."""
    settings.write_text(yaml.safe_dump(was.variables, explicit_start=True))
    (cluster.inventory / "podnet_allocations.yml").write_text(was.allocations)
    for host in cluster.hosts:
        cluster.on(host, "python3", "-c", _PLACE, stdin=json.dumps(was.hosts[host]))
        cluster.on(host, "sh", "-ec", _BOOT)


def record_version(cluster: Cluster, host: str) -> str:
    record = json.loads(cluster.on(host, "cat", "/etc/podnet/podnet/record.json"))
    return str(record.get("podnet_version", ""))


@pytest.mark.parametrize("was", recorded(), ids=str)
def test_an_upgrade(cluster: Cluster, settings: Path, was: Recorded) -> None:
    before = cluster.snapshots()
    place(cluster, was, settings)
    run = cluster.site("--diff")
    # Files of podnet's own may change from one version to the next, its table gets the guard, and
    # its bridge asks for pods in another way; packets must not notice.
    gone, come = (
        Counter(re.findall(rf"^{sign}(?![+-])(.*)$", run.output, re.MULTILINE))
        for sign in (r"-", r"\+")
    )
    changed = [*(gone - come), *(come - gone)]
    assert [line for line in changed if not line.startswith(NEW)] == [], run.output
    assert "Move the routes" not in run.output
    for host in cluster.hosts:
        # An upgrade that has nothing to do does nothing, not even to note itself.
        wanted = podnet_version() if host in run.changed_hosts else json_version(was, host)
        assert record_version(cluster, host) == wanted
    if run.changed_hosts:
        cluster.demand_clean()
    else:
        allocations = (cluster.inventory / "podnet_allocations.yml").read_text()
        assert allocations == was.allocations
    cluster.verify()
    cluster.reset()
    cluster.demand_equal(before, cluster.snapshots())


def json_version(was: Recorded, host: str) -> str:
    record = json.loads(was.text(host, "/etc/podnet/podnet/record.json") or "{}")
    return str(record.get("podnet_version", ""))


class Newer(Cluster):
    """A controller with a newer podnet, and the same inventory."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        """Copy this tree, and raise its version."""
        super().__init__(cluster.lab)
        for name in PLACES:
            # The playbooks find the rest by links beside them.
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(PROJECT / name, directory / name, symlinks=True, ignore=ignored)
        shutil.copy(PROJECT / "ansible.cfg", directory)
        version = directory / "module_utils/podnet/core/version.py"
        text = version.read_text()
        assert text.count(f'"{podnet_version()}"') == 1
        version.write_text(text.replace(podnet_version(), NEWER))
        self.project = directory


def demand_refused(run: Run, host: str) -> None:
    assert run.status != 0, run.output
    assert run.changed_hosts == set(), run.output
    assert f"{host}: /etc/podnet/podnet/record.json: podnet {NEWER} has changed" in run.message
    assert f"the older podnet {podnet_version()}" in run.message
    assert f"Run podnet {NEWER} or later" in run.message
    assert "damaged" not in run.message


def test_an_older_podnet_leaves_a_newer_ones_hosts_alone(
    cluster: Cluster, settings: Path, tmp_path: Path
) -> None:
    newer = Newer(cluster, tmp_path)
    settings.write_text("---\npodnet_backend: vxlan\n")
    cluster.site()
    assert {record_version(cluster, host) for host in cluster.hosts} == {podnet_version()}

    # Nothing to do for the newer one: both may work on.
    assert newer.site().changed_hosts == set()
    cluster.demand_clean()

    # It changes one host, which then refuses the older one, for all.
    with cluster.host_vars("n2", podnet_repair_interval="10min"):
        assert newer.site().changed_hosts == {"n2"}
        assert record_version(cluster, "n2") == NEWER
        assert record_version(cluster, "n1") == podnet_version()
        before = cluster.snapshots()
        # A field that the older one does not know is not damage.
        cluster.on("n2", "sed", "-i", 's/^{/{"later": 1,/', "/etc/podnet/podnet/record.json")
        changed = cluster.snapshots()
        demand_refused(cluster.site(ok=False), "n2")
        demand_refused(cluster.play("reset.yml", ok=False), "n2")
        cluster.demand_equal(changed, cluster.snapshots())
        cluster.on("n2", "sed", "-i", 's/"later": 1,//', "/etc/podnet/podnet/record.json")
        cluster.demand_equal(before, cluster.snapshots())

    # The way back that the message tells. What is there then is for what every scenario ends with.
    newer.reset()
    cluster.site()
    assert {record_version(cluster, host) for host in cluster.hosts} == {podnet_version()}

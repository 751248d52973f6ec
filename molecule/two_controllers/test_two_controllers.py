"""Two runs at once: one brings its change to its end, the other waits or says who is at work."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.scenario.cluster import Cluster
from tests.scenario.site import Started
from tests.traffic import Traffic

CLAIM = "/run/podnet/podnet.run"


class Controller(Cluster):
    """Somebody with a copy of the inventory and SSH connections of their own."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        """Copy the inventory, with the allocations, into a new directory."""
        inventory = directory / "inventory"
        shutil.copytree(cluster.inventory, inventory)
        super().__init__(cluster.lab, inventory)
        self._options = ("-e", f"ansible_control_path_dir={directory}/cp")

    def begin(self, variables: Mapping[str, Any]) -> Started:
        """Start site.yml with these variables, and no others, in group_vars."""
        text = yaml.safe_dump(dict(variables), explicit_start=True)
        (self.inventory / "group_vars" / "podnet_nodes.yml").write_text(text)
        program = Path(sys.executable).parent / "ansible-playbook"
        return Started(
            [str(program), "-i", str(self.inventory), "playbooks/site.yml", *self._options], {}
        )


@pytest.fixture(scope="module")
def two(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Controller, Controller]]:
    yield (
        Controller(cluster, tmp_path_factory.mktemp("one")),
        Controller(cluster, tmp_path_factory.mktemp("other")),
    )
    cluster.site()


def states(cluster: Cluster) -> set[tuple[str, int]]:
    """Return what the hosts have: the device of their routes, the port of the VXLAN device."""
    found = set()
    for host in cluster.hosts:
        port = 0
        if cluster.has_link(host, "flannel.1"):
            port = cluster.link(host, "flannel.1")["data"]["port"]
        found |= {(route["dev"], port) for route in cluster.routes(host).values()}
    return found


#: Seconds from the one's start to the other's: together, and with one ahead by a phase or two.
@pytest.mark.parametrize("ahead", [0.0, 0.3, 2.0])
def test_there_is_never_a_mixture(
    cluster: Cluster, two: tuple[Controller, Controller], ahead: float
) -> None:
    port = 8500 + round(ahead * 10)
    wants: list[dict[str, Any]] = [{"podnet_vxlan_port": port}, {"podnet_backend": "host-gw"}]
    reached = [("flannel.1", port), ("host0", 0)]
    assert states(cluster) != {reached[0]}
    if states(cluster) == {reached[1]}:
        cluster.site()
    with Traffic(cluster.lab) as traffic:
        runs = [two[0].begin(wants[0])]
        time.sleep(ahead)
        runs.append(two[1].begin(wants[1]))
        ended = [run.wait() for run in runs]
        report = traffic.stop()
    assert not report.failures, report.table()
    successes = [number for number, one in enumerate(ended) if one.status == 0]
    assert successes, "both failed: " + " --- ".join(one.message for one in ended)
    if len(successes) == 1:
        assert states(cluster) == {reached[successes[0]]}
        loser = ended[1 - successes[0]]
        assert "Another run of podnet is at work: " in loser.message, loser.output
        # It has let go of all that it had claimed.
        assert two[1 - successes[0]].begin(wants[1 - successes[0]]).wait().status == 0
        assert states(cluster) == {reached[1 - successes[0]]}
    else:
        # One has waited for the other.
        assert len(states(cluster)) == 1
    for host in cluster.hosts:
        assert cluster.on(host, "ls", CLAIM, ok=False) == ""


def test_a_controller_elsewhere_is_named_and_forgotten_when_it_has_died(cluster: Cluster) -> None:
    cluster.site()
    before = cluster.snapshots()
    text = f"{time.time() - 20:.2f} 4711 0123abcd ops@elsewhere\n"
    cluster.on("n2", "sh", "-c", f"mkdir -p /run/podnet && cat >{CLAIM}", stdin=text)
    options = ("-e", "podnet_vxlan_port=8499")
    # Looking is free.
    assert cluster.check(*options).changed_hosts == set(cluster.hosts)
    run = cluster.site(*options, ok=False)
    assert run.status != 0
    for word in ("ops@elsewhere, process 4711", "(on n2)", "Nothing was changed"):
        assert word in run.message, run.output
    cluster.demand_equal(before, cluster.snapshots())
    assert cluster.on("n1", "ls", CLAIM, ok=False) == ""
    # Nobody has anything to change, so nobody is in the way.
    assert cluster.site().changed_hosts == set()
    cluster.on("n2", "touch", "-d", "11 minutes ago", CLAIM)
    assert cluster.site(*options).changed_hosts == set(cluster.hosts)
    assert cluster.on("n2", "ls", CLAIM, ok=False) == ""


def test_a_removal_is_refused_while_another_run_works(cluster: Cluster) -> None:
    before = cluster.snapshots()
    text = f"{time.time() - 20:.2f} 4711 0123abcd ops@elsewhere\n"
    cluster.on("n2", "sh", "-c", f"mkdir -p /run/podnet && cat >{CLAIM}", stdin=text)
    run = cluster.play("reset.yml", ok=False)
    assert run.status != 0
    assert "ops@elsewhere, process 4711" in run.message, run.output
    cluster.demand_equal(before, cluster.snapshots())
    assert cluster.on("n2", "cat", CLAIM) == text
    assert cluster.on("n1", "ls", CLAIM, ok=False) == ""
    cluster.on("n2", "rm", CLAIM)


def test_a_removal_disarms_a_rollback_and_leaves_nothing_in_run(cluster: Cluster) -> None:
    cluster.on("n1", "mkdir", "-m", "0700", "/run/podnet/podnet.rollback")
    unit = "podnet-rollback-podnet"
    command = ["touch", "/run/rolled-back"]
    cluster.on("n1", "systemd-run", f"--unit={unit}", "--on-active=1h", *command)
    run = cluster.reset()
    assert "not loaded" not in run.output
    assert cluster.on("n1", "systemctl", "is-active", f"{unit}.timer", ok=False) == "inactive\n"
    for host in cluster.hosts:
        assert (
            cluster.on(host, "find", "/run", "-path", "/run/podnet/*", "-o", "-path", "/run/podnet")
            == ""
        )

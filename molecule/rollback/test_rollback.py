"""A change that cuts SSH is undone by the hosts themselves, and nothing else notices.

The second network's range holds the address that the controller comes from, so as soon as it
stands, the hosts' answers go into it and are lost.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import addresses
from tests.scenario.cluster import Cluster, Snapshot
from tests.scenario.furnish import furnish
from tests.scenario.site import Site, Started
from tests.traffic import Traffic

#: Seconds of covering/group_vars.
TIMEOUT = 12


class Covering(Site):
    """The network whose range holds the controller's address, seen from a controller anywhere."""

    def __init__(self, cluster: Cluster, inventory: Path, directory: Path) -> None:
        super().__init__(cluster.lab, inventory)
        config = (cluster.lab.directory / "ssh_config").read_text()
        inside = directory / "ssh_config"
        inside.write_text(config.replace(" nc -F ", f" nc -s {addresses.OUTSIDE} -F "))
        assert addresses.OUTSIDE in inside.read_text()
        #: Variables of a controller that the change cuts off; it shares no connection with others.
        self.inside = (
            "-e",
            f"ansible_ssh_common_args='-F {inside}'",
            "-e",
            f"ansible_control_path_dir={directory}/cp",
        )

    def begin(self, timeout: int = TIMEOUT) -> Started:
        """Start a run that will be cut off; return when all hosts have armed their undoing."""
        program = Path(sys.executable).parent / "ansible-playbook"
        argv = [str(program), "-i", str(self.inventory), "playbooks/site.yml", *self.inside]
        argv += ["-e", f"podnet_rollback_timeout={timeout}"]
        run = Started(argv, {})
        for host in self.hosts:
            self.wait(host, "test", "-d", "/run/podnet/covering.rollback")
        return run

    def wait(self, host: str, *argv: str, seconds: float = 60.0) -> None:
        """Wait until a command on a host succeeds."""
        deadline = time.monotonic() + seconds
        while self.lab.run(host, argv, check=False).returncode:
            assert time.monotonic() < deadline, f"{host}: {argv} did not succeed in {seconds} s"
            time.sleep(0.1)

    def demand_built(self) -> None:
        """Demand that the network stands, and that a run has nothing to do."""
        assert all(self.has_link(host, "cni1") for host in self.hosts)
        assert self.site().changed_hosts == set()
        left = self.on_all("find", "/run/podnet", "-name", "covering.roll*")
        assert set(left.values()) == {""}
        timers = self.on_all("systemctl", "list-units", "--all", "--no-legend", "podnet-rollback-*")
        assert set(timers.values()) == {""}


def settled(cluster: Cluster) -> dict[str, Snapshot]:
    """Return the hosts' states when they have come to rest: addresses usable, units done."""
    for _ in range(20):
        one = cluster.snapshots()
        time.sleep(2)
        if cluster.snapshots() == one:
            return one
    raise AssertionError("the hosts do not come to rest")


@pytest.fixture(scope="module")
def covering(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Covering]:
    with Traffic(cluster.lab):
        pass  # The first pods leave what others find: leases, a bridge that was once up.
    inventory = Path(__file__).parent / "covering"
    shutil.copy(cluster.inventory / "hosts.yml", inventory)
    try:
        yield Covering(cluster, inventory, tmp_path_factory.mktemp("inside"))
    finally:
        for name in ("hosts.yml", "podnet_allocations.yml"):
            (inventory / name).unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def clean(cluster: Cluster, covering: Covering) -> Iterator[None]:
    """Begin without the second network, and end as it began."""
    before = settled(cluster)
    yield
    covering.reset()
    after = settled(cluster)
    for host in cluster.hosts:
        # It is gone when a host was rebooted.
        before[host]["files"].pop("/run/podnet-traffic.zip", None)
        after[host]["files"].pop("/run/podnet-traffic.zip", None)
    cluster.demand_equal(before, after)


def test_a_run_that_cuts_itself_off_is_undone_and_says_so(
    cluster: Cluster, covering: Covering
) -> None:
    before = settled(cluster)
    with Traffic(cluster.lab) as traffic:
        began = time.monotonic()
        run = covering.site(*covering.inside, ok=False)
        print(f"the run took {time.monotonic() - began:.0f} s")
        report = traffic.stop()
    assert not report.failures, report.table()
    assert run.status != 0
    for host in cluster.hosts:
        assert f"{host}: the change was undone at" in run.message, run.output
    cluster.demand_equal(before, settled(cluster))
    cluster.verify()

    # From elsewhere the same change cuts nobody off.
    covering.site()
    covering.demand_built()


def test_a_timer_of_a_killed_run_is_settled_by_the_next(covering: Covering) -> None:
    run = covering.begin(timeout=120)
    run.kill()
    said = covering.site()
    assert "its timed rollback was disarmed" in said.message, said.output
    covering.demand_built()


def test_a_killed_run_is_undone_and_the_next_says_so(cluster: Cluster, covering: Covering) -> None:
    before = settled(cluster)
    run = covering.begin()
    run.kill()
    for host in covering.hosts:
        covering.wait(host, "test", "-e", "/run/podnet/covering.rolled-back", seconds=TIMEOUT + 20)
    cluster.demand_equal(before, settled(cluster))
    said = covering.site()
    assert "the change of an earlier run was undone at" in said.message, said.output
    covering.demand_built()


def test_a_host_that_reboots_meanwhile_is_in_its_old_state(
    cluster: Cluster, covering: Covering
) -> None:
    run = covering.begin(timeout=120)
    run.kill()
    cluster.lab.power_cut("n1")
    cluster.lab.start("n1")
    furnish(cluster.lab, "n1")
    covering.wait("n1", "ip", "link", "show", "flannel.1")
    assert not covering.has_link("n1", "cni1")
    # Boot files are written when a change is confirmed, not before.
    assert covering.on("n1", "find", "/etc/podnet/covering", "-name", "boot*") == ""
    cluster.verify()
    covering.site()
    covering.demand_built()

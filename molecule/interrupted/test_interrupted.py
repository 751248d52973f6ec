"""A switch that is interrupted at any point: nobody is cut off, and the next run finishes it.

Controllers are killed, hosts rebooted or made to fail, while the pods of any two hosts ping each
other every 5 ms and hold TCP connections on hosts that drop what comes in the wrong way
(rp_filter=1).
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import yaml

from tests.scenario.cluster import PROJECT, Cluster, record_file
from tests.scenario.furnish import furnish
from tests.scenario.site import Ended, Site
from tests.traffic import Report, Traffic

BACKENDS = ("host-gw", "vxlan")
VIA = {"host-gw": "host0", "vxlan": "flannel.1"}

#: How many moments of a switch are tried, in both directions in turn: tests/model stops hosts at
#: every single step, and here real ones show that the moments between are no others.
MOMENTS = 3

#: Phase -> the title of its task.
TITLES: dict[str, str] = yaml.safe_load(
    (PROJECT / "roles/podnet_network/vars/main.yml").read_text()
)["_podnet_titles"]

KILL = [["KILL"]]

#: With this a host can neither begin nor record a phase.
READ_ONLY = ("mount", "-o", "bind,ro", "/etc/podnet", "/etc/podnet")


class Switcher:
    """The hosts, which backend they have now, and how fresh hosts look with each."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.fresh: dict[str, dict[str, Any]] = {}
        self.lasts: dict[str, float] = {}

    @property
    def now(self) -> str:
        """The backend that the hosts have, as the first one's routes say."""
        devices = self.vias()[self.site.hosts[0]]
        return next(backend for backend in BACKENDS if devices == {VIA[backend]})

    @property
    def other(self) -> str:
        """The backend that the hosts do not have."""
        now = self.now
        return next(one for one in BACKENDS if one != now)

    def run(self, backend: str, phase: str = "", commands: Sequence[Sequence[str]] = ()) -> Ended:
        """Ask for a backend and run site.yml, whatever comes of it.

        `commands` are run just before the phase begins on any host.
        """
        self.site.set(backend=backend)
        if not phase:
            return self.site.start().wait()
        title = TITLES[phase]
        run = self.site.start({title: commands}).wait()
        assert run.status < 0 or f"at {title}:" in run.output, f"no such task:\n{run.output}"
        return run

    def settle_first(self, backend: str) -> None:
        """Run site.yml on hosts that have nothing; they are fresh ones of that backend."""
        run = self.run(backend)
        assert run.status == 0, run.output
        self.fresh[backend] = self.site.observed()

    def settle(self, backend: str) -> None:
        """Run site.yml until its end; demand the state of fresh hosts."""
        run = self.run(backend)
        assert run.status == 0, run.output
        assert self.site.observed() == self.fresh[backend]

    def vias(self) -> dict[str, set[str]]:
        """Return the devices that each host's routes to its peers take."""
        return {
            host: {
                one["dev"]
                for family in ("-4", "-6")
                for one in self.site.routes(host, family).values()
                if "/" in one["dst"]
            }
            for host in self.site.hosts
        }


@pytest.fixture(scope="module")
def switcher(cluster: Cluster) -> Iterator[Switcher]:
    site = Site(cluster.lab)
    with site.strict(), site.restored():
        made = Switcher(site)
        # Molecule has just made them, and they never were anything else.
        made.fresh["vxlan"] = site.observed()
        site.reset()
        made.settle_first("host-gw")
        yield made
    for host in site.hosts:
        # What a reboot has taken from it, and the scenario's end looks for.
        if record_file(site.lab).exists() and not site.has_link(host, "br-other"):
            furnish(site.lab, host)


@pytest.fixture(scope="module")
def traffic(switcher: Switcher) -> Iterator[Traffic]:
    with Traffic(switcher.site.lab) as watched:
        yield watched


def demand_unfelt(traffic: Traffic) -> None:
    """Fail if a ping, a connection or time was lost; the next test counts anew."""
    report = traffic.report()
    if report.failures:
        traffic.forget()
    assert not report.failures, report.table()


def test_an_uninterrupted_switch_tells_how_long_one_takes(
    switcher: Switcher, traffic: Traffic
) -> None:
    for _ in BACKENDS:
        backend = switcher.other
        run = switcher.run(backend)
        assert run.status == 0, run.output
        switcher.lasts[backend] = run.seconds - run.began(TITLES["prepare"])
        assert set.union(*switcher.vias().values()) == {VIA[backend]}
        assert switcher.site.observed() == switcher.fresh[backend]
    demand_unfelt(traffic)


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_killed_controller_is_not_felt_and_the_next_run_finishes(
    switcher: Switcher, traffic: Traffic, moment: int
) -> None:
    for _ in range(5):
        backend = switcher.other
        switcher.site.set(backend=backend)
        started = switcher.site.start()
        began = started.wait_for(TITLES["prepare"])
        time.sleep(switcher.lasts[backend] * (moment + 0.5) / MOMENTS)
        killed = started.running()
        started.kill()
        switcher.settle(backend)
        demand_unfelt(traffic)
        if killed:
            return
        # It was faster than the one before; nothing was interrupted.
        switcher.lasts[backend] = (started.ended or began) - began
    raise AssertionError("all runs ended before they could be killed")


@pytest.mark.parametrize("phase", ["shift", "commit"])
@pytest.mark.parametrize("before", BACKENDS[::-1])  # so that fewer switches lie between
def test_a_killed_switch_can_be_taken_back(
    switcher: Switcher, traffic: Traffic, before: str, phase: str
) -> None:
    if switcher.now != before:
        switcher.settle(before)
    wanted = switcher.other
    assert switcher.run(wanted, phase, KILL).status < 0
    expected = VIA[before if phase == "shift" else wanted]
    assert set.union(*switcher.vias().values()) == {expected}
    switcher.settle(before)
    demand_unfelt(traffic)


def on(site: Site, host: str, *argv: str) -> list[str]:
    """Return the command that runs `argv` on a host."""
    return [sys.executable, "-m", "lab", "exec", "--name", site.lab.name, host, "--", *argv]


def test_a_host_that_fails_in_prepare_keeps_all_from_shifting(
    switcher: Switcher, traffic: Traffic
) -> None:
    if switcher.now == "vxlan":
        switcher.settle("host-gw")
    site = switcher.site
    foreign = ["foreign", "type", "vxlan", "id", "1", "dstport", "8472", "local", "192.0.2.12"]
    appear = [
        on(site, "n2", "ip", "link", "add", *foreign),
        on(site, "n2", "ip", "link", "set", "foreign", "up"),
    ]
    run = switcher.run("vxlan", "prepare", appear)
    try:
        assert run.status > 0, run.output
        assert "n2: foreign on the host uses VNI 1 and port 8472" in run.message
        assert set.union(*switcher.vias().values()) == {"host0"}
        # It stays in the way: the next run says so before it changes anything.
        before = site.observed()
        assert switcher.run("vxlan").status != 0
        assert site.observed() == before
    finally:
        site.on("n2", "ip", "link", "del", "foreign")
    switcher.settle("vxlan")
    demand_unfelt(traffic)


def test_a_host_that_fails_in_shift_is_named_and_stays_connected(
    switcher: Switcher, traffic: Traffic
) -> None:
    site = switcher.site
    for back in (True, False):
        before, wanted = switcher.now, switcher.other
        try:
            run = switcher.run(wanted, "shift", [on(site, "n2", *READ_ONLY)])
            assert run.status > 0, run.output
            assert "n2" in run.message.partition("The run stops here")[2]
            vias = switcher.vias()
            assert vias["n2"] == {VIA[before]}
            assert vias["n1"] | vias["n3"] == {VIA[wanted]}
        finally:
            site.on("n2", "umount", "/etc/podnet")
        switcher.settle(before if back else wanted)
        demand_unfelt(traffic)


# The tests below lose a host's pods, so each watches with pods of its own.


@pytest.fixture
def without_traffic(traffic: Traffic) -> None:
    assert not traffic.stop().failures, traffic.result.table()


def test_a_host_that_is_off_keeps_all_from_changing(
    switcher: Switcher, without_traffic: None
) -> None:
    site = switcher.site
    before, wanted = switcher.now, switcher.other
    site.lab.power_off("n3")
    try:
        with Traffic(site.lab, ["n1", "n2"]) as traffic:
            run = switcher.run(wanted)
            assert run.status > 0, run.output
            assert "n3 cannot be reached and would be cut off. Nothing was changed" in run.message
    finally:
        site.lab.start("n3")
        # SSH answers before all services have started.
        site.on("n3", "systemctl", "is-system-running", "--wait", ok=False)
    assert not traffic.result.failures, traffic.result.table()
    # As it was; the tests below begin with a switch of all three.
    assert site.observed() == switcher.fresh[before]


#: Seconds, twice what docs/operations.md states: the run gives up on a host that says nothing by
#: itself, and not when TCP does, after 15 minutes.
SILENCE = 120


@pytest.mark.parametrize("phase", ["prepare", "shift"])
def test_a_host_that_falls_silent_in_a_call_is_given_up_and_cuts_nobody_off(
    switcher: Switcher, without_traffic: None, phase: str
) -> None:
    site = switcher.site
    before, wanted = switcher.now, switcher.other
    # Its frames are dropped where its cable ends; the host itself sees nothing of it.
    port = ["ip", "netns", "exec", site.lab.netns, "bridge", "link", "set", "dev", "n3", "state"]
    with Traffic(site.lab, ["n1", "n2"]) as traffic:
        try:
            run = switcher.run(wanted, phase, [[*port, "0"]])
            assert run.status > 0, run.output
            assert run.seconds - run.began(TITLES[phase]) < SILENCE
            assert "n3: lost" in run.message.partition("The run stops here")[2], run.output
            assert not any(TITLES["commit"] in title for title, _ in run.tasks)
            vias = switcher.vias()
            if phase == "prepare":
                assert vias["n1"] | vias["n2"] == {VIA[before]}
        finally:
            subprocess.run([*port, "3"], check=True)
        switcher.settle(wanted)
    assert not traffic.result.failures, traffic.result.table()


@pytest.mark.parametrize("backend", BACKENDS[::-1])  # in turn, so that no switch lies between
@pytest.mark.parametrize("phase", ["shift", "commit"])
def test_a_host_that_reboots_between_phases_reaches_all_as_soon_as_it_is_up(
    switcher: Switcher, without_traffic: None, phase: str, backend: str
) -> None:
    site = switcher.site
    if switcher.now == backend:
        switcher.settle(switcher.other)
    reboot = [sys.executable, "-m", "lab", "reboot", "--name", site.lab.name, "n2"]
    with Traffic(site.lab, gateways=True) as traffic:
        run = switcher.run(backend, phase, [reboot, ["sleep", "1.5"]])
        # The run goes on over a new connection, or says who failed.
        assert run.status >= 0, run.output
        assert run.status == 0 or "n2" in run.message.partition("The run stops here")[2], run.output
        up = booted(site, "n2")
    report = traffic.result
    elsewhere = report.between("n1", "n3") + report.between("n3", "n1")
    assert not any(pair.failures for pair in elsewhere), report.table()
    for other in ("n1", "n3"):
        assert last_lost(report, other, "n2/host"), "n2 was not down"
        # Nothing that a host is for begins before its network is there.
        assert last_lost(report, other, "n2/bridge") < up + 0.1, report.table()
    # Pods that are made on it now reach all others and are reached.
    with Traffic(site.lab) as again:
        time.sleep(0.5)
    assert not again.result.failures, again.result.table()
    if run.status:
        switcher.settle(backend)
    assert site.observed() == switcher.fresh[backend]


def booted(site: Site, host: str) -> float:
    """Return when, by the wall clock, a host had started all its services."""
    shown = site.on(
        host, "systemctl", "show", "multi-user.target", "-p", "ActiveEnterTimestampMonotonic"
    )
    return int(shown.partition("=")[2]) / 1e6 + time.time() - time.monotonic()


def last_lost(report: Report, source: str, target: str) -> float:
    """Return when the last ping from a host's pods to a target was lost, 0 for never."""
    pairs = report.between(source, target.partition("/")[0])
    lost = [at for pair in pairs if pair.target == target for at in pair.lost_at]
    return max(lost, default=0.0)

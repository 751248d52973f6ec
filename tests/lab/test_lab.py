"""A lab with two hosts on two segments: what it promises, and that nothing is left of it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab, LabError, borrowed, machine
from lab.addresses import OUTSIDE, OUTSIDE6

pytestmark = pytest.mark.lab

NAME = "labtest"
PROJECT = Path(__file__).resolve().parents[2]


def left_of(lab: Lab) -> list[str]:
    """Everything on the machine that has this lab's name."""
    found = [str(path) for path in (lab.directory, machine.netns_path(lab.netns)) if path.exists()]
    found += machine.mounts_below(lab.directory)
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{lab.netns}")]
    found += [str(path) for path in Path("/run/systemd").glob(f"nspawn/*/{lab.netns}-*")]
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            words = (directory / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(lab.netns in word or f"{lab.directory}/" in word for word in words):
            found.append(f"{directory}: {' '.join(words)}")
    return found


@pytest.fixture(scope="module")
def inventory_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inventory") / "lab"


@pytest.fixture(scope="module")
def lab(inventory_dir: Path) -> Iterator[Lab]:
    this = Lab(NAME, inventory_dir)
    this.up(hosts=2, segments=2)
    yield this
    this.down()


def ping(lab: Lab, host: str, address: str, *options: str) -> int:
    return lab.run(host, ["ping", "-n", "-c1", "-W2", *options, address], check=False).returncode


def test_hosts_reach_each_other_across_the_router(lab: Lab) -> None:
    n1, n2 = lab.hosts.values()
    assert n1.segment != n2.segment
    assert ping(lab, "n1", n2.address, "-M", "do", "-s", "1472") == 0
    assert ping(lab, "n1", n2.address6) == 0
    assert ping(lab, "n1", OUTSIDE) == 0
    assert ping(lab, "n1", OUTSIDE6) == 0
    assert ping(lab, "n1", n2.address, "-M", "do", "-s", "1473") != 0


def test_nothing_leads_to_the_machines_own_network(lab: Lab) -> None:
    routes = lab.run_outside(["ip", "route"]).stdout
    assert "default" not in routes
    links = lab.run_outside(["ip", "-o", "link"]).stdout.splitlines()
    assert {line.split()[1].rstrip(":").split("@")[0] for line in links} == {
        "lo",
        "seg1",
        "seg2",
        "n1",
        "n2",
    }


def test_a_host_is_a_whole_debian_with_its_own_identity(lab: Lab) -> None:
    assert lab.run("n1", ["hostname"]).stdout == "n1\n"
    ids = {lab.run(name, ["cat", "/etc/machine-id"]).stdout for name in lab.hosts}
    assert len(ids) == 2
    lab.run("n1", ["systemctl", "is-system-running", "--wait"])
    # What podnet must turn on itself is off, whatever the machine has.
    assert lab.run("n1", ["sysctl", "-n", "net.ipv4.ip_forward"]).stdout == "0\n"
    lab.run("n1", ["sysctl", "-w", "net.ipv4.conf.host0.rp_filter=2"])
    assert lab.run("n1", ["pwd"]).stdout == "/\n"


def test_ssh_checks_host_keys(lab: Lab) -> None:
    assert subprocess.run([*lab.ssh_command("n1"), "true"], check=False).returncode == 0
    known = lab.directory / "known_hosts"
    text = known.read_text()
    first, second = text.splitlines()
    # n2's key under n1's name: somebody else answers.
    known.write_text(f"{first.split()[0]} {' '.join(second.split()[1:])}\n")
    try:
        done = subprocess.run(
            [*lab.ssh_command("n1"), "true"], capture_output=True, text=True, check=False
        )
    finally:
        known.write_text(text)
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr


def test_exec_passes_words_and_status(lab: Lab) -> None:
    argv = [sys.executable, "-m", "lab", "exec", "--name", NAME, "n2", "--"]
    script = 'printf "%s|" "$0" "$@"; exit 3'
    done = subprocess.run(
        [*argv, "sh", "-c", script, "a  b", "$HOME", "'"],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "a  b|$HOME|'|", "")


def test_a_reboot_keeps_the_disk_and_loses_the_kernels_state(lab: Lab) -> None:
    lab.run("n1", ["touch", "/root/kept"])
    lab.run("n1", ["ip", "link", "add", "lost", "type", "bridge"])
    leader = lab.leader("n1")
    lab.reboot("n1")
    assert lab.leader("n1") not in (0, leader)
    lab.run("n1", ["test", "-e", "/root/kept"])
    assert lab.run("n1", ["ip", "link", "show", "lost"], check=False).returncode == 1
    assert ping(lab, "n1", lab.hosts["n2"].address) == 0


def test_power(lab: Lab) -> None:
    lab.run("n2", ["touch", "/root/kept"])
    lab.power_cut("n2")
    assert not lab.is_on("n2")
    assert ping(lab, "n1", lab.hosts["n2"].address) != 0
    with pytest.raises(LabError, match="n2 is off"):
        lab.run("n2", ["true"])
    lab.start("n2")
    lab.run("n2", ["test", "-e", "/root/kept"])
    lab.power_off("n2")
    assert not lab.is_on("n2")
    lab.start("n2")
    assert ping(lab, "n1", lab.hosts["n2"].address) == 0


def test_a_lab_grows_and_shrinks(lab: Lab, inventory_dir: Path) -> None:
    added = lab.add()
    assert (added.name, added.address) == ("n3", "192.0.2.13")
    assert "192.0.2.13/24" in (inventory_dir / "hosts.yml").read_text()
    assert ping(lab, "n2", added.address) == 0
    lab.remove("n3")
    assert list(lab.hosts) == ["n1", "n2"]
    assert "n3:" not in (inventory_dir / "hosts.yml").read_text()
    with pytest.raises(LabError, match="no host 'n3'"):
        lab.run("n3", ["true"])


def test_down_leaves_nothing_not_even_ansibles_connections(lab: Lab, inventory_dir: Path) -> None:
    ansible = Path(sys.executable).with_name("ansible")
    subprocess.run(
        [ansible, "-i", inventory_dir, "all", "-m", "ansible.builtin.ping"],
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    assert len(list((lab.directory / "cp").iterdir())) == 2
    assert left_of(lab)
    assert lab.down() == []
    assert left_of(lab) == []
    assert not inventory_dir.exists()
    assert lab.down() == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_start_is_cleared(tmp_path: Path, how: signal.Signals) -> None:
    lab = Lab(NAME, tmp_path / "inventory")
    others = list(borrowed.RUN.glob("*/lab.json"))
    argv = [sys.executable, "-m", "lab", "up", "--name", NAME, "--hosts", "3"]
    argv += ["--inventory", str(tmp_path / "inventory")]
    starting = subprocess.Popen(
        argv, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 30
    while not lab.processes() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert lab.processes()
    os.kill(starting.pid, how)
    starting.wait(timeout=30)
    if how == signal.SIGKILL:
        assert left_of(lab)
        lab.up(hosts=1)
        assert list(lab.hosts) == ["n1"]
        lab.down()
    assert left_of(lab) == []
    # Another lab may have come or gone meanwhile; then what all labs borrow is not ours to judge.
    if not others and not [one for one in borrowed.RUN.glob("*") if one.is_dir()]:
        assert not borrowed.RUN.exists()

"""The timed rollback: when it is needed, what it runs, and whom it watches."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from podnet.core.errors import PodnetError
from podnet.core.state import Change, Link, State
from podnet.host import rollback
from podnet.keep import files, lock
from podnet.kernel import apply
from podnet.kernel.run import Result

OPTIONS = "id 1 dstport 8472 local 192.0.2.11 nolearning"
VXLAN = Link("vxlan", 1450, "02:00:0a:f4:00:00", "podnet:podnet", options=OPTIONS)
BRIDGE = Link("bridge", 1450, "02:00:00:00:00:01", "podnet:podnet")
ROUTE = "via 203.0.113.64 dev flannel.1 onlink"


def state(**changes: object) -> State:
    made = State(
        links={"flannel.1": VXLAN, "cni0": BRIDGE},
        addresses={("cni0", "10.244.0.1/24"): "", ("flannel.1", "10.244.0.0/32"): ""},
        neighbours={("flannel.1", "203.0.113.64"): "02:00:00:00:00:02"},
        entries={("flannel.1", "02:00:00:00:00:02"): "192.0.2.12"},
        routes={"203.0.113.64/26": ROUTE, "10.244.1.0/24": "via 10.244.1.0 dev flannel.1 onlink"},
    )
    for field, value in changes.items():
        setattr(made, field, value)
    return made


# fmt: off
#: What changes, and whether packets to 203.0.113.70 then take another way.
CASES = {
    "nothing": (state(), False),
    "another number of the device": (
        state(links={"flannel.1": VXLAN._replace(ifindex=7), "cni0": BRIDGE}), False),
    "a peer of another subnet": (
        state(routes={"203.0.113.64/26": ROUTE, "10.244.9.0/24": "via 10.244.9.0 dev x"}), False),
    "the route": (state(routes={"203.0.113.64/26": "via 192.0.2.12 dev eth0"}), True),
    "no route": (state(routes={}), True),
    "a narrower route": (
        state(routes={"203.0.113.64/26": ROUTE, "203.0.113.70/32": "via 192.0.2.9 dev eth0"}),
        True),
    "a narrower one beside": (
        state(routes={"203.0.113.64/26": ROUTE, "203.0.113.71/32": "via 192.0.2.9 dev eth0"}),
        False),
    "the bridge's own prefix": (
        state(addresses={("cni0", "203.0.113.65/26"): ""}, routes={}), True),
    "the port": (
        state(links={"flannel.1": VXLAN._replace(options="id 1 dstport 4789 nolearning"), "cni0": BRIDGE}), True),
    "the device is gone": (state(links={"cni0": BRIDGE}), True),
    "the peer's MAC": (
        state(neighbours={("flannel.1", "203.0.113.64"): "02:00:00:00:00:03"}), True),
    "the peer's address": (
        state(entries={("flannel.1", "02:00:00:00:00:02"): "192.0.2.99"}), True),
}
# fmt: on


@pytest.mark.parametrize("name", CASES)
def test_endangers(name: str) -> None:
    after, expected = CASES[name]
    assert rollback.endangers(state(), after, "203.0.113.70") is expected
    assert rollback.endangers(after, state(), "203.0.113.70") is expected


@pytest.mark.parametrize("address", ["", "UNKNOWN", "192.0.2.1", "fe80::1%eth0", "2001:db8::1"])
def test_a_client_elsewhere_or_none_is_not_endangered(address: str) -> None:
    assert not rollback.endangers(state(), State(), address)


def test_a_client_of_the_other_family() -> None:
    six = {"fd00:1::/64": "via fd00:1:: dev flannel.1 onlink metric 1024"}
    assert rollback.endangers(state(), state(routes=six), "fd00:1::9")
    assert rollback.endangers(state(), state(routes=six), "fd00:1::9%eth0")


def process(proc: Path, pid: str, parent: str, environment: bytes) -> None:
    (proc / pid).mkdir(parents=True)
    (proc / pid / "environ").write_bytes(environment)
    (proc / pid / "status").write_text(f"Name:\tx\nPid:\t{pid}\nPPid:\t{parent}\n")


def test_the_client_is_found_above_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollback, "PROC", str(tmp_path))
    process(tmp_path, "self", "30", b"PATH=/bin\0SUDO_USER=me\0")
    process(tmp_path, "30", "20", b"")
    process(tmp_path, "20", "1", b"A=1\0SSH_CONNECTION=2001:db8::7 5000 192.0.2.11 22\0")
    assert rollback.client() == "2001:db8::7"


@pytest.mark.parametrize("value", [b"", b"SSH_CONNECTION=", b"XSSH_CONNECTION=1.2.3.4 1 2 3"])
def test_no_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: bytes) -> None:
    monkeypatch.setattr(rollback, "PROC", str(tmp_path))
    process(tmp_path, "self", "1", value)
    assert rollback.client() == ""


def test_a_process_that_is_gone_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollback, "PROC", str(tmp_path))
    process(tmp_path, "self", "77", b"")
    assert rollback.client() == ""


CHANGES = [
    Change("sysctl", ("net.ipv4.conf.eth0/1.rp_filter=1",), "", ""),
    Change("ip", ("route replace 10.244.1.0/24 via 192.0.2.12 dev eth0 proto 112",), "", ""),
    Change("ip", ("link del dev flannel.1",), "", ""),
    Change("nft", ("add table inet podnet", "delete table inet podnet"), "", ""),
    Change("iptables", ("iptables -w -D FORWARD -s 10.244.0.0/16 -j ACCEPT",), "", ""),
    Change("pod", ("/run/netns/$(id)", "link set dev $(touch${IFS}x) mtu 1450"), "", ""),
]


def test_the_script_is_a_way_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script is run, with tools that only tell what they were given."""
    run, state_directory, tools = tmp_path / "run", tmp_path / "etc", tmp_path / "bin"
    (run / "podnet.rollback").mkdir(parents=True)
    (state_directory / "podnet").mkdir(parents=True)
    tools.mkdir()
    for tool in ("ip", "nft", "bridge", "iptables", "nsenter"):
        (tools / tool).write_text(
            f'#!/bin/sh\necho "{tool}|$*" >>{tmp_path}/said\n'
            f"[ {tool} = iptables ] || cat >>{tmp_path}/said\n"
        )
        (tools / tool).chmod(0o755)
    monkeypatch.setattr(rollback, "DIRECTORY", str(run))
    monkeypatch.setattr(rollback, "SEARCH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setattr(rollback, "sysctl_path", lambda key: tmp_path / key.replace("/", "."))
    monkeypatch.setattr(files, "STATE", str(state_directory))
    record, originals = state_directory / "podnet" / "record.json", state_directory / "originals"
    for number, (before, after) in enumerate([("old", "new"), ("old", "new")]):
        (run / "podnet.rollback" / f"{number}.before").write_text(before)
        (run / "podnet.rollback" / f"{number}.after").write_text(after)
    record.write_text("new")
    originals.write_text("another network's run wrote since")
    script = run / "podnet.rollback" / "undo"
    script.write_text(rollback.script("podnet", CHANGES, [str(record), str(originals)]))

    subprocess.run(["sh", "-u", str(script)], check=True, cwd=tmp_path, timeout=20)
    assert (tmp_path / "said").read_text().splitlines() == [
        "ip|-force -batch -",
        "route replace 10.244.1.0/24 via 192.0.2.12 dev eth0 proto 112",
        "link del dev flannel.1",
        "nft|-f -",
        "add table inet podnet",
        "delete table inet podnet",
        "iptables|-w -D FORWARD -s 10.244.0.0/16 -j ACCEPT",
        "nsenter|--net=/run/netns/$(id) ip -batch -",
        "link set dev $(touch${IFS}x) mtu 1450",
    ]
    assert (tmp_path / "net.ipv4.conf.eth0.1.rp_filter").read_text() == "1"
    assert record.read_text() == "old"
    assert originals.read_text() == "another network's run wrote since"
    assert sorted(one.name for one in run.iterdir()) == ["podnet.lock", "podnet.rolled-back"]
    assert not (tmp_path / "x").exists()


def test_a_confirmed_script_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollback, "DIRECTORY", str(tmp_path))
    text = rollback.script("podnet", [Change("ip", ("link del dev lo",), "", "")], ["/nowhere/x"])
    subprocess.run(["sh", "-c", text], check=True, timeout=20)
    assert [one.name for one in tmp_path.iterdir()] == ["podnet.lock"]


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A systemd that only writes down what it was told."""
    said: list[list[str]] = []

    def run(argv: list[str], stdin: str | None = None) -> Result:
        said.append(argv)
        return Result(0, "", "")

    monkeypatch.setattr(rollback, "run", run)
    monkeypatch.setattr(shutil, "which", lambda tool, path="": f"/usr/bin/{tool}")
    for module in (rollback, lock):
        monkeypatch.setattr(module, "DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setattr(files, "STATE", str(tmp_path / "etc"))
    monkeypatch.setattr(files, "DIRECTORIES", str(tmp_path / "etc" / "directories"))
    (tmp_path / "run").mkdir()
    return said


def test_arming_stops_a_timer_that_was_left(systemd: list[list[str]], tmp_path: Path) -> None:
    rollback.arm("podnet", [], {"/nowhere/record.json": "old"}, 15)
    assert [argv[1] for argv in systemd] == [
        "stop",
        "reset-failed",
        "--unit=podnet-rollback-podnet",
    ]
    assert rollback.is_armed("podnet")
    assert not (tmp_path / "etc").exists()
    rollback.confirm("podnet")
    assert not rollback.is_armed("podnet")


def test_a_timer_that_cannot_be_armed_leaves_nothing(
    systemd: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollback, "run", lambda argv: Result(int("--unit" in argv[1]), "", "no"))
    with pytest.raises(PodnetError, match="so nothing was changed: no"):
        rollback.arm("podnet", [], {}, 15)
    assert not rollback.is_armed("podnet")


def test_what_a_dead_run_left_is_told_and_settled(systemd: list[list[str]], tmp_path: Path) -> None:
    assert rollback.settle("podnet") == []
    (tmp_path / "run" / "podnet.rollback").mkdir()
    (tmp_path / "run" / "podnet.rollback.running").mkdir()
    (tmp_path / "run" / "podnet.rolled-back").write_text("2026-01-01 10:00:00\n")
    notes = " ".join(rollback.settle("podnet"))
    assert "rollback was disarmed" in notes
    assert "cut short" in notes
    assert "was undone at 2026-01-01 10:00:00" in notes
    assert rollback.settle("podnet") == []


def test_a_confirmation_that_comes_too_late(systemd: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / "run" / "podnet.rolled-back").write_text("2026-01-01 10:00:00\n")
    with pytest.raises(PodnetError, match="undone at 2026-01-01 10:00:00"):
        rollback.confirm("podnet")


def test_a_change_of_an_unknown_tool_is_an_error_wherever_it_is_made() -> None:
    change = Change("ipp", ("link add x type dummy",), "", "link x")
    with pytest.raises(PodnetError, match="ipp: no change that can be undone"):
        rollback.script("podnet", [change], [])
    with pytest.raises(PodnetError, match="ipp: no tool that makes a change"):
        apply.apply([change], State())

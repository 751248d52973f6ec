"""The timed rollback: when it is needed, what it runs, and whom it watches."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from podnet.core.errors import PodnetError
from podnet.core.state import Change, Link, State
from podnet.host import rollback, ssh_clients
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
    assert rollback.endangers(state(), after, ["203.0.113.70"]) is expected
    assert rollback.endangers(after, state(), ["203.0.113.70"]) is expected


@pytest.mark.parametrize("address", ["", "UNKNOWN", "192.0.2.1", "fe80::1%eth0", "2001:db8::1"])
def test_a_client_elsewhere_or_none_is_not_endangered(address: str) -> None:
    assert not rollback.endangers(state(), State(), [address])


def test_a_client_of_the_other_family() -> None:
    six = {"fd00:1::/64": "via fd00:1:: dev flannel.1 onlink metric 1024"}
    assert rollback.endangers(state(), state(routes=six), ["fd00:1::9"])
    assert rollback.endangers(state(), state(routes=six), ["fd00:1::9%eth0"])


def test_one_of_several_clients_is_enough() -> None:
    gone = state(routes={})
    assert rollback.endangers(state(), gone, ["192.0.2.1", "203.0.113.70"])
    assert rollback.may_endanger([state(), gone], ["192.0.2.1", "203.0.113.70"])
    assert not rollback.endangers(state(), gone, ["192.0.2.1", "198.51.100.2"])
    assert not rollback.endangers(state(), gone, [])


#: A run's name, and the SSH session that it comes in by.
RUN = "1764036785.25 4711 8f14e45f me@controller"
IN = "SSH_CONNECTION=2001:db8::7 5000 192.0.2.11 22"
SSHD = ("1", "SSHD_OPTS=", "sshd: me@notty")

#: process -> its parent, environment, command line; "self" is this one. molecule/ways has those of
#: sudo, su and systemd-run, which does what run0 and `machinectl shell` do, on hosts.
TREES: dict[str, tuple[dict[str, tuple[str, str, str]], list[str], bool]] = {
    "root": ({"self": ("30", IN, "python3"), "30": ("20", IN, "sh -c python3"), "20": SSHD},
             ["2001:db8::7"], True),
    "sudo": ({"self": ("40", "SUDO_USER=me", "python3"),
              "40": ("31", "SUDO_USER=me", "/bin/sh -c echo BECOME-SUCCESS-x ; python3"),
              "31": ("30", IN, "sudo -H -S -n -u root /bin/sh -c python3"),
              "30": ("20", IN, "sh -c sudo"), "20": SSHD}, ["2001:db8::7"], True),
    "sudo with use_pty": (
        {"self": ("41", "SUDO_USER=me", "python3"),
         "41": ("40", "", "sudo -H -S -u root /bin/sh -c python3"),
         "40": ("30", IN, "sudo -H -S -u root /bin/sh -c python3"),
         "30": ("20", IN, "sh -c sudo"), "20": SSHD}, ["2001:db8::7"], True),
    "su": ({"self": ("40", "HOME=/root", "python3"), "40": ("31", "HOME=/root", "bash -c python3"),
            "31": ("30", IN, "su root -c python3"), "30": ("20", IN, "sh -c su"), "20": SSHD},
           ["2001:db8::7"], True),
    "machinectl": (
        {"self": ("50", "INVOCATION_ID=4", "python3"),
         "50": ("1", "INVOCATION_ID=4", "/bin/sh -c python3"),
         "31": ("30", IN, "machinectl -q shell root@ /bin/sh -c python3"),
         "30": ("20", IN, "sh -c machinectl"), "20": SSHD}, ["2001:db8::7"], False),
    "run0, and somebody else is on the host": (
        {"self": ("50", "SUDO_USER=me", "python3"), "50": ("1", "SUDO_USER=me", "sh -c python3"),
         "31": ("30", IN, "run0 --user=root sh -c python3"),
         "30": ("20", IN, "sh -c run0"), "20": SSHD,
         "70": ("1", IN.replace("2001:db8::7", "203.0.113.9"), "bash")},
        ["2001:db8::7", "203.0.113.9"], False),
    "nobody is on the host": ({"self": ("50", "A=1", "python3"), "50": ("1", "", "sh")}, [], True),
    "ansible-pull by a timer, and somebody is on the host": (
        {"self": ("4712", "", "python3"), "4712": ("4711", "", "python3 ansible-playbook -c local"),
         "4711": ("60", "", "python3 /usr/bin/ansible-playbook -c local site.yml"),
         "60": ("1", "", "python3 /usr/bin/ansible-pull"), "70": ("1", IN, "bash")}, [], True),
    "ansible-playbook on the host, by somebody in a session": (
        {"self": ("4711", "", "python3"), "4711": ("70", IN, "python3 ansible-playbook site.yml"),
         "70": ("20", IN, "bash"), "20": SSHD}, ["2001:db8::7"], True),
    "a process of the host has the controller's id by chance": (
        {"self": ("4711", "", "python3"), "4711": ("1", "", "sh -c python3"),
         "70": ("1", IN, "run0")}, ["2001:db8::7"], False),
    "a parent that is gone": ({"self": ("77", "", "python3")}, [], True),
    "an empty SSH_CONNECTION": ({"self": ("1", "SSH_CONNECTION=", "python3")}, [], True),
    "another variable": ({"self": ("1", f"X{IN}", "python3")}, [], True),
}  # fmt: skip


@pytest.mark.parametrize("case", TREES)
def test_whom_a_change_must_not_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setattr(ssh_clients, "PROC", str(tmp_path))
    tree, addresses, certain = TREES[case]
    for pid, (parent, environment, command) in tree.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "environ").write_bytes(f"PATH=/bin\0{environment}\0".encode())
        (tmp_path / pid / "cmdline").write_bytes(command.replace(" ", "\0").encode())
        (tmp_path / pid / "status").write_text(f"Name:\tx\nPid:\t{pid}\nPPid:\t{parent}\n")
    found = ssh_clients.clients(RUN)
    assert (found.addresses, found.certain) == (addresses, certain)
    assert bool(found.note()) == (not certain)
    assert all(address in found.note() for address in addresses) or certain
    # A call that knows nothing of the run errs on the safe side.
    assert set(ssh_clients.clients().addresses) >= set(addresses)


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

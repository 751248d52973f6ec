"""br_netfilter: who needs it, what podnet does about it, and where it finds out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from podnet.core.model import Node
from podnet.keep import boot
from podnet.kernel import bridge_netfilter as edge
from podnet.state import managers
from podnet.state.bridge_netfilter import AUTO, KEYS, OFF, ON, BridgeFacts, decide

IP, IP6 = KEYS[4], KEYS[6]
KUBELET = "/usr/bin/kubelet"
NOBODY = BridgeFacts()
BUILT_IN = BridgeFacts(KUBELET, present=True, release="6.1")
MODULE = BridgeFacts(KUBELET, present=False, loadable=True, release="6.1")
LOADED = BridgeFacts(KUBELET, present=True, loadable=True, release="6.1")
LACKING = BridgeFacts(KUBELET, release="6.1")
OFF_NOW, ON_NOW = {IP: "0", IP6: "0"}, {IP: "1", IP6: "1"}

# fmt: off
#: podnet_bridge_netfilter, what the host answers, its sysctls -> sets them, loads the module,
#: families that pass iptables, words of a problem, of a warning.
DECISIONS = {
    "auto, nobody needs it": (AUTO, NOBODY, OFF_NOW, False, False, (), "", ""),
    "auto, nobody needs it and it is on": (AUTO, NOBODY, ON_NOW, False, False, (4, 6), "", ""),
    "auto, a kubelet": (AUTO, BUILT_IN, OFF_NOW, True, False, (4, 6), "", ""),
    "auto, a kubelet, and it is on": (AUTO, BUILT_IN, ON_NOW, True, False, (4, 6), "", ""),
    "auto, a kubelet, a module": (AUTO, MODULE, OFF_NOW, True, True, (4, 6), "", ""),
    "auto, a kubelet, the module is loaded": (AUTO, LOADED, OFF_NOW, True, True, (4, 6), "", ""),
    "auto, a kubelet, no module": (AUTO, LACKING, OFF_NOW, False, False, (), "", "/usr/bin/kubelet is here"),
    "true, nobody needs it": (ON, LOADED._replace(client=""), OFF_NOW, True, True, (4, 6), "", ""),
    "true, no module": (ON, LACKING._replace(client=""), OFF_NOW, False, False, (), "podnet_bridge_netfilter is true", ""),
    "true, a kubelet, no module": (ON, LACKING, OFF_NOW, False, False, (), "has no br_netfilter", ""),
    "false, nobody needs it": (OFF, NOBODY, OFF_NOW, False, False, (), "", ""),
    "false, a kubelet, and it is off": (OFF, BUILT_IN, OFF_NOW, False, False, (), "", f"{IP} is not 1 and {IP6} is not 1"),
    "false, a kubelet, half of it is off": (OFF, BUILT_IN, {IP: "1", IP6: "0"}, False, False, (4,), "", f"here, {IP6} is not 1"),
    "false, a kubelet, and it is on": (OFF, BUILT_IN, ON_NOW, False, False, (4, 6), "", ""),
}
# fmt: on


def node(mode: str, **more: str) -> Node:
    return Node(name="n1", bridge_netfilter=mode, **{"subnet": "10.244.0.0/24", **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("case", DECISIONS)
def test_what_podnet_does(case: str) -> None:
    mode, facts, values, sets, loads, families, problem, warning = DECISIONS[case]
    found = decide(node(mode, subnet6="fd00:1::/64"), facts, values)
    assert dict(found.sysctls) == (ON_NOW if sets else {})
    assert (found.module, found.families) == (loads, families)
    for words, said in ((problem, found.problems), (warning, found.warnings)):
        assert len(said) == bool(words)
        # Each names the host, what happens, and the way out.
        for line in said:
            assert line.startswith("n1: ")
            assert words in line
            assert "hangs" in line
            assert "podnet_bridge_netfilter: " in line


def test_only_the_families_of_the_pods_count() -> None:
    assert dict(decide(node(ON), LOADED, OFF_NOW).sysctls) == {IP: "1"}
    only6 = node(ON, subnet="", subnet6="fd00:1::/64")
    assert dict(decide(only6, LOADED, OFF_NOW).sysctls) == {IP6: "1"}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host without anything, whose files lie in a directory."""
    (tmp_path / "proc/1").mkdir(parents=True)
    (tmp_path / "proc/1/comm").write_text("systemd\n")
    (tmp_path / "proc/self").mkdir()
    (tmp_path / "proc/self/status").write_text("Name:\tpython3\nCapEff:\t000001ffffffffff\n")
    # pathlib drops a drive of "/", so paths are moved by a class of their own.
    real = Path
    move: Callable[..., Path] = lambda *parts: tmp_path / str(real(*parts)).lstrip("/")  # noqa: E731
    monkeypatch.setattr(edge, "Path", move)
    monkeypatch.setattr(edge, "sysctl_path", lambda key: move("/proc/sys", key.replace(".", "/")))
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(release="6.1"))
    return tmp_path


@pytest.mark.parametrize(
    ("path", "client"),
    [
        ("usr/bin/kubelet", KUBELET),
        ("usr/local/bin/k3s", "/usr/local/bin/k3s"),
        ("opt/bin/kubelet", "/opt/bin/kubelet"),
        ("etc/systemd/system/k0sworker.service", "/etc/systemd/system/k0sworker.service"),
        ("lib/systemd/system/kubelet.service", "/lib/systemd/system/kubelet.service"),
        ("proc/77/comm", "kube-proxy (process 77)"),
        ("usr/bin/kubectl", ""),
        ("etc/systemd/system/kubelet.service.d/10.conf", ""),
    ],
)
def test_who_needs_it_is_found(host: Path, path: str, client: str) -> None:
    (host / path).parent.mkdir(parents=True, exist_ok=True)
    (host / path).write_text("kube-proxy\n")
    assert edge.ask(node(AUTO)).client == client


def test_the_kernel_is_asked_only_where_it_matters(host: Path) -> None:
    assert edge.ask(node(AUTO)) == BridgeFacts()
    assert edge.ask(node(OFF)) == BridgeFacts()
    assert edge.ask(node(ON)) == BridgeFacts(release="6.1")


def test_a_module_is_told_from_what_is_built_in(host: Path) -> None:
    modules = host / "lib/modules/6.1"
    modules.mkdir(parents=True)
    (modules / "modules.dep").write_text("kernel/net/bridge/bridge.ko: kernel/net/llc/llc.ko\n")
    assert not edge.ask(node(ON)).loadable
    listed = "kernel/net/bridge/br_netfilter.ko.xz: kernel/net/bridge/bridge.ko.xz\n"
    (modules / "modules.dep").write_text(listed)
    assert edge.ask(node(ON)) == BridgeFacts("", False, True, "6.1")
    # In a container that may load none.
    (host / "proc/self/status").write_text("Name:\tpython3\nCapEff:\t00000000a80425fb\n")
    assert not edge.ask(node(ON)).loadable
    sysctl = host / "proc/sys" / IP.replace(".", "/")
    sysctl.parent.mkdir(parents=True)
    sysctl.write_text("1\n")
    assert edge.ask(node(ON)) == BridgeFacts("", True, False, "6.1")
    (host / "sys/module/br_netfilter").mkdir(parents=True)
    assert not edge.ask(node(ON)).loadable
    (host / "sys/module/br_netfilter/initstate").write_text("live\n")
    assert edge.ask(node(ON)) == BridgeFacts("", True, True, "6.1")


def test_the_module_is_loaded_at_boot_before_sysctls_are_set() -> None:
    made = managers.drop_ins("podnet", ["cni0"], (), {IP: "1"}, modules=["br_netfilter"])
    assert made["/etc/modules-load.d/podnet-podnet.conf"] == (
        "# Made by podnet for pod network podnet.\nbr_netfilter\n"
    )
    assert made.keys() <= set(boot.paths("podnet"))

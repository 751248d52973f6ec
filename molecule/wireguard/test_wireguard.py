"""WireGuard: peers and keys, drift, switches that no pod feels, and what a capture shows."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from tests.scenario.cluster import Cluster, Run
from tests.scenario.furnish import furnish
from tests.scenario.site import Site
from tests.traffic import Traffic

DEVICE = "flannel-wg"
KEY_FILES = "/etc/podnet/podnet/wireguard-*.key"
PSK_FILE = "/etc/podnet/podnet/wireguard.psk"
REPLAY = "/etc/podnet/replay"
PSK = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@pytest.fixture(scope="module")
def site(cluster: Cluster) -> Iterator[Site]:
    made = Site(cluster.lab)
    with made.strict():
        yield made
    for host in made.hosts:
        # What a reboot has taken from it, and the scenario's end looks for.
        if not made.has_link(host, "br-other"):
            furnish(made.lab, host)


def keys(site: Site) -> dict[str, str]:
    """Return the public keys in the allocations file."""
    return {host: one["key"] for host, one in site.allocations().items() if "key" in one}


def state(site: Site) -> Any:
    """Return what the hosts have, with hosts' names in place of their keys."""
    text = json.dumps(site.observed(), sort_keys=True)
    for host, key in keys(site).items():
        text = text.replace(key, f"the key of {host}")
    found = json.loads(text)
    for one in found.values():
        # Where the kernel keeps routes in the order in which they came, and editions count runs.
        for name in ("network", "generation", "digest", "nodes"):
            one["state"]["record"].pop(name, None)
        files = (re.sub(r"wireguard-[0-9a-f]{12}", "wireguard", path) for path in one["files"])
        one["files"] = sorted(path for path in files if "/boot." not in path)
        one["state"]["peers"].sort(key=lambda peer: str(peer["public_key"]))
        boot = one["state"]["boot"]
        text = re.sub(r"wireguard-[0-9a-f]{12}", "wireguard", boot.get("wireguard", ""))
        boot["wireguard"] = "\n".join(sorted(text.splitlines()))
    return found


def key_file(site: Site, host: str) -> str:
    """Return the path of the one private key that a host has, "" for none."""
    return site.on(host, "sh", "-c", f"ls {KEY_FILES} 2>/dev/null || true").strip()


def private_keys(site: Site) -> list[str]:
    return [site.on(host, "cat", key_file(site, host)).strip() for host in site.hosts]


def test_every_host_has_its_peers_and_routes(site: Site) -> None:
    known = keys(site)
    assert set(known) == set(site.hosts)
    for number, host in enumerate(site.hosts):
        link = site.link(host, DEVICE)
        assert (link["mtu"], site.link(host, "cni0")["mtu"]) == (1440, 1440)
        assert site.on(host, "wg", "show", DEVICE, "public-key").strip() == known[host]
        assert site.on(host, "stat", "-c", "%a", key_file(site, host)).strip() == "600"
        allowed = dict(
            line.split("\t")
            for line in site.on(host, "wg", "show", DEVICE, "allowed-ips").splitlines()
        )
        assert allowed == {
            known[peer]: f"10.244.{other}.0/24"
            for other, peer in enumerate(site.hosts)
            if peer != host
        }
        shown = site.json_on(host, "ip", "-json", "route", "show", "proto", "112")
        assert {(one["dst"], one["dev"], one["prefsrc"]) for one in shown} == {
            (f"10.244.{other}.0/24", DEVICE, f"10.244.{number}.1")
            for other in range(3)
            if other != number
        }


def test_a_private_key_is_seen_nowhere(site: Site) -> None:
    secret = private_keys(site)
    assert len(set(secret)) == 3
    psk = ["-e", f"podnet_wireguard_psk={PSK}"]
    runs = [site.check("-vvv"), site.site("--diff", "-vvv", *psk), site.check("-vvv", *psk)]
    for host in site.hosts:
        assert site.on(host, "cat", PSK_FILE).strip() == PSK
        shared = site.on(host, "wg", "show", DEVICE, "preshared-keys").splitlines()
        assert [line.split("\t")[1] for line in shared] == [PSK] * 2
        boot = site.on(host, "sh", "-c", "cat /etc/podnet/podnet/boot/* /etc/podnet/podnet/*.json")
        assert not [one for one in [*secret, PSK] if one in boot]
    shown = [run.output.replace(f"podnet_wireguard_psk={PSK}", "") for run in runs]
    shown.append(json.dumps(site.info()))
    assert not [one for one in [*secret, PSK] for text in shown if one in text]
    assert runs[2].changed_hosts == set()
    site.verify(*psk)
    assert site.site().changed_hosts == set(site.hosts)
    for host in site.hosts:
        assert "(none)" in site.on(host, "wg", "show", DEVICE, "preshared-keys")
        assert not site.on(host, "sh", "-c", f"ls {PSK_FILE} 2>/dev/null || true")


def break_first(site: Site) -> dict[str, str]:
    """Break something else on each host; return host -> words of the check that finds it."""
    known = keys(site)
    site.on("n1", "wg", "set", DEVICE, "peer", known["n2"], "remove")
    # Of n1, which has lost this peer: a peer that sends mends its endpoint by that.
    site.on("n2", "wg", "set", DEVICE, "peer", known["n1"], "endpoint", "192.0.2.99:51820")
    site.on("n3", "wg", "set", DEVICE, "peer", known["n2"], "allowed-ips", "10.244.9.0/24")
    return {
        "n1": f"peer {known['n2']} dev {DEVICE}",
        "n2": "endpoint 192.0.2.99:51820",
        "n3": f"peer {known['n2']} dev {DEVICE} allowed-ips 10.244.9.0/24",
    }


def break_second(site: Site) -> dict[str, str]:
    file = key_file(site, "n1")
    site.on("n1", "rm", file)
    site.on("n2", "ip", "link", "del", DEVICE)
    site.on("n3", "wg", "set", DEVICE, "listen-port", "4000")
    return {"n1": f"file {file}", "n2": f"link {DEVICE}", "n3": "listen-port 4000"}


def break_third(site: Site) -> dict[str, str]:
    strange = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
    site.on("n1", "ip", "link", "set", DEVICE, "mtu", "1300")
    site.on("n2", "wg", "set", DEVICE, "peer", strange, "allowed-ips", "10.244.7.0/24")
    site.on("n3", "ip", "route", "del", "10.244.0.0/24")
    return {"n1": "mtu 1300", "n2": strange, "n3": "route 10.244.0.0/24"}


@pytest.mark.parametrize("broken", [break_first, break_second, break_third])
def test_drift_is_found_and_repaired(site: Site, broken: Callable[[Site], dict[str, str]]) -> None:
    before, secret = state(site), private_keys(site)
    found = broken(site)
    check = site.check()
    assert check.changed_hosts == set(site.hosts)
    for host, words in found.items():
        assert words in check.message, f"{host}: {words}\n{check.output}"
    assert site.site().changed_hosts == set(site.hosts)
    assert state(site) == before
    assert private_keys(site) == secret
    site.demand_clean()


def test_a_process_that_dies_comes_back_with_all(site: Site) -> None:
    before = state(site)
    site.on("n2", "systemctl", "kill", "--signal=KILL", f"podnet-wireguard-{DEVICE}.service")
    wait(lambda: "10.244.2.0/24" in site.on("n2", "ip", "route", "show", "dev", DEVICE, ok=False))
    site.verify()
    assert state(site) == before
    site.demand_clean()


def test_a_boot_needs_no_controller(site: Site) -> None:
    before = state(site)
    for host in site.hosts:
        site.lab.reboot(host)
    for host in site.hosts:
        site.on(host, "systemctl", "is-system-running", "--wait", ok=False)
    site.verify()
    assert state(site) == before
    site.demand_clean()


@contextlib.contextmanager
def told_to_wg(site: Site, host: str) -> Iterator[Callable[[], list[str]]]:
    """Note on a host what wg(8) is told to set; yield what reads the notes."""
    note = 'case $1 in set) echo "$*" >>/run/wg.log ;; esac'
    site.on(
        host,
        *("sh", "-c", "cat >/usr/local/sbin/wg; chmod +x /usr/local/sbin/wg; : >/run/wg.log"),
        stdin=f'#!/bin/sh\n{note}\nexec /usr/bin/wg "$@"\n',
    )
    try:
        yield lambda: site.on(host, "cat", "/run/wg.log").splitlines()
    finally:
        site.on(host, "rm", "/usr/local/sbin/wg", "/run/wg.log")


def test_a_living_peer_keeps_its_addresses(site: Site) -> None:
    """Who sets allowed-ips again takes them away for a moment, in which packets are lost."""
    with told_to_wg(site, "n1") as told:
        # A replay with nothing to do, others for a lost peer and for another thing, and runs.
        site.on("n1", "sh", "-c", f"rm -f /run/podnet/podnet.seen; sh {REPLAY} podnet")
        lost = keys(site)["n2"]
        site.on("n1", "wg", "set", DEVICE, "peer", lost, "remove")
        site.on("n1", "sh", REPLAY, "podnet")
        site.on("n1", "wg", "set", DEVICE, "peer", lost, "persistent-keepalive", "7")
        site.on("n1", "sh", REPLAY, "podnet")
        psk = ["-e", f"podnet_wireguard_psk={PSK}"]
        assert "n1" in site.site(*psk).changed_hosts
        assert "n1" in site.site().changed_hosts
        known = told()
    again = [line for line in known if "allowed-ips" in line]
    assert len(again) == 1, known
    assert f"peer {lost} allowed-ips 10.244.1.0/24" in again[0]
    assert len([line for line in known if "preshared-key /etc/podnet" in line]) >= 1
    site.demand_clean()


def wait(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something is so; fail if it is not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.2)


def test_switches_are_not_felt_and_leave_nothing(site: Site) -> None:
    fresh = state(site)
    with watched(site) as traffic:
        for backend in ("vxlan", "wireguard", "host-gw", "wireguard"):
            run = site.site("-e", f"podnet_backend={backend}")
            assert run.changed_hosts == set(site.hosts)
            assert bool(keys(site)) == (backend == "wireguard")
            for host in site.hosts:
                has = site.has_link(host, DEVICE)
                assert (has, bool(key_file(site, host))) == (
                    (True, True) if backend == "wireguard" else (False, False)
                )
            traffic.report().demand_none_lost(backend)
        after = state(site)
    assert without_ports(after) == without_ports(fresh)


def watched(site: Site) -> Traffic:
    """Return a watch whose two pods a host join each ordered pair of hosts by a ping every 5 ms."""
    return Traffic(site.lab, interval=0.01)


def without_ports(found: dict[str, Any]) -> dict[str, Any]:
    return {host: {**one, "state": {**one["state"], "ports": {}}} for host, one in found.items()}


TEXT = "the-quick-brown-fox-"


def test_a_wire_shows_neither_text_nor_pods(site: Site) -> None:
    """A capture of all that passes between the hosts, while pods send a known text."""
    capture = "/tmp/capture"
    for switched in (False, True):
        if switched:
            site.site("-e", "podnet_backend=vxlan")
        words = sent(site, capture)
        assert words["text"] == switched, "the capture sees nothing"
        assert words["pods"] == switched
        if switched:
            site.site()
            assert sent(site, capture) == {"text": False, "pods": False, "udp": True}
        else:
            assert words["udp"]


def sent(site: Site, capture: str) -> dict[str, bool]:
    """Send a text from the bridge of n1 to that of n2; return what a capture on n1's wire holds."""
    site.on("n1", "rm", "-f", capture)
    unit = "--unit=capture"
    # Else a packet waits for others for up to a second, and is lost when the capture ends.
    at_once = ["--immediate-mode", "-U"]
    dump = ["tcpdump", "-i", "host0", "-s", "0", *at_once, "-w", capture]
    site.on("n1", "systemd-run", "--quiet", "--collect", unit, *dump)
    wait(lambda: site.lab.run("n1", ["test", "-s", capture], check=False).returncode == 0)
    serve = "import socket,sys\ns=socket.create_server(('10.244.1.1', 7000))\nc,_=s.accept()\n"
    serve += "print(len(b''.join(iter(lambda: c.recv(65536), b''))))"
    server = subprocess.Popen(
        [*_on(site, "n2"), "timeout", "30", "python3", "-c", serve],
        stdout=subprocess.PIPE,
        text=True,
    )
    send = "import socket,time\n"
    send += "for _ in range(100):\n try:\n  c=socket.create_connection(('10.244.1.1', 7000), 5, "
    send += "('10.244.0.1', 0)); break\n except OSError: time.sleep(0.1)\n"
    send += f"c.sendall({TEXT!r}.encode() * 5000)"
    site.on("n1", "python3", "-c", send)
    assert server.communicate(timeout=40)[0].strip() == str(len(TEXT) * 5000)
    site.on("n1", "sh", "-c", "sleep 0.5; systemctl stop capture.service")
    read = ["tcpdump", "-n", "-r", capture]
    return {
        "text": site.lab.run("n1", ["grep", "-c", TEXT, capture], check=False).returncode == 0,
        "pods": "10.244." in site.on("n1", *read),
        "udp": bool(site.on("n1", *read, "udp", "port", "51820").strip()),
    }


def _on(site: Site, host: str) -> list[str]:
    return [sys.executable, "-m", "lab", "exec", "--name", site.lab.name, host, "--"]


def refused(site: Site, words: str, *arguments: str) -> Run:
    """Demand that a run says so and changes nothing."""
    before = state(site)
    run = site.site(*arguments, ok=False)
    assert run.status != 0
    assert words in run.message, run.output
    assert run.changed_hosts == set()
    assert state(site) == before
    return run


def test_what_is_wrong_is_told_and_nothing_changes(site: Site) -> None:
    private = key_file(site, "n1")
    site.on("n1", "chmod", "644", private)
    refused(site, f"n1: {private} has mode 0644")
    site.on("n1", "chmod", "600", private)
    file = site.inventory / "podnet_allocations.yml"
    text = file.read_text()
    known = keys(site)
    file.write_text(text.replace(known["n1"], known["n2"]))
    refused(site, "n2 has the public key of n1")
    file.write_text(text)
    refused(site, "would travel in the clear", "-e", "podnet_direct_routing=true")
    refused(site, "must be 32 bytes in base64", "-e", "podnet_wireguard_psk=short")
    port = ["-e", "podnet_wireguard_port=4000", "-e", "podnet_wireguard_device=other-wg"]
    holder = "import socket,time\ns=socket.socket(type=socket.SOCK_DGRAM)\n"
    holder += "s.bind(('0.0.0.0', 4000))\ntime.sleep(100)"
    site.on("n2", "systemd-run", "--quiet", "--collect", "--unit=holder", "python3", "-c", holder)
    wait(lambda: ":4000" in site.on("n2", "ss", "-lun"))
    refused(site, "n2: UDP port 4000 is in use by process", *port)
    site.on("n2", "systemctl", "stop", "holder.service")
    refused(site, "has no WireGuard", "-e", "podnet_wireguard_userspace=false", *port)


def test_new_keys_and_another_port_are_not_felt(site: Site) -> None:
    """The device can neither stay beside its successor nor be renamed: hosts make a detour."""
    before, known = state(site), keys(site)
    with watched(site) as traffic:
        run = site.site("-e", "podnet_wireguard_rotate=true")
        assert run.changed_hosts == set(site.hosts)
        traffic.report().demand_none_lost("rotation")
        assert not set(keys(site).values()) & set(known.values())
        port = ["-e", "podnet_wireguard_port=4000"]
        assert site.site(*port).changed_hosts == set(site.hosts)
        for host in site.hosts:
            assert site.on(host, "wg", "show", DEVICE, "listen-port").strip() == "4000"
            assert not site.has_link(host, "podnet-detour")
        assert site.site().changed_hosts == set(site.hosts)
        traffic.report().demand_none_lost("another port")
    assert without_ports(state(site)) == without_ports(before)
    assert site.site().changed_hosts == set()


def test_another_port_with_another_device_is_a_switch(site: Site) -> None:
    with watched(site) as traffic:
        port = ["-e", "podnet_wireguard_port=4000", "-e", "podnet_wireguard_device=other-wg"]
        assert site.site(*port).changed_hosts == set(site.hosts)
        for host in site.hosts:
            assert site.has_link(host, "other-wg")
            assert not site.has_link(host, DEVICE)
        assert site.site().changed_hosts == set(site.hosts)
        traffic.report().demand_none_lost("another port")


def test_a_replaced_machine_gets_a_new_key(site: Site) -> None:
    before = keys(site)
    site.on("n2", "systemctl", "stop", f"podnet-wireguard-{DEVICE}.service")
    site.on("n2", "rm", "-r", "/etc/podnet/podnet")
    run = site.site(ok=False)
    assert "n2: the allocations file says that its public key is" in run.message
    assert run.changed_hosts == set()
    file = site.inventory / "podnet_allocations.yml"
    file.write_text(file.read_text().replace(f', key: "{before["n2"]}"', ""))
    plan = site.play("plan.yml")
    assert "no public key is known of n2" in plan.message
    assert site.site().changed_hosts == set(site.hosts)
    after = keys(site)
    assert (after["n1"], after["n3"]) == (before["n1"], before["n3"])
    assert after["n2"] != before["n2"]
    site.verify()


def test_a_host_behind_nat_keeps_its_place(site: Site) -> None:
    with site.host_vars("n3", podnet_wireguard_endpoint="none"):
        assert "n3" in site.site().changed_hosts
        shown = site.on("n3", "wg", "show", DEVICE, "persistent-keepalive").split()
        assert shown[1::2] == ["25", "25"]
        # Its peers know no endpoint of it after a boot, until it sends; and what it sends must
        # want an answer: it notices after 15 s without one that the session is gone (section 6.5
        # of the paper), after a keepalive not at all.
        site.lab.reboot("n1")
        site.on("n1", "systemctl", "is-system-running", "--wait", ok=False)
        n1, n3 = (
            site.allocations()[host]["subnet"].replace(".0/24", ".1") for host in ("n1", "n3")
        )
        ping = ("ping", "-c1", "-W1", "-I", n3, n1)
        wait(lambda: site.lab.run("n3", ping, check=False).returncode == 0, 60)
        assert site.on("n1", "wg", "show", DEVICE, "endpoints").count("192.0.2.13:") == 1
        site.verify()
        site.demand_clean()
    site.site()


def test_dual_stack(site: Site) -> None:
    dual = ["-e", "podnet_cluster_cidr6=fd00:244::/56"]
    assert site.site(*dual).changed_hosts == set(site.hosts)
    assert "IPv4 and IPv6" in site.verify(*dual).message
    site.demand_clean(*dual)
    site.site()


def test_a_reset_takes_the_keys(site: Site) -> None:
    site.reset()
    assert keys(site) == {}
    for host in site.hosts:
        assert not site.on(host, "sh", "-c", "ls /etc/podnet 2>/dev/null || true")
    site.site()
    text = yaml.safe_load((site.inventory / "podnet_allocations.yml").read_text())
    assert all(one["key"] for one in text["podnet_allocations"]["vars"]["nodes"].values())

"""Hosts made of namespaces alone: quick stand-ins for the lab where no systemd is needed.

Each host is a process with a network and a mount namespace of its own; what podnet writes to lies
on a tmpfs that only it sees. All hang on one bridge in a further namespace, so no packet can leave.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.kernel.forks import Server

ROOT = Path(__file__).resolve().parent.parent.parent
PLUGINS = Path("/usr/lib/cni")

_FORKS = Server()
atexit.register(_FORKS.close)

_PRIVATE = ["/run", "/etc/podnet", "/etc/cni", "/opt/podnet", "/opt/cni", "/var/lib/cni"]


class Host:
    """A network namespace and a mount namespace, held open by a sleeping process."""

    #: Where the segment and its router are; for the hosts on it.
    underlay: Host

    def __init__(self, name: str) -> None:
        self.name = name
        mounts = " && ".join(
            # A tmpfs on the parent, so that the directory itself can be missing.
            f"mount -t tmpfs tmpfs {path}"
            for path in ("/run", "/opt", "/var/lib")
        )
        # /etc cannot be a tmpfs: an overlay keeps the machine's and takes the changes.
        etc = (
            "mkdir -p /run/etc/up /run/etc/work && mount -t overlay overlay "
            "-o lowerdir=/etc,upperdir=/run/etc/up,workdir=/run/etc/work /etc"
        )
        script = (
            f"{mounts} && {etc} && mount -t sysfs sysfs /sys && "
            "rm -rf /etc/cni /etc/podnet && ip link set lo up && echo ready && exec sleep 1000"
        )
        self.process = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-ec", script],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    @property
    def enter(self) -> list[str]:
        return ["nsenter", "-t", str(self.process.pid), "-n", "-m", "--"]

    def run(self, *command: str, check: bool = True, stdin: bytes = b"") -> str:
        done = subprocess.run(
            [*self.enter, *command],
            check=False,
            input=stdin.decode("latin1"),
            capture_output=True,
            encoding="latin1" if stdin else "utf-8",
            errors="backslashreplace",
            timeout=120,
        )
        assert done.returncode == 0 or not check, done.stderr + done.stdout
        return done.stdout

    def ip(self, line: str) -> None:
        self.run("ip", *line.split())

    def python(self, code: str, timeout: float = 120) -> Any:
        """Run code on the host with podnet importable; it prints JSON, which is returned."""
        done = _FORKS.run(self.process.pid, code, timeout)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def interpreter(self, directory: Path) -> Path:
        """Return a "Python" for ansible_python_interpreter that runs modules on this host."""
        path = directory / f"python-{self.name}"
        path.write_text(f'#!/bin/sh\nexec {" ".join(self.enter)} {sys.executable} "$@"\n')
        path.chmod(0o755)
        return path

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


@contextlib.contextmanager
def hosts(count: int, mtu: int = 1500, bare: bool = False) -> Iterator[list[Host]]:
    """Make an underlay and `count` hosts n1, n2, ... at 192.0.2.11, ... with a pod bridge each.

    Pods of n1 have 10.244.0.0/24 and fd00:244::/64, of n2 10.244.1.0/24 and so on; plain routes
    lead to the others. With `bare` there is the underlay alone.
    """
    made: list[Host] = []
    try:
        underlay = Host("underlay")
        made.append(underlay)
        underlay.ip("link add name u0 type bridge")
        underlay.ip("link set u0 up")
        underlay.ip("addr add 192.0.2.1/24 dev u0")
        for number in range(count):
            host = Host(f"n{number + 1}")
            host.underlay = underlay
            made.append(host)
            underlay.ip(
                f"link add name {host.name} mtu {mtu} type veth peer name eth0 mtu {mtu} "
                f"netns {host.process.pid}"
            )
            underlay.ip(f"link set {host.name} master u0 up")
            _without_dad(host, "eth0")
            host.ip("link set eth0 up")
            host.ip(f"addr add 192.0.2.{11 + number}/24 dev eth0")
            host.ip(f"addr add fd00:2::{11 + number}/64 dev eth0 nodad")
            host.ip("route add default via 192.0.2.1")
            if bare:
                continue
            host.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
            host.ip("link add name cni0 type bridge")
            _without_dad(host, "cni0")
            host.ip(f"link set cni0 mtu {mtu} up")
            host.ip(f"addr add 10.244.{number}.1/24 dev cni0")
            host.ip(f"addr add fd00:244:0:{number}::1/64 dev cni0 nodad")
            for other in range(count):
                if other != number:
                    host.ip(f"route add 10.244.{other}.0/24 via 192.0.2.{11 + other}")
                    host.ip(f"route add fd00:244:0:{other}::/64 via fd00:2::{11 + other}")
            host.run(
                "nft",
                f"table ip t {{ chain c {{ type nat hook postrouting priority 100; "
                f"ip saddr 10.244.{number}.0/24 ip daddr != 10.244.0.0/16 masquerade; }}; }}",
            )
        yield made[1:]
    finally:
        for host in reversed(made):
            host.close()


def _without_dad(host: Host, device: str) -> None:
    """Let a device's link-local address work at once, as on a host that was not made just now.

    For a second or two of duplicate address detection its IPv6 does not answer all that it is sent.
    """
    host.run("sysctl", "-qw", f"net.ipv6.conf.{device}.accept_dad=0")


#: What a plan of the backend vxlan has besides.
VXLAN_SETTINGS = {"vni": 1, "port": 8472, "device": "flannel.1", "direct_routing": False}


def plan_document(count: int, *, six: bool = True, **changes: Any) -> dict[str, Any]:
    """Return the plan that `hosts` follows."""
    document: dict[str, Any] = {
        "version": 1,
        "name": "podnet",
        "cluster_cidr": "10.244.0.0/16",
        "cluster_cidr6": "fd00:244::/48" if six else "",
        "backend": "host-gw",
        "bridge": "cni0",
        "mtu": "auto",
        "masquerade": True,
        "underlay": 4,
        "cni": {
            "conf_dir": "/etc/cni/net.d",
            "conf_name": "10-podnet.conflist",
            "bin_dir": "/opt/cni/bin",
            "extra_plugins": ["portmap"],
        },
        "nodes": [],
    }
    for number in range(count):
        subnet = "fd00:244::/64" if number == 0 else f"fd00:244:0:{number}::/64"
        document["nodes"].append(
            {
                "name": f"n{number + 1}",
                "ip": f"192.0.2.{11 + number}",
                "ip_prefix": 24,
                "subnet": f"10.244.{number}.0/24",
                **({"subnet6": subnet} if six else {}),
            }
        )
    document.update(changes)
    if document["backend"] == "vxlan":
        return {**VXLAN_SETTINGS, **document}
    return document


def ansible(
    directory: Path, those: list[Host], playbook: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run a playbook of the repository on `those` hosts."""
    inventory = {
        "podnet_nodes": {
            "hosts": {
                host.name: {
                    "ansible_connection": "local",
                    "ansible_python_interpreter": str(host.interpreter(directory)),
                }
                for host in those
            }
        }
    }
    (directory / "inventory.json").write_text(json.dumps({"all": {"children": inventory}}))
    return subprocess.run(
        ["ansible-playbook", "-i", str(directory / "inventory.json"), playbook, *arguments],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )

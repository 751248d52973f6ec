"""The hosts of the test: addresses, plans, a pod each, and how a host boots."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from podnet.core.model import Plan, offset, split_cidr

from tests.kernel.netns_hosts import plan_document

from .delivery import Underlay
from .kernel import PER_DEVICE, Device, Kernel, Pod, Refused, device_key
from .machine import Machine, Snapshot, Step, Walk, snapshot

#: The pod's end on the host.
PORT = "veth0"

NIC = "eth0"

ONE_SEGMENT = Underlay(("192.0.2.0/24", "fd00:2::/64"))
#: n1 and n2 on one, n3 behind a router.
TWO_SEGMENTS = Underlay(("192.0.2.0/24", "198.51.100.0/24", "fd00:2::/64"))


def make_plan(count: int = 3, *, six: bool = False, **changes: Any) -> Plan:
    """Return a plan; `nodes` maps a node's name to fields of its own."""
    own = changes.pop("nodes", {})
    document = plan_document(count, six=six, **{"backend": "vxlan", **changes})
    for number, node in enumerate(document["nodes"]):
        node["mac"] = f"02:00:0a:f4:{number:02x}:00"
        if six:
            node["ip6"] = f"fd00:2::{11 + number}"
            node["ip6_prefix"] = 64
        node.update(own.get(node["name"], {}))
    return Plan.from_document(document)


def bare(addresses: Iterable[str], router: str = "192.0.2.1", strict: bool = True) -> Snapshot:
    """Return a host that has just booted and knows nothing of podnet.

    With `strict` it drops what comes in where a reply would not go out.
    """
    kernel = Kernel()
    for pattern in PER_DEVICE:
        for scope in ("all", "default"):
            kernel.sysctls[device_key(pattern, scope)] = "0"
    kernel.sysctls["net.ipv4.conf.all.rp_filter"] = "1" if strict else "0"
    kernel.add_device(NIC, Device(0, "nic", 1500, "02:aa:00:00:00:01", up=True))
    for one in addresses:
        kernel.execute("ip", f"addr add {one} dev {NIC}")
    kernel.execute("ip", f"route add 0.0.0.0/0 via {router}")
    return snapshot(kernel, {}, {}, None)


def attach_pod(begin: Snapshot, bridge: str) -> Snapshot:
    """Return the host with a pod on its bridge, as the CNI plugin makes it, if there is a bridge."""
    if bridge not in begin.kernel.devices or PORT in begin.kernel.pods:
        return begin
    kernel = begin.kernel.copy()
    mtu = kernel.devices[bridge].mtu
    kernel.add_device(PORT, Device(0, "veth", mtu, "02:bb:00:00:00:01", up=True, master=bridge))
    kernel.pods[PORT] = Pod("/run/netns/pod", mtu)
    return snapshot(kernel, begin.files, begin.boot, begin.armed)


def pod_address(subnet: str) -> str:
    """Return the address of a node's pod."""
    return offset(split_cidr(subnet)[0], 9)


def replayed(begin: Snapshot, fresh: Kernel, bridge: str) -> Walk:
    """Return what a boot makes of a host: `fresh` is its kernel before podnet's unit runs.

    The same as the script of `replay`: -force goes on after an error, and all is tried anew.
    """
    machine = Machine(fresh.copy(), dict(begin.files), dict(begin.boot))
    error = replay_files(machine)
    ready = attach_pod(machine.freeze(), bridge)
    return Walk(begin, (*machine.steps, Step("booted; a pod was started", ready)), error)


def replay_files(machine: Machine) -> str:
    """Do what /etc/podnet/replay does; return what could not be set."""
    error = ""
    for _ in range(5):
        error = _replay_once(machine)
        if not error:
            return ""
    return error


def _replay_once(machine: Machine) -> str:
    wrong: list[str] = []
    kernel = machine.kernel
    files = {name: _here(kernel, machine.boot, text) for name, text in machine.boot.items()}
    settings = files.get("sysctl.conf", "")
    _settings(machine, settings, wrong)
    for line in files.get("devices.batch", "").splitlines():
        words = line.split()
        if words[:2] == ["link", "add"] and words[2] in kernel.devices:
            continue
        if "address" in words and words[1] == "set":
            device = kernel.devices.get(words[3])
            if device is not None and device.mac == words[5]:
                continue
        _try(machine, "ip", line, wrong)
    # Those of devices that were not there yet.
    _settings(machine, settings, wrong)
    for tool, name in (("bridge", "fdb.batch"), ("ip", "routes.batch")):
        for line in files.get(name, "").splitlines():
            _try(machine, tool, line, wrong)
    if files.get("tables.nft"):
        with machine.step("nft -f tables.nft"):
            kernel.nft(files["tables.nft"].splitlines())
    return "; ".join(wrong[:3])


def _settings(machine: Machine, text: str, wrong: list[str]) -> None:
    for line in text.splitlines():
        key, _, value = line.partition(" = ")
        if machine.kernel.read_sysctl(key) not in (None, value):
            _try(machine, "sysctl", f"{key}={value}", wrong)


def _here(kernel: Kernel, files: Mapping[str, str], text: str) -> str:
    """Name the underlay's devices by the addresses that they hold now; leave out what is not there."""
    for line in files.get("underlay", "").splitlines():
        family, address, _ = line.split()
        device = kernel.holder(address)
        if device:
            text = text.replace(f"conf.@{family}.", f"conf.{device.replace('.', '/')}.")
            text = text.replace(f"@{family}", device)
    return "".join(f"{line}\n" for line in text.splitlines() if not re.search("@[46]", line))


def _try(machine: Machine, tool: str, line: str, wrong: list[str]) -> None:
    try:
        with machine.step(f"{tool} {line}"):
            machine.kernel.execute(tool, line)
    except Refused as error:
        wrong.append(f"{tool} {line}: {error}")


def rolled_back(begin: Snapshot) -> Walk:
    """Return what the timer of an armed rollback does: the real script, line by line.

    Only the forms that rollback.script writes are known; it goes on after a command that fails.
    """
    armed = begin.armed
    assert armed is not None
    machine = Machine.of(begin)
    machine.armed = None
    wrong: list[str] = []
    lines = iter(armed.script.splitlines())
    for line in lines:
        words = shlex.split(line) if "<<" in line or line.startswith("printf") else []
        if words and words[0] in ("ip", "bridge"):
            for one in iter(lambda: next(lines), "EOF"):
                _try(machine, words[0], one, wrong)
        elif words and words[0] == "nft":
            with machine.step("nft -f of the way back"):
                machine.kernel.nft(list(iter(lambda: next(lines), "EOF")))
        elif words and words[0] == "nsenter":
            namespace = words[1].removeprefix("--net=")
            for one in iter(lambda: next(lines), "EOF"):
                machine.tool(["nsenter", f"--net={namespace}", "ip", "-batch", "-"], one)
        elif words and words[0] == "printf":
            key = words[3].removeprefix(">sysctl:")
            _try(machine, "sysctl", f"{key}={words[2]}", wrong)
    written = dict(armed.after)
    for path, before in armed.before:
        if path in written and machine.files.get(path) == written[path]:
            with machine.step(f"put {path} back"):
                if before is None:
                    del machine.files[path]
                else:
                    machine.files[path] = before
    return Walk(begin, tuple(machine.steps), "; ".join(wrong))


__all__ = ["ONE_SEGMENT", "TWO_SEGMENTS", "attach_pod", "bare", "make_plan", "replace"]

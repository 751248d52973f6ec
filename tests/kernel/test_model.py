"""The model held against the kernel: the same lines in namespaces, real packets, the same answers.

States are cut out of changes of the real core at random, and random lines spoil some of them. Who
refuses a line, and which of the pings at two sizes are answered, must be the same on both sides.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

import pytest

from tests.kernel.netns_hosts import Host, hosts
from tests.model import machine, network
from tests.model.delivery import Frame, receive, send
from tests.model.explore import SWITCH
from tests.model.kernel import Kernel, Refused
from tests.model.machine import Snapshot

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]

BRIDGE = "cni0"

PLANS = [
    network.make_plan(2),
    network.make_plan(2, backend="host-gw"),
    network.make_plan(2, port=4789),
    network.make_plan(2, direct_routing=True),
    network.make_plan(2, mtu="1300"),
]

#: What may spoil a state; {other} is the other host's number.
LINES = [
    "ip route del 10.244.{other}.0/24",
    "ip route replace 10.244.{other}.0/24 via 192.0.2.{node} dev eth0",
    "ip route replace 10.244.{other}.0/24 via 203.0.113.7",
    "ip route add 10.244.{other}.9/32 via 192.0.2.{node}",
    "ip route replace 10.244.{other}.0/24 via 10.244.{other}.0 dev flannel.1 onlink",
    "ip neigh del 10.244.{other}.0 dev flannel.1",
    "ip link set dev flannel.1 address 02:00:5e:00:00:07",
    "ip link set dev flannel.1 mtu 1400",
    "ip link set dev cni0 mtu 1350",
    "ip link add more type vxlan id 1 dstport 8472 local 192.0.2.{own}",
    "ip link add cni0 type bridge",
    "ip link del dev flannel.1",
    "bridge fdb del 02:00:0a:f4:0{other}:00 dev flannel.1 dst 192.0.2.{node} self",
    "sysctl net.ipv4.conf.all.rp_filter=1",
    "sysctl net.ipv4.conf.all.rp_filter=0",
    "sysctl net.ipv4.conf.cni0.forwarding=0",
    "ip addr del 10.244.{mine}.1/24 dev cni0",
]


def on_both(host: Host, kernel: Kernel, text: str) -> tuple[bool, bool]:
    """Do a line on the real host and on the model; return whether each took it."""
    tool, _, line = text.partition(" ")
    try:
        kernel.execute(tool, line)
        modelled = True
    except Refused:
        modelled = False
    return _really(host, tool, line), modelled


def _really(host: Host, tool: str, line: str) -> bool:
    argv = ["sysctl", "-qw", line] if tool == "sysctl" else [tool, *line.split()]
    said = host.run("sh", "-c", '"$@" >&2 && echo yes || true', "sh", *argv, check=False)
    return said == "yes\n"


def build(host: Host, number: int, steps: Sequence[str]) -> None:
    """Do the lines of the core's steps on a real host, and attach a pod when there is a bridge."""
    for text in steps:
        if text == "pod":
            for line in (
                "netns add pod",
                "link add veth0 mtu 1450 type veth peer name eth0 mtu 1450 netns pod",
                "link set veth0 master cni0 up",
                "-n pod link set eth0 up",
                f"-n pod addr add 10.244.{number}.9/24 dev eth0",
                f"-n pod route add default via 10.244.{number}.1",
            ):
                host.ip(line)
            mtu = host.run("cat", "/sys/class/net/cni0/mtu").strip()
            host.ip(f"link set veth0 mtu {mtu}")
            host.ip(f"-n pod link set eth0 mtu {mtu}")
        elif " in /run/netns/" in text:
            host.ip("-n pod " + text.partition(" in ")[0].removeprefix("ip "))
        elif text.startswith(("ip ", "bridge ", "sysctl ")):
            tool, _, line = text.partition(" ")
            assert _really(host, tool, line), text


def walked(number: int, luck: random.Random) -> tuple[list[str], Snapshot]:
    """Return a random stop on the way from one plan to another: its steps and its state."""
    name = f"n{number + 1}"
    before, after = luck.sample(PLANS, 2)
    walk = machine.change(network.bare([f"192.0.2.{11 + number}/24"]), before, name, "all")
    texts, now = [step.text for step in walk.steps], network.attach_pod(walk.end, BRIDGE)
    texts.append("pod")
    for phase in SWITCH[: luck.randint(0, 3)]:
        walk = machine.change(now, after, name, phase)
        texts += [step.text for step in walk.steps]
        now = walk.end
    return texts, now


def reaches(kernels: Sequence[Kernel], source: int, target: int, size: int) -> bool:
    ends = f"10.244.{source}.9", f"10.244.{target}.9"
    frame = send(kernels[source], BRIDGE, ends, size, network.ONE_SEGMENT)
    return isinstance(frame, Frame) and receive(kernels[target], BRIDGE, frame) is None


@pytest.mark.parametrize("seed", range(24))
def test_the_model_says_what_the_kernel_does(seed: int) -> None:
    luck = random.Random(seed)
    said: list[str] = []
    with hosts(2, bare=True) as made:
        kernels: list[Kernel] = []
        with machine.edge_replaced():
            found = [walked(number, luck) for number in (0, 1)]
        for number, (texts, state) in enumerate(found):
            host, kernel = made[number], state.kernel.copy()
            for one in ("all.rp_filter=1", "default.rp_filter=0", "eth0.rp_filter=0"):
                host.run("sysctl", "-qw", f"net.ipv4.conf.{one}")
            host.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
            build(host, number, texts)
            for line in luck.sample(LINES, luck.choice([0, 0, 1, 1, 2])):
                other = 1 - number
                ids = {"other": other, "mine": number, "own": 11 + number, "node": 11 + other}
                text = line.format(**ids)
                really, modelled = on_both(host, kernel, text)
                said.append(f"{host.name}: {text}: {'done' if really else 'refused'}")
                assert really == modelled, said
            kernels.append(kernel)
        for size in (84, min(kernel.pods["veth0"].mtu for kernel in kernels)):
            expected = reaches(kernels, 0, 1, size) and reaches(kernels, 1, 0, size)
            answered = " 0% packet loss" in made[0].run(
                *("ip", "netns", "exec", "pod", "ping", "-c", "1", "-W", "1", "-q", "-M", "do"),
                *("-s", str(size - 28), "10.244.1.9"),
                check=False,
            )
            assert answered == expected, (size, said, kernels)

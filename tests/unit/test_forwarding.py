"""Per-device forwarding: what a run changes, given what the kernel does by itself."""

from __future__ import annotations

import pytest
from podnet.core.state import Link, State
from podnet.state import forwarding
from podnet.state.diff import changes
from podnet.state.phases import PREPARE, target

IP, DEFAULT = forwarding.IP_FORWARD, forwarding.DEFAULT
CNI, ETH, VTEP = (forwarding.key(one) for one in ("cni0", "eth0", "flannel.1"))
BRIDGE = Link("bridge", 1450, "", "podnet:podnet", ifindex=3)
VXLAN = Link("vxlan", 1450, "", "podnet:podnet", options="id 1 dstport 8472 nolearning", ifindex=4)


def lines(before: State, after: State) -> list[str]:
    return [
        line
        for change in changes(before, after)
        for line in change.lines
        if change.tool == "sysctl" or "link add" in line or "name" in line
    ]


WANT = {IP: "1", CNI: "1", ETH: "1"}

# fmt: off
#: sysctls before, whether cni0 is there -> which sysctls are written, in order, "|" where cni0 is made.
CASES: dict[str, tuple[dict[str, str], bool, list[str]]] = {
    "all is well": ({IP: "1", CNI: "1", ETH: "1", DEFAULT: "1"}, True, []),
    "the bridge does not forward": ({IP: "1", CNI: "0", ETH: "1", DEFAULT: "0"}, True, [f"{CNI}=1"]),
    "the underlay does not forward": ({IP: "1", CNI: "1", ETH: "0", DEFAULT: "1"}, True, [f"{ETH}=1"]),
    "ip_forward sets every device": ({IP: "0", CNI: "0", ETH: "0", DEFAULT: "0"}, True, [f"{IP}=1"]),
    "ip_forward alone is off": ({IP: "0", CNI: "1", ETH: "1", DEFAULT: "1"}, True, [f"{IP}=1"]),
    "a new device takes the default": ({IP: "1", ETH: "1", DEFAULT: "1"}, False, ["|"]),
    "a new device takes a bad default": ({IP: "1", ETH: "1", DEFAULT: "0"}, False, ["|", f"{CNI}=1"]),
    "ip_forward mends the default": ({IP: "0", ETH: "0", DEFAULT: "0"}, False, [f"{IP}=1", "|"]),
    "ip_forward mends the default, not the other way": ({IP: "0", ETH: "1", DEFAULT: "0"}, False, [f"{IP}=1", "|"]),
    "a bare host and a bad underlay": ({IP: "1", ETH: "0", DEFAULT: "0"}, False, [f"{ETH}=1", "|", f"{CNI}=1"]),
}
# fmt: on


@pytest.mark.parametrize("case", CASES)
def test_what_is_written_and_when(case: str) -> None:
    sysctls, there, expected = CASES[case]
    before = State(links={"cni0": BRIDGE} if there else {}, sysctls=sysctls)
    after = State(links={"cni0": BRIDGE}, sysctls=WANT)
    found = ["|" if line.startswith("link add") else line for line in lines(before, after)]
    assert found == expected


def test_a_reset_writes_ip_forward_first_and_then_who_differed() -> None:
    """What originals.json keeps is sorted by key, and the kernel does not care for that."""
    before = State(sysctls={ETH: "1", forwarding.key("wan0"): "1", IP: "1"})
    after = State(sysctls={ETH: "0", forwarding.key("wan0"): "1", IP: "0"})
    assert lines(before, after) == [f"{IP}=0", f"{forwarding.key('wan0')}=1"]


def test_a_device_that_is_made_anew_is_told_again() -> None:
    """Another port needs another device, which takes the default."""
    before = State(links={"flannel.1": VXLAN}, sysctls={IP: "1", VTEP: "1", DEFAULT: "0"})
    after = State(
        links={"flannel.1": VXLAN._replace(options="id 1 dstport 4789 nolearning")},
        sysctls={IP: "1", VTEP: "1"},
    )
    assert lines(before, after)[-1] == f"{VTEP}=1"


def test_a_renamed_device_keeps_its_switch() -> None:
    new = forwarding.key("pods")
    before = State(links={"flannel.1": VXLAN}, sysctls={IP: "1", VTEP: "1", DEFAULT: "0"})
    after = State(links={"pods": VXLAN}, sysctls={IP: "1", new: "1"})
    assert lines(before, after) == ["link set dev flannel.1 name pods"]


def test_between_the_phases_the_old_device_forwards_also_after_a_reboot() -> None:
    before = State(links={"flannel.1": VXLAN}, sysctls={IP: "1", VTEP: "1"})
    final = State(
        links={"flannel.1": VXLAN._replace(options="id 1 dstport 4789 nolearning", ifindex=0)},
        sysctls={VTEP: "1"},
    )
    prepared = target(before, final, PREPARE, strict=False)
    assert {forwarding.device(key) for key in prepared.sysctls} == {"flannel.1", "podnet-old0"}


@pytest.mark.parametrize(
    ("key", "device"),
    [
        (VTEP, "flannel.1"),
        (DEFAULT, "default"),
        (IP, ""),
        ("net.ipv4.conf.eth0.rp_filter", ""),
        ("net.ipv6.conf.eth0.forwarding", ""),
    ],
)
def test_a_key_tells_its_device(key: str, device: str) -> None:
    assert forwarding.device(key) == device


def test_our_own_devices_leave_no_value_to_put_back() -> None:
    assert forwarding.lasting_originals({ETH: "1", CNI: "1", IP: "1"}, {"cni0"}) == {
        ETH: "1",
        IP: "1",
    }


@pytest.mark.parametrize(
    ("key", "device"),
    [
        (IP, ""),
        ("net.ipv4.conf.flannel/1.forwarding", "flannel.1"),
        ("net.ipv4.neigh.cni0.locktime", "cni0"),
        ("net.ipv6.neigh.pods/0.ucast_solicit", "pods.0"),
        ("net.ipv6.conf.all.forwarding", ""),
    ],
)
def test_a_device_owns_its_sysctls(key: str, device: str) -> None:
    assert forwarding.owner(key) == device

"""Addresses of pods that ended with the host's last boot, given out and freed by the real plugin."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.kernel.netns_hosts import PLUGINS, Host, hosts
from tests.kernel.test_network import applied, document, remove
from tests.kernel.test_replay import REBOOT, REPLAY

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not (PLUGINS / "host-local").exists(), reason="needs the CNI plugins"),
]

LEASES = "/var/lib/cni/networks/podnet"

#: What host-local keeps beside addresses.
KEPT = ["last_reserved_ip.0", "last_reserved_ip.1", "lock"]

#: Addresses that no other test gives to a namespace of this machine.
_RANGES = [
    [{"subnet": "10.244.0.0/24", "rangeStart": "10.244.0.201", "rangeEnd": "10.244.0.240"}],
    [{"subnet": "fd00:244::/64", "rangeStart": "fd00:244::201", "rangeEnd": "fd00:244::240"}],
]


def host_local(host: Host, command: str, container: str) -> list[str]:
    """Run the plugin as a runtime does; return the addresses that it hands out."""
    ipam = {"type": "host-local", "ranges": _RANGES}
    conf = {"cniVersion": "1.0.0", "name": "podnet", "type": "bridge", "ipam": ipam}
    said = host.run(
        *("env", f"CNI_COMMAND={command}", f"CNI_CONTAINERID={container}", "CNI_IFNAME=eth0"),
        *("CNI_NETNS=/run/netns/none", f"CNI_PATH={PLUGINS}", str(PLUGINS / "host-local")),
        stdin=json.dumps(conf).encode(),
    )
    given = json.loads(said)["ips"] if said else []
    return [one["address"].split("/")[0] for one in given]


def add(host: Host, container: str) -> list[str]:
    return host_local(host, "ADD", container)


def files(host: Host) -> list[str]:
    return sorted(host.run("ls", LEASES).split())


@pytest.fixture(scope="module")
def made() -> Iterator[Host]:
    with hosts(2, bare=True) as those:
        yield those[0]


@pytest.fixture
def host(made: Host) -> Host:
    """A host with podnet, and no lease."""
    made.run("rm", "-rf", LEASES)
    applied(made, document(2))
    made.run("sh", "-ec", f"mkdir -p {LEASES}; {REBOOT}")
    made.run(*REPLAY)
    return made


# The clock of a host without a battery is anywhere at boot.
@pytest.mark.parametrize("age", ["1970-01-02", "now", "2099-01-01"])
def test_what_pods_of_the_last_boot_had_is_freed(host: Host, age: str) -> None:
    addresses = [*add(host, "one"), *add(host, "two"), *add(host, "podnet-probe-0a1b2c3d")]
    assert len(addresses) == 6
    host.run("mkdir", "-p", "/var/lib/cni/networks/other")
    host.run("touch", "/var/lib/cni/networks/other/10.244.0.201")
    host.run("touch", "-d", age, *(f"{LEASES}/{one}" for one in addresses))
    host.run("sh", "-ec", REBOOT)
    said = host.run(*REPLAY, "boot")
    line = next(one for one in said.splitlines() if one.startswith("freed"))
    assert line.startswith("freed 6 addresses of pods that ended with the last boot: 10.244.0.20")
    assert line.endswith(" ...")
    assert files(host) == KEPT
    assert host.run("ls", "/var/lib/cni/networks/other") == "10.244.0.201\n"


def test_what_was_given_out_since_the_boot_stays(host: Host) -> None:
    add(host, "old")
    host.run("sh", "-ec", REBOOT)
    host.run(*REPLAY, "boot")
    new = add(host, "new")
    # The unit is started again; somebody takes the bridge away; the timer repairs it.
    for damage in ("true", "rm -f /run/podnet/podnet.seen", "ip link del cni0"):
        host.run("sh", "-ec", damage)
        for mode in ((), ("boot",)):
            assert "freed" not in host.run(*REPLAY, *mode)
    assert files(host) == sorted([*new, *KEPT])
    # The next boot is another one.
    host.run("sh", "-ec", "ip link del cni0; echo of-another-boot >/run/podnet/podnet.leases")
    assert "freed 2 addresses" in host.run(*REPLAY)
    assert files(host) == KEPT


def test_the_runtime_takes_away_its_old_sandboxes_and_that_does_no_harm(host: Host) -> None:
    """As kubelet does after a reboot: DEL of ids whose addresses others may have by now."""
    old = add(host, "old")
    host.run("sh", "-ec", REBOOT)
    host.run(*REPLAY, "boot")
    # It goes round, and would come to the old ones last of all.
    host.run("rm", f"{LEASES}/last_reserved_ip.0", f"{LEASES}/last_reserved_ip.1")
    new = add(host, "new")
    assert new == old
    host_local(host, "DEL", "old")
    assert files(host) == sorted([*new, *KEPT])
    # Podman gives a container that it starts again the same id; host-local would refuse that.
    host.run("sh", "-ec", REBOOT)
    host.run(*REPLAY, "boot")
    assert len(add(host, "new")) == 2


def test_what_a_living_namespace_has_stays(host: Host) -> None:
    live, dead = add(host, "live"), add(host, "dead")
    host.run("ip", "netns", "add", "pod")
    host.run("ip", "-n", "pod", "link", "add", "eth0", "type", "bridge")
    for address in live:
        host.run("ip", "-n", "pod", "addr", "add", address, "dev", "eth0")
    host.run("sh", "-ec", REBOOT)
    said = host.run(*REPLAY, "boot")
    assert f"freed 2 addresses of pods that ended with the last boot: {' '.join(dead)}\n" in said
    assert files(host) == sorted([*live, *KEPT])
    host.run("ip", "netns", "del", "pod")


def test_nothing_is_freed_once_something_may_have_attached_a_pod(host: Host) -> None:
    given = add(host, "early")
    host.run("sh", "-ec", REBOOT + "ip link add cni0 type bridge")
    assert "freed" not in host.run(*REPLAY, "boot")
    assert files(host) == sorted([*given, *KEPT])


def test_it_can_be_turned_off(host: Host) -> None:
    plan = json.loads(document(2))
    plan["nodes"][0]["leave_alone"] = ["leases"]
    applied(host, json.dumps(plan))
    given = add(host, "old")
    host.run("sh", "-ec", REBOOT)
    assert "freed" not in host.run(*REPLAY, "boot")
    assert files(host) == sorted([*given, *KEPT])


def test_the_plugins_lock_is_honoured(host: Host) -> None:
    given = add(host, "old")
    host.run("sh", "-ec", REBOOT)
    text = host.run("cat", "/etc/podnet/replay").replace("flock -w 10", "flock -w 0")
    said = host.run("flock", f"{LEASES}/lock", "sh", "-c", text, "replay", "podnet", "boot")
    assert "locked; no address freed" in said
    assert files(host) == sorted([*given, *KEPT])


def test_no_lease_directory_and_no_lease_are_no_error(host: Host) -> None:
    for prepare in (f"rm -rf {LEASES}", f"mkdir -p {LEASES}"):
        host.run("sh", "-ec", REBOOT + prepare)
        assert "freed" not in host.run(*REPLAY, "boot")
    remove(host)
    assert host.run("ls", "/run/podnet", check=False) == ""

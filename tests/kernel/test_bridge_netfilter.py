"""br_netfilter on real kernels: set, repaired, put back; and as a module that has to be loaded."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from tests.kernel.netns_hosts import Host, hosts
from tests.kernel.test_network import applied, converge, document, remove, snapshot
from tests.kernel.test_preflight import look
from tests.kernel.test_replay import REPLAY

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]

KEYS = ("net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables")
OFF = f"sysctl -qw {KEYS[0]}=0 {KEYS[1]}=0"

#: Make a host look as if its kernel had br_netfilter as a module: this one has it built in, which
#: no process can change. What loads and unloads it here does to files what the kernel would do.
AS_A_MODULE = """
for tree in /usr/lib /usr/local/sbin; do
  mkdir -p /run/over$tree/up /run/over$tree/work
  over="upperdir=/run/over$tree/up,workdir=/run/over$tree/work"
  mount -t overlay overlay -o lowerdir=$tree,$over $tree
done
mkdir -p /usr/lib/modules/$(uname -r)
echo "kernel/net/bridge/br_netfilter.ko:" >/usr/lib/modules/$(uname -r)/modules.dep
mount -t tmpfs tmpfs /sys/module
cat >/usr/local/sbin/rmmod <<'END'
#!/bin/sh -e
mount -t tmpfs tmpfs /proc/sys/net/bridge
rm -rf /sys/module/br_netfilter
END
cat >/usr/local/sbin/modprobe <<'END'
#!/bin/sh -e
[ "$*" = br_netfilter ]
umount /proc/sys/net/bridge
sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1
mkdir /sys/module/br_netfilter
echo live >/sys/module/br_netfilter/initstate
END
chmod 755 /usr/local/sbin/modprobe /usr/local/sbin/rmmod
rmmod
"""

WRITTEN = ["/etc/modules-load.d/podnet-podnet.conf", "/etc/sysctl.d/95-podnet-podnet.conf"]


@pytest.fixture
def host() -> Iterator[Host]:
    with hosts(2, bare=True) as made:
        made[0].run("sh", "-ec", OFF)
        yield made[0]


def plan(mode: str) -> str:
    made = json.loads(document(2))
    made["nodes"][0]["bridge_netfilter"] = mode
    return json.dumps(made)


def values(host: Host) -> list[str]:
    return host.run("sysctl", "-n", *KEYS, check=False).split()


def written(host: Host) -> list[str]:
    """Return which files name what the kernel must do at boot."""
    return host.run("sh", "-c", "grep -rl br_netfilter /etc/modules-load.d; true").split()


def test_it_is_set_repaired_and_put_back(host: Host) -> None:
    try:
        applied(host, plan(""))
        assert values(host) == ["0", "0"]
        predicted = converge(host, plan("true"), check=True)["lines"]
        made = applied(host, plan("true"))["lines"]
        assert made == predicted
        assert [one for one in made if "net.bridge" in one] == [
            f"sysctl: {key}=1" for key in sorted(KEYS)
        ], made
        assert values(host) == ["1", "1"]
        assert applied(host, plan("true"))["lines"] == []
        # Drift is repaired by the host alone, and by a run.
        host.run("sh", "-ec", OFF)
        assert f"> sysctl {KEYS[0]} = 1" in host.run(*REPLAY)
        assert values(host) == ["1", "1"]
        host.run("sh", "-ec", OFF)
        assert len(applied(host, plan("true"))["lines"]) == 2
        # Who does not want it any more has it as it was, and nothing sets it at boot.
        applied(host, plan("false"))
        assert values(host) == ["0", "0"]
        assert "net.bridge" not in host.run("cat", WRITTEN[1])
        applied(host, plan("true"))
        remove(host)
        assert values(host) == ["0", "0"]
    finally:
        remove(host)


def test_auto_follows_what_is_on_the_host(host: Host) -> None:
    kubelet = "/etc/systemd/system/kubelet.service"
    try:
        applied(host, plan(""))
        host.run("sh", "-c", f"mkdir -p /etc/systemd/system; echo > {kubelet}")
        [warning] = [one for one in look(host, plan("false"))["warnings"] if "hangs" in one]
        assert kubelet in warning
        assert values(host) == ["0", "0"]
        applied(host, plan(""))
        assert values(host) == ["1", "1"]
        host.run("rm", kubelet)
        applied(host, plan(""))
        assert values(host) == ["0", "0"]
    finally:
        remove(host)


def test_a_module_is_loaded_and_stays_loaded(host: Host) -> None:
    host.run("sh", "-ec", AS_A_MODULE)
    assert values(host) == []
    try:
        applied(host, plan(""))
        assert values(host) == []
        predicted = converge(host, plan("true"), check=True)["lines"]
        made = applied(host, plan("true"))["lines"]
        assert made == predicted
        assert "module: br_netfilter" in made
        assert f"sysctl: {KEYS[0]}=1" in made
        assert values(host) == ["1", "1"]
        assert written(host) == WRITTEN[:1]
        assert converge(host, plan("true"), check=True)["lines"] == []
        # Somebody unloads it.
        host.run("rmmod")
        host.run(*REPLAY)
        assert values(host) == ["1", "1"]
        host.run("rmmod")
        assert "module: br_netfilter" in applied(host, plan("true"))["lines"]
        assert values(host) == ["1", "1"]
        remove(host)
        # Nobody knows who uses it by now, so it stays, and does what a kernel without it does.
        assert values(host) == ["0", "0"]
        assert written(host) == []
    finally:
        remove(host)


def test_a_module_that_cannot_be_loaded_undoes_the_run(host: Host) -> None:
    host.run("sh", "-ec", AS_A_MODULE)
    fails = "#!/bin/sh\necho 'modprobe: ERROR: could not insert br_netfilter' >&2; exit 1\n"
    host.run("tee", "/usr/local/sbin/modprobe", stdin=fails.encode())
    before = snapshot(host)
    failed = converge(host, plan("true"))["error"]
    assert "modprobe br_netfilter: modprobe: ERROR: could not insert" in failed
    assert failed.endswith("All of this run's changes on this host are undone")
    assert snapshot(host) == before
    assert written(host) == []


def test_a_kernel_without_it_is_named_before_anything_is_changed(host: Host) -> None:
    host.run("sh", "-ec", f"{AS_A_MODULE}\nrm -r /usr/lib/modules")
    try:
        failed = converge(host, plan("true"))
        assert "has no br_netfilter" in failed["error"], failed
        assert host.run("ip", "link", "show", "cni0", check=False) == ""
    finally:
        remove(host)

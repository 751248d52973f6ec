"""A host in distress: full disk, read-only /etc, tools that hang or vanish, no memory, two runs.

Each time: one clear error, and the host is as it was, or the next run finishes the work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernel.netns_hosts import ROOT, Host, hosts
from tests.kernel.test_interrupted import HEAD, HOST_GW, VXLAN

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]

CODE = f"""{HEAD}
from podnet.core.errors import PodnetError, message
from podnet.kernel import run as edge

def said(operation):
    try:
        operation()
        return ""
    except Exception as error:
        return ("" if isinstance(error, PodnetError) else "NOT A PODNETERROR ") + message(error)
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[Host]:
    with hosts(1, bare=True) as made:
        made[0].run("sysctl", "-qw", "net.ipv4.ip_forward=0")
        yield made[0]


@pytest.fixture
def host(shared: Host) -> Iterator[Host]:
    yield shared
    shared.python(f"{HEAD}\nremoved(); print(1)")


def do(host: Host, code: str) -> Any:
    return host.python(f"{CODE}\n{code}", timeout=200)


def state(host: Host) -> Any:
    return do(host, "print(json.dumps(steps.state()))")


def tried(host: Host, plan: str, before: str = "", phase: str = "all") -> str:
    """Run a phase; return what the error says."""
    found: str = do(host, f"{before}\nprint(json.dumps(said(network({plan!r}, {phase!r}))))")
    return found


def demand_same(one: Any, other: Any, host: Host) -> None:
    code = f"print(json.dumps(steps.difference(json.loads({json.dumps(one)!r}), json.loads({json.dumps(other)!r}))))"
    assert do(host, code) == []


@pytest.fixture
def begin(host: Host) -> Any:
    return state(host)


DISTRESS = {
    "read-only": ("mount -o bind,ro /etc /etc", "umount /etc", "Read-only file system"),
    "full": (
        "mkdir -p /etc/podnet && mount -t tmpfs -o size=4k,nr_inodes=4 tmpfs /etc/podnet",
        "umount /etc/podnet && rmdir /etc/podnet",
        "No space left",
    ),
    "full-units": (
        "mount -t tmpfs -o size=4k,nr_inodes=1 tmpfs /etc/systemd/system",
        "umount /etc/systemd/system",
        "No space left",
    ),
}


@pytest.mark.parametrize("kind", DISTRESS)
def test_files_that_cannot_be_written(host: Host, begin: Any, kind: str) -> None:
    make, mend, expected = DISTRESS[kind]
    host.run("sh", "-ec", make)
    try:
        error = tried(host, VXLAN)
        assert expected in error
        assert "NOT A" not in error
        assert host.run("ip", "-br", "link", "show", "type", "vxlan") == ""
        assert host.run("sysctl", "-n", "net.ipv4.ip_forward") == "0\n"
    finally:
        host.run("sh", "-ec", mend)
    demand_same(begin, state(host), host)
    assert tried(host, VXLAN) == ""
    assert do(host, f"print(json.dumps(settled({VXLAN!r})()))")


@pytest.mark.parametrize("kind", ["read-only", "full-units"])
def test_a_switch_on_a_sick_disk_leaves_the_old_state(host: Host, kind: str) -> None:
    assert tried(host, VXLAN) == ""
    good = state(host)
    make, mend, expected = (
        DISTRESS[kind]
        if kind == "read-only"
        else (
            "mount -t tmpfs -o size=8k tmpfs /mnt && cp -a /etc/podnet/. /mnt/ 2>/dev/null;"
            " mount --move /mnt /etc/podnet",
            "umount /etc/podnet",
            "No space left",
        )
    )
    host.run("sh", "-c", make)
    try:
        error = tried(host, HOST_GW, phase="prepare")
        assert expected in error or "damaged" in error
        assert "NOT A" not in error
    finally:
        host.run("sh", "-ec", mend)
    now = state(host)
    demand_same(good, now, host)


def fake(host: Host, tool: str, script: str) -> None:
    host.run(
        "sh",
        "-ec",
        f"cp /usr/sbin/{tool} /run/real-{tool} 2>/dev/null || true;"
        f"printf '%s' {quoted(script)} >/run/fake-{tool}; chmod 755 /run/fake-{tool};"
        f"mount --bind /run/fake-{tool} $(readlink -f /usr/sbin/{tool})",
    )


def real(host: Host, tool: str) -> None:
    host.run("sh", "-ec", f"umount $(readlink -f /usr/sbin/{tool})")


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


#: What a tool does when it is asked to change something: the real one works for all else, also for
#: many questions at once, which ask for JSON.
HANGS = '#!/bin/sh\ncase "$*" in -j*|-c*) ;; *{word}*) exec sleep 60;; esac\nexec /run/real-{tool} "$@"\n'
FAILS = '#!/bin/sh\ncase "$*" in -j*|-c*) ;; *{word}*) echo Cannot allocate memory >&2; exit 1;; esac\nexec /run/real-{tool} "$@"\n'


@pytest.mark.parametrize(("tool", "word"), [("ip", "-batch"), ("bridge", "-batch"), ("nft", "-f")])
@pytest.mark.parametrize("script", [HANGS, FAILS], ids=["hangs", "fails"])
def test_a_tool_in_the_middle(host: Host, begin: Any, tool: str, word: str, script: str) -> None:
    fake(host, tool, script.format(tool=tool, word=word))
    try:
        error = tried(host, VXLAN, "edge.TIMEOUT = 1")
    finally:
        real(host, tool)
    assert f"{tool} {word}" in error
    assert "NOT A" not in error
    assert ("no answer within 1 s" if script is HANGS else "Cannot allocate memory") in error
    # What could not be undone with the same tool, the next run finishes.
    if "are undone" in error:
        demand_same(begin, state(host), host)
    else:
        assert "The next run goes on from here" in error
    assert tried(host, VXLAN) == ""
    assert do(host, f"print(json.dumps(settled({VXLAN!r})()))")
    do(host, "removed(); print(1)")
    demand_same(begin, state(host), host)


def test_a_tool_that_hangs_while_podnet_looks(host: Host, begin: Any) -> None:
    fake(host, "ip", "#!/bin/sh\nexec sleep 60\n")
    try:
        error = tried(host, VXLAN, "edge.TIMEOUT = 1")
    finally:
        real(host, "ip")
    assert "ip -j -N -d addr show: no answer within 1 s" in error
    demand_same(begin, state(host), host)


def test_nft_that_vanishes(host: Host, begin: Any) -> None:
    vanish = """
from podnet.kernel import apply as writer
right = writer.run
def vanished(argv, stdin=None):
    if argv[0] == "nft":
        raise PodnetError("nft is not installed")
    return right(argv, stdin)
writer.run = vanished
"""
    error = tried(host, VXLAN, vanish)
    assert "nft is not installed. All of this run's changes" in error
    demand_same(begin, state(host), host)


@pytest.mark.parametrize("step", [1, 2, 3, 5, 8])
def test_no_memory(host: Host, begin: Any, step: int) -> None:
    """The kernel refuses memory at the start of some command."""
    refuse = f"""
left = {step}
def hook(event, arguments):
    global left
    if steps._is_step(event, arguments):
        left -= 1
        if left == 0:
            raise MemoryError
sys.addaudithook(hook)
"""
    error = tried(host, VXLAN, refuse)
    assert "no memory left" in error
    demand = state(host)
    if "are undone" in error:
        demand_same(begin, demand, host)
    assert tried(host, VXLAN) == ""
    assert do(host, f"print(json.dumps(settled({VXLAN!r})()))")


def test_two_runs_at_once(host: Host) -> None:
    """Eight runs, half of them for another backend: one after the other, never a mixture."""
    results: list[str] = []

    def one(plan: str) -> None:
        results.append(tried(host, plan))

    threads = [threading.Thread(target=one, args=((VXLAN, HOST_GW)[n % 2],)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one for one in results if one and "another run of podnet works" not in one] == []
    settled = do(host, f"print(json.dumps([settled({VXLAN!r})(), settled({HOST_GW!r})()]))")
    assert sorted(settled) == [False, True]


def test_who_holds_it(host: Host) -> None:
    holder = subprocess.Popen(
        [*host.enter, sys.executable, "-c",
         f"import sys; sys.path.insert(0, {str(ROOT / 'module_utils')!r})\n"
         "from podnet.keep.lock import held\nwith held('podnet'): print('held', flush=True); input()"],
        env={**os.environ, "SSH_CLIENT": "192.0.2.9 1 22"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        short = "from podnet.keep import lock; lock.held.__wrapped__.__defaults__ = (0.3,)"
        error = tried(host, VXLAN, short)
        assert "another run of podnet works on network podnet" in error
        assert ", from 192.0.2.9)" in error
    finally:
        holder.kill()
        holder.wait()
        for stream in (holder.stdin, holder.stdout):
            if stream:
                stream.close()
    assert tried(host, VXLAN) == ""


def test_a_killed_runs_command_keeps_the_lock(host: Host) -> None:
    """A batch that goes on after its run was killed is waited for."""
    fake(
        host,
        "bridge",
        '#!/bin/sh\ncase "$*" in *-batch*) touch /run/begun; sleep 3; touch /run/late;; esac\n'
        'exec /run/real-bridge "$@"\n',
    )
    try:
        run = subprocess.Popen(
            [*host.enter, "env", f"PYTHONPATH={ROOT / 'module_utils'}", sys.executable, "-c",
             f"{HEAD}\nnetwork({VXLAN!r})()"],
        )  # fmt: skip
        host.run("sh", "-c", "until [ -e /run/begun ]; do sleep 0.05; done")
        run.kill()
        run.wait()
        waited = do(
            host,
            "from podnet.keep import lock\nwith lock.held('podnet'): pass\n"
            "import os; print(json.dumps(os.path.exists('/run/late')))",
        )
        assert waited is True
    finally:
        real(host, "bridge")
    assert tried(host, VXLAN) == ""

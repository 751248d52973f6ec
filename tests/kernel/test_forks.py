"""What runs code on the hosts of these tests: as a new Python would, where it should, to its end."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator

import pytest

from tests.kernel.forks import Server
from tests.kernel.netns_hosts import Host, hosts

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with hosts(1, bare=True) as made:
        yield made[0]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def run(server: Server, host: Host, code: str, timeout: float = 60) -> tuple[int, str, str]:
    done = server.run(host.process.pid, code, timeout)
    return done.returncode, done.stdout, done.stderr


def test_it_is_on_the_host(server: Server, host: Host) -> None:
    code = (
        "import os; print([os.readlink(f'/proc/self/ns/{one}') for one in ('net', 'mnt', 'pid')])"
    )
    expected = subprocess.run(
        [*host.enter, "python3", "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert run(server, host, code) == (0, expected, "")
    assert run(server, host, "import os; print(os.getcwd())")[1] == "/\n"
    host.run("touch", "/run/here")
    assert run(server, host, "import os; print(os.path.exists('/run/here'))")[1] == "True\n"


def test_each_call_begins_anew(server: Server, host: Host) -> None:
    spoil = "from podnet.core import errors; errors.spoilt = kept = 1; print(errors.spoilt)"
    assert run(server, host, spoil) == (0, "1\n", "")
    look = "from podnet.core import errors; print(hasattr(errors, 'spoilt'), 'kept' in globals())"
    assert run(server, host, look) == (0, "False False\n", "")


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("raise ValueError('here')", 1, "ValueError: here\n"),
        ("import sys; sys.exit(7)", 7, ""),
        ("import sys; sys.exit('why')", 1, "why\n"),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
        ("print(", 1, "SyntaxError: '(' was never closed\n"),
    ],
)
def test_its_end_is_told(server: Server, host: Host, code: str, status: int, said: str) -> None:
    found = run(server, host, f"{code}\n")
    assert (found[0], found[1]) == (status, "")
    assert found[2].endswith(said)


def test_calls_run_beside_each_other(server: Server, host: Host) -> None:
    wait = "import os, time\nopen('/run/{0}', 'w')\nwhile not os.path.exists('/run/{1}'): time.sleep(0.01)"
    found: list[tuple[int, str, str]] = []
    threads = [
        threading.Thread(
            target=lambda pair=pair: found.append(run(server, host, wait.format(*pair)))
        )
        for pair in (("one", "two"), ("two", "one"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(0, "", "")] * 2


def test_what_takes_too_long_is_killed(server: Server, host: Host) -> None:
    code = "import os, time; open('/run/pid', 'w').write(str(os.getpid())); time.sleep(600)"
    with pytest.raises(subprocess.TimeoutExpired):
        run(server, host, code, timeout=0.5)
    pid = int(host.run("cat", "/run/pid"))
    assert run(server, host, "print('next')")[1] == "next\n"
    # Its parent has waited for it before it ended, or is about to.
    state = run(server, host, f"import os; print(os.path.exists('/proc/{pid}/exe'))")[1]
    assert state == "False\n"

"""From pod to pod, as a share of what two hosts reach between themselves."""

from __future__ import annotations

import json
import statistics
import time

from .ground import Ground, ground
from .measure import BenchError, Row, say

ROUNDS = 3
SECONDS = 3
REQUESTS = 3000

_PORT = 5201
_YARDSTICK = "host to host"
_POD = "bench"

# One byte there, one byte back, one after the other: what a request waits for the network.
_SERVER = """
import socket
server = socket.create_server(("", {port}))
peer, _ = server.accept()
peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
while peer.recv(1):
    peer.send(b"x")
"""
_CLIENT = """
import socket, time
peer = socket.create_connection(("{address}", {port}))
peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
times = []
for _ in range({requests}):
    begin = time.perf_counter()
    peer.send(b"x"); peer.recv(1)
    times.append(time.perf_counter() - begin)
print(sorted(times)[len(times) // 2] * 1e6)
"""


def measure() -> list[Row]:
    """One TCP stream, and the median of small requests, over each backend."""
    rows = []
    with ground(2) as here:
        for backend in ("vxlan", "host-gw"):
            here.set(podnet_backend=backend, podnet_endpoints=[{"name": _POD}])
            here.play("playbooks/site.yml")
            say(f"{backend}: {ROUNDS} rounds of throughput and latency, hosts and pods in turns")
            rows += _compare(here, backend)
    return rows


def _compare(here: Ground, backend: str) -> list[Row]:
    host = here.lab.hosts["n2"].address
    pod = _pod_address(here)
    streams, requests = [], []
    for _ in range(ROUNDS):
        streams.append((_stream(here, pod, [*_INSIDE]), _stream(here, host, [])))
        requests.append((_request(here, pod, [*_INSIDE]), _request(here, host, [])))
    return [
        _row(f"{backend}: one TCP stream, pod to pod", streams, "Gbit/s"),
        _row(f"{backend}: a request and its answer, pod to pod", requests, "µs"),
    ]


def _row(what: str, pairs: list[tuple[float, float]], unit: str) -> Row:
    value = statistics.median(own for own, _ in pairs)
    return Row(what, value, unit, statistics.median(a / b for a, b in pairs), _YARDSTICK)


_INSIDE = ("ip", "netns", "exec", _POD)


def _pod_address(here: Ground) -> str:
    said = here.lab.run("n2", ["ip", "-n", _POD, "-j", "-4", "addr", "show", "dev", "eth0"]).stdout
    address: str = json.loads(said)[0]["addr_info"][0]["local"]
    return address


def _stream(here: Ground, address: str, inside: list[str]) -> float:
    """Return Gbit/s of one TCP stream from n1 to `address` on n2."""
    here.lab.run("n2", [*inside, "iperf3", "-s", "-1", "-D", "-p", str(_PORT)])
    _wait(here, inside)
    said = here.lab.run(
        "n1", [*inside, "iperf3", "-J", "-c", address, "-p", str(_PORT), "-t", str(SECONDS)]
    ).stdout
    return float(json.loads(said)["end"]["sum_received"]["bits_per_second"]) / 1e9


def _request(here: Ground, address: str, inside: list[str]) -> float:
    """Return the median microseconds of a request from n1 to `address` on n2."""
    server = ["systemd-run", "--quiet", "--collect", *inside]
    here.lab.run("n2", [*server, "python3", "-c", _SERVER.format(port=_PORT)])
    _wait(here, inside)
    client = _CLIENT.format(address=address, port=_PORT, requests=REQUESTS)
    return float(here.lab.run("n1", [*inside, "python3", "-c", client]).stdout)


def _wait(here: Ground, inside: list[str]) -> None:
    """Wait until something listens; a connection to try it would use up the server's only one."""
    deadline = time.monotonic() + 10
    while f":{_PORT}" not in here.lab.run("n2", [*inside, "ss", "-Hltn"]).stdout:
        if time.monotonic() > deadline:
            raise BenchError("the server on n2 does not listen")
        time.sleep(0.05)

"""Answer UDP and TCP in the namespace of a probe, for the time of a proof.

The program outlives the module call that starts it, because other hosts ask later: it is a process
of its own, without terminal and without anything inherited but its sockets. It ends by itself when
its time is up or its namespace was taken away.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
import zlib
from pathlib import Path
from typing import Callable, NamedTuple

from ..core.errors import PodnetError
from ..kernel.netns import in_netns
from .udp_tcp import BODY, HEADER, set_df

#: Seconds that a responder lives when nobody ends it: longer than any proof, phases included.
LIFE = 900.0

#: Connections at a time; the one that was opened first goes when another comes.
_MOST = 2048

_BACKLOG = 4096
_CHUNK = 65536


class Responder(NamedTuple):
    """Where a responder listens, in both families, and its process (`born`: see `_birth`)."""

    udp: int
    tcp: int
    process: int
    born: str


def start(netns: str, ended: Callable[[], None], life: float = LIFE) -> Responder:
    """Start a responder in the namespace at `netns`; `ended` is called there when its time is up.

    Raises PodnetError.
    """
    with in_netns(netns):
        try:
            udp, tcp = _listen(socket.SOCK_DGRAM), _listen(socket.SOCK_STREAM)
        except OSError as error:
            raise PodnetError(f"{netns}: cannot listen there ({error.strerror})") from error
    ports = udp.getsockname()[1], tcp.getsockname()[1]
    try:
        process = _detach(lambda: _serve(netns, udp, tcp, ended, life), udp, tcp)
    finally:
        udp.close()
        tcp.close()
    return Responder(*ports, process, _birth(process))


def stop(process: int, born: str) -> None:
    """End a responder; one that is gone, or whose number another process has now, is none."""
    if process <= 1 or process == os.getpid() or not born or _birth(process) != born:
        return
    with contextlib.suppress(OSError):
        os.kill(process, signal.SIGKILL)
    # Its sockets hold the namespace; the kernel closes them before it forgets the process.
    limit = time.monotonic() + 5
    while _birth(process) == born and time.monotonic() < limit:
        time.sleep(0.002)


def _birth(process: int) -> str:
    """Return when a process was started (proc(5), stat, field 22); "" if it is dead or none."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _listen(kind: int) -> socket.socket:
    """Return a socket for both families on a port that the kernel chooses."""
    try:
        made = socket.socket(socket.AF_INET6, kind | socket.SOCK_NONBLOCK)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        set_df(made, 6)
        made.bind(("::", 0))
    except OSError:
        # A kernel, or a namespace, without IPv6.
        made = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)
        made.bind(("0.0.0.0", 0))
    if kind == socket.SOCK_STREAM:
        made.listen(_BACKLOG)
    else:
        set_df(made, 4)
    return made


def _detach(serve: Callable[[], None], *kept: socket.socket) -> int:
    """Run `serve` in a process whose parent is gone; return its number."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        with os.fdopen(read, "rb") as told:
            number = told.read()
        os.waitpid(child, 0)
        if not number:
            raise PodnetError("the responder of the proof could not be started")
        return int(number)
    # Nothing of the module's may run to its end here: neither its handlers nor its finally.
    try:
        os.setsid()
        second = os.fork()
        if second:
            os.write(write, str(second).encode())
            os._exit(0)
        _let_go({one.fileno() for one in kept})
        serve()
    finally:
        os._exit(0)


def _let_go(kept: set[int]) -> None:
    """Close what was inherited: Ansible waits for its pipes, and locks are held by open files."""
    os.chdir("/")
    for one in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(one, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - one entry is the listing's own
        if int(name) > 2 and int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text("podnet-probe")


def _serve(
    netns: str,
    udp: socket.socket,
    tcp: socket.socket,
    ended: Callable[[], None],
    life: float,
) -> None:
    limit = time.monotonic() + life
    poll = select.epoll()
    poll.register(udp, select.EPOLLIN)
    poll.register(tcp, select.EPOLLIN)
    open_: dict[int, _Connection] = {}
    while time.monotonic() < limit:
        for number, _event in poll.poll(1.0):
            if number == udp.fileno():
                _answer(udp)
            elif number == tcp.fileno():
                _accept(tcp, poll, open_)
            elif number in open_ and not open_[number].go_on(poll):
                open_.pop(number).socket.close()
        if not Path(netns).exists():
            return
    for one in (udp, tcp, *(connection.socket for connection in open_.values())):
        one.close()
    ended()


def _answer(udp: socket.socket) -> None:
    """Send back what identifies each datagram, its length and its sum: what came is what went.

    The answer is small, so a large datagram proves its own direction; the other host asks, too.
    """
    for _count in range(256):
        try:
            packet, sender = udp.recvfrom(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            continue
        if len(packet) >= HEADER.size:
            said = packet[: HEADER.size] + BODY.pack(len(packet), zlib.crc32(packet))
            with contextlib.suppress(OSError):
                udp.sendto(said, sender)


class _Connection:
    """A TCP connection whose bytes go back as they came."""

    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.waiting = b""

    def go_on(self, poll: select.epoll) -> bool:
        """Read and write what can be; return whether the connection lasts."""
        try:
            if not self.waiting:
                self.waiting = self.socket.recv(_CHUNK)
                if not self.waiting:
                    return False
            self.waiting = self.waiting[self.socket.send(self.waiting) :]
        except BlockingIOError:
            pass
        except OSError:
            return False
        poll.modify(self.socket, select.EPOLLOUT if self.waiting else select.EPOLLIN)
        return True


def _accept(tcp: socket.socket, poll: select.epoll, open_: dict[int, _Connection]) -> None:
    for _count in range(256):
        try:
            opened, _sender = tcp.accept()
        except OSError:
            return
        opened.setblocking(False)
        if len(open_) >= _MOST:
            first = next(iter(open_))
            open_.pop(first).socket.close()
        open_[opened.fileno()] = _Connection(opened)
        poll.register(opened, select.EPOLLIN)

"""A process that answers UDP and TCP probes in the network namespace of a probe pod.

It outlives the module call that starts it, because other hosts probe later: it has no terminal, and
keeps no open file of that call but its own sockets. It ends by itself when its time is up or the
namespace was removed.
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

#: Seconds after which a responder ends by itself: longer than a switch with all its phases takes.
LIFE = 900.0

#: Connections open at a time; when one more comes, the oldest is closed.
_MOST = 2048

_BACKLOG = 4096
_CHUNK = 65536


class Responder(NamedTuple):
    """The ports on which a responder listens, in both families, and its process id.

    `born` is when the process was started (see `_birth`): another process may get the same id.
    """

    udp: int
    tcp: int
    process: int
    born: str


def start(netns: str, ended: Callable[[], None], life: float = LIFE) -> Responder:
    """Start a responder in the network namespace at `netns`, for `life` seconds.

    When its time is up, its process calls `ended`. Raises PodnetError if it cannot be started.
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
    """End a responder and wait until it is gone; do nothing if it has ended already.

    `born` tells that: if another process has the id now, it was started at another time.
    """
    if process <= 1 or process == os.getpid() or not born or _birth(process) != born:
        return
    with contextlib.suppress(OSError):
        os.kill(process, signal.SIGKILL)
    # Its open sockets keep the namespace alive; the kernel closes them before the process is gone.
    limit = time.monotonic() + 5
    while _birth(process) == born and time.monotonic() < limit:
        time.sleep(0.002)


def _birth(process: int) -> str:
    """Return when a process was started (proc(5), stat, field 22), "" if it does not run."""
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
    """Run `serve` in a daemon process (two forks); return its id. `kept` are its sockets."""
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
    # In the child: leave by _exit only, so that no handler or `finally` of the module runs here.
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
    """Close all inherited file descriptors but `kept`, and reset signal handlers.

    Ansible would wait for its pipes to close, and a lock would stay held.
    """
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
    """Answer each datagram with its own header, its length and its CRC-32.

    By these the sender sees that it arrived unchanged. The answer is small, so a large datagram
    proves only its own direction; for the other one, the other host sends large ones.
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
    """A TCP connection on which all bytes are sent back as they came."""

    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.waiting = b""

    def go_on(self, poll: select.epoll) -> bool:
        """Read and write without blocking; return whether the connection is still open."""
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

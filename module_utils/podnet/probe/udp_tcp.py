"""Probe many responders at once by UDP and TCP, at several sizes, and say why one does not answer.

A datagram is answered with its length and CRC-32, and a connection sends back every byte, so wrong
checksums show as they do to a pod. Datagrams carry "don't fragment" and ignore what the kernel
learned about path MTUs (IP_PMTUDISC_PROBE, ip(7)). TCP finds its segment size itself, as it does
for pods: packets of `size` bytes, if the path carries them. A bulk is written in pieces of 64 KiB,
the most that the kernel hands to a device to be cut into segments there (GSO).

All runs in one loop, with a limit on the connections that are open at a time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import select
import socket
import struct
import time
import zlib
from collections import deque
from typing import Mapping, Sequence

from ..core.errors import PodnetError
from ..core.verdict import is_slow
from ..kernel.netns import in_netns
from .icmp import SEND_ERRORS, Answer, Probe, family_of

#: What identifies a datagram: the run's token and the number of the probe.
HEADER = struct.Struct("!8sI")

#: What follows the header in an answer: length and CRC-32 of the datagram.
BODY = struct.Struct("!II")

#: Seconds after the start at which datagrams without an answer are sent (again), and after which
#: they count as lost. If the probe pod is the first port of the bridge, duplicate address detection
#: for the bridge's link-local address begins only then, and the bridge resolves no IPv6 neighbour
#: until it is over: up to two seconds (RFC 4862, section 5.4).
TRIES, DEADLINE = (0.0, 0.4, 1.0, 1.8, 2.6), 3.3

#: Seconds for a connection and its exchange; the kernel repeats a lost SYN after 1 and 3 seconds.
TCP_DEADLINE = 3.5

#: Bytes of a bulk each way, and of one write; seconds without a byte after which it is stuck (the
#: kernel has sent a segment five times by then); bulks at a time, which share the path.
BULK = 256 * 1024
_PIECE = 64 * 1024
BULK_STUCK = 4.5
_MOST_BULKS = 16

#: How often a slow bulk is tried again, and how many of these at a time.
_MORE_TRIES, _MOST_AGAIN = 3, 2

#: Seconds after the first one in which they are tried: where much is slow, more tries say no more.
_TRY_FOR = 20.0

#: Connections open at a time, below the usual limit of 1,024 files for a process.
_MOST = 400

#: Datagrams between two looks at the answers, and the pause after them in seconds.
_BURST, _PAUSE = 32, 0.001

#: Bytes in a small exchange over TCP, and how many full segments make a large one.
_TCP_SMALL, _TCP_SEGMENTS = 32, 3

# linux/in.h, linux/in6.h: not in Python's socket module.
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, PMTUDISC_PROBE = 10, 23, 3
_IPV6_DONTFRAG = 62
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_RECEIVE_BUFFER, _SO_RCVBUFFORCE = 8 * 1024 * 1024, 33

#: struct tcp_info (linux/tcp.h): where tcpi_total_retrans and tcpi_data_segs_out (Linux 4.6) are.
_TCP_INFO_LENGTH, _TOTAL_RETRANS, _DATA_SEGS_OUT = 160, 100, 156

#: struct sock_extended_err (linux/errqueue.h) without its last field, `data`, of 4 bytes: errno,
#: origin, type, code, pad, info.
_EXTENDED = struct.Struct("=IBBBBI")


def set_df(made: socket.socket, family: int) -> None:
    """Forbid fragmentation on a UDP socket, and let it ignore path MTUs that the kernel learned.

    For IPv6 it does nothing to a TCP socket.
    """
    if family == 4:
        made.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, PMTUDISC_PROBE)
    elif made.type & socket.SOCK_DGRAM:
        made.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
        made.setsockopt(socket.IPPROTO_IPV6, _IPV6_DONTFRAG, 1)


def run(probes: Sequence[Probe], namespaces: Mapping[str, str]) -> list[Answer]:
    """Send all `probes`, which are of protocol udp or tcp; return the answers in the same order.

    `namespaces` is source -> path of its network namespace ("" for this process's own). Raises
    PodnetError when a socket cannot be made.
    """
    loop = _Loop(probes, namespaces)
    try:
        return loop.run()
    finally:
        loop.close()


class _Connection:
    """One probe over TCP: connect, send `data`, get it back."""

    def __init__(self, index: int, opened: socket.socket, data: bytes, bulk: bool) -> None:
        self.index = index
        self.socket = opened
        self.data = memoryview(data)
        self.bulk = bulk
        self.sent = 0
        self.taken = 0
        self.connected = False
        #: When it began; for a bulk, when a byte last came.
        self.start = time.monotonic()

    def go_on(self) -> bool:
        """Send and receive without blocking; return whether the exchange is complete.

        Raises OSError if the connection fails or other bytes come back than were sent.
        """
        if not self.connected:
            failed = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if failed:
                raise OSError(failed, os.strerror(failed))
            try:
                self.socket.getpeername()
            except OSError:
                return False  # not yet
            self.connected = True
        with contextlib.suppress(BlockingIOError):
            while self.sent < len(self.data):
                self.sent += self.socket.send(self.data[self.sent : self.sent + _PIECE])
        with contextlib.suppress(BlockingIOError):
            while self.taken < len(self.data):
                part = self.socket.recv(65536)
                if not part:
                    raise OSError(errno.ECONNRESET, "connection closed")
                if part != self.data[self.taken : self.taken + len(part)]:
                    raise OSError(errno.EBADMSG, "other bytes came back than were sent")
                self.taken += len(part)
                if self.bulk:
                    self.start = time.monotonic()
        return self.taken == len(self.data)

    def segments(self) -> tuple[int, int]:
        """Return how many segments with data were sent, and how many of them once more."""
        info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_LENGTH)
        if len(info) < _TCP_INFO_LENGTH:
            return 0, 0
        (again,) = struct.unpack_from("=I", info, _TOTAL_RETRANS)
        (sent,) = struct.unpack_from("=I", info, _DATA_SEGS_OUT)
        return sent, again


class _Loop:
    """The state of one `run`."""

    def __init__(self, probes: Sequence[Probe], namespaces: Mapping[str, str]) -> None:
        self.probes = probes
        self.namespaces = namespaces
        self.answers = [Answer() for _probe in probes]
        self.token = os.urandom(8)
        self.noise = os.urandom(65536) * 4
        self.poll = select.epoll()
        self.udp: dict[tuple[str, int], socket.socket] = {}
        self.readers: dict[int, tuple[str, socket.socket]] = {}
        self.tcp: dict[int, _Connection] = {}
        tcp = [n for n, probe in enumerate(probes) if probe.protocol == "tcp"]
        self.waiting = deque(n for n in tcp if not probes[n].bulk)
        self.bulks = deque(n for n in tcp if probes[n].bulk)
        #: Slow bulks: how often each was tried again, and when (time.monotonic) that is next.
        self.tries: dict[int, int] = {}
        self.later: list[tuple[float, int]] = []
        self.try_until = 0.0
        self.broken: dict[tuple[str, str], Answer] = {}
        self.open = {n for n, probe in enumerate(probes) if probe.protocol == "udp"}
        self.sums: dict[int, tuple[int, int]] = {}

    def run(self) -> list[Answer]:
        for probe in self.probes:
            key = probe.source, family_of(probe.address)
            if probe.protocol == "udp" and key not in self.udp:
                self._open_udp(*key)
        start = time.monotonic()
        for number, moment in enumerate(TRIES):
            self._wait(start + moment)
            before = time.monotonic()
            self._send_all()
            if number == 0:
                self._fill()
            # A round that took long to send must not shorten the time left to answer.
            start += time.monotonic() - before
        self._wait(start + DEADLINE)
        for index in self.open:
            self.answers[index].error = self.answers[index].error or "no reply"
        self.open.clear()
        while self.tcp or self.waiting or self.bulks or self.later:
            self._step(0.1)
        return self.answers

    def close(self) -> None:
        for one in self.udp.values():
            one.close()
        for connection in self.tcp.values():
            connection.socket.close()
        self.poll.close()

    def _wait(self, until: float) -> None:
        """Go on until the time `until` (time.monotonic), or until all datagrams are answered."""
        while self.open and (left := until - time.monotonic()) > 0:
            self._step(min(left, 0.1))

    def _step(self, timeout: float) -> None:
        self._fill()
        for number, event in self.poll.poll(max(0.001, timeout)):
            if number in self.readers:
                if event & select.EPOLLERR:
                    self._complaints(self.readers[number][1])
                self._read(*self.readers[number])
            elif number in self.tcp:
                self._advance(number)
        now = time.monotonic()
        for number, one in list(self.tcp.items()):
            if now - one.start > (BULK_STUCK if one.bulk else TCP_DEADLINE):
                error = "no reply" if not one.connected else _stuck(one)
                self._finish(number, Answer(error=error))

    # UDP

    def _open_udp(self, source: str, family: int) -> None:
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        try:
            with in_netns(self.namespaces[source]):
                made = socket.socket(kind, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self.udp[source, family] = made
            set_df(made, family)
            if family == 4:
                made.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            else:
                made.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        except OSError as error:
            raise PodnetError(f"IPv{family} probe: no UDP socket ({error.strerror})") from error
        with contextlib.suppress(OSError):
            made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        self.readers[made.fileno()] = source, made
        self.poll.register(made, select.EPOLLIN)

    def _send_all(self) -> None:
        for count, index in enumerate(sorted(self.open)):
            if index not in self.open:
                continue  # answered while the burst before was sent
            if count % _BURST == _BURST - 1:
                self._step(_PAUSE)
            self._send(index)

    def _send(self, index: int) -> None:
        probe, answer = self.probes[index], self.answers[index]
        family = family_of(probe.address)
        length = max(HEADER.size, probe.size - (28 if family == 4 else 48))
        packet = HEADER.pack(self.token, index) + self.noise[: length - HEADER.size]
        self.sums[index] = len(packet), zlib.crc32(packet)
        # The kernel may report an earlier packet's error in this call: then try again.
        for _count in range(3):
            try:
                self.udp[probe.source, family].sendto(packet, (probe.address, probe.port))
                return
            except BlockingIOError:
                return  # a full queue: the next try comes
            except OSError as error:
                reason = error
        if reason.errno == errno.EMSGSIZE:
            answer.error = "message too long: the device here has a smaller MTU"
        else:
            answer.error = SEND_ERRORS.get(reason.errno or 0, reason.strerror or str(reason))

    def _read(self, source: str, reader: socket.socket) -> None:
        for _count in range(256):
            try:
                packet, sender = reader.recvfrom(65536)
            except BlockingIOError:
                return
            except OSError:
                continue
            if len(packet) != HEADER.size + BODY.size:
                continue
            token, index = HEADER.unpack_from(packet)
            if token != self.token or index not in self.open:
                continue
            probe = self.probes[index]
            if (probe.source, probe.address) != (source, str(sender[0]).partition("%")[0]):
                continue
            if BODY.unpack_from(packet, HEADER.size) == self.sums[index]:
                self.answers[index] = Answer(ok=True)
                self.open.discard(index)
            else:
                self.answers[index].error = "other bytes arrived than were sent"

    def _complaints(self, reader: socket.socket) -> None:
        """Note the ICMP errors and local errors about sent packets (IP_RECVERR, ip(7))."""
        for _count in range(256):
            try:
                packet, notes, _flags, _to = reader.recvmsg(65536, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return
            if len(packet) < HEADER.size:
                continue
            token, index = HEADER.unpack_from(packet)
            if token != self.token or index not in self.open:
                continue
            for level, kind, data in notes:
                if (level, kind) in ((0, _IP_RECVERR), (41, _IPV6_RECVERR)):
                    self._complaint(index, data)

    def _complaint(self, index: int, data: bytes) -> None:
        number, origin, _type, _code, _pad, info = _EXTENDED.unpack_from(data)
        answer = self.answers[index]
        if number == errno.EMSGSIZE:
            here = origin == 1
            what = "the device here has a smaller MTU" if here else f"path MTU {info}"
            answer.error = f"message too long: {what}"
        else:
            answer.error = SEND_ERRORS.get(number, os.strerror(number).lower())
        answer.router = _offender(data[_EXTENDED.size + 4 :]) if origin in (2, 3) else ""

    # TCP

    def _fill(self) -> None:
        while self.waiting and len(self.tcp) < _MOST:
            self._connect(self.waiting.popleft())
        if self.waiting or any(not one.bulk for one in self.tcp.values()):
            return
        now = time.monotonic()
        due = [one for one in sorted(self.later) if one[0] <= now]
        if due and not self.bulks and len(self.tcp) < _MOST_AGAIN:
            self.later.remove(due[0])
            self.bulks.append(due[0][1])
        while self.bulks and len(self.tcp) < _MOST_BULKS:
            index = self.bulks.popleft()
            # Where short exchanges fail, a bulk only takes seconds in which others wait.
            failed = self.broken.get(self._way(index))
            if failed is None:
                self._connect(index)
            else:
                self.answers[index] = failed

    def _way(self, index: int) -> tuple[str, str]:
        return self.probes[index].source, self.probes[index].address

    def _connect(self, index: int) -> None:
        probe = self.probes[index]
        family = family_of(probe.address)
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        try:
            with in_netns(self.namespaces[probe.source]):
                made = socket.socket(kind, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            raise PodnetError(f"IPv{family} probe: no TCP socket ({error.strerror})") from error
        # Close with a reset, so that no connection stays in TIME_WAIT.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        length = probe.bulk or (_TCP_SEGMENTS * probe.size if probe.full else _TCP_SMALL)
        data = HEADER.pack(self.token, index) + self.noise[: length - HEADER.size]
        connection = _Connection(index, made, data, probe.bulk > 0)
        self.tcp[made.fileno()] = connection
        self.poll.register(made, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        failed = made.connect_ex((probe.address, probe.port))
        if failed not in (0, errno.EINPROGRESS):
            self._finish(made.fileno(), Answer(error=_tcp_error(failed)))

    def _advance(self, number: int) -> None:
        connection = self.tcp[number]
        try:
            if connection.go_on():
                segments, again = connection.segments() if connection.bulk else (0, 0)
                self._finish(number, Answer(True, segments=segments, again=again))
        except OSError as error:
            self._finish(number, Answer(error=_tcp_error(error.errno or 0)))

    def _finish(self, number: int, answer: Answer) -> None:
        connection = self.tcp.pop(number)
        self.poll.unregister(connection.socket)
        connection.socket.close()
        index = connection.index
        self.answers[index] = answer
        if not connection.bulk and answer.error:
            self.broken[self._way(index)] = answer
        # A moment in which a host was busy, or many sent to one, makes no path slow. So it is tried
        # again, at moments of its own, and the last time counts.
        tries = self.tries.get(index, 0)
        if is_slow(answer.again, answer.segments) and tries < _MORE_TRIES:
            now = time.monotonic()
            self.try_until = self.try_until or now + _TRY_FOR
            if now < self.try_until:
                self.tries[index] = tries + 1
                self.later.append((now + random.uniform(0.1, 1.0), index))


def _stuck(one: _Connection) -> str:
    if one.bulk:
        return f"stops after {one.taken // 1024} KiB"
    return "connected, but what was sent " + ("is not answered" if not one.taken else "stops")


def _tcp_error(number: int) -> str:
    own = {
        errno.ECONNREFUSED: "refused",
        errno.ECONNRESET: "the connection was reset",
        errno.EBADMSG: "other bytes came back than were sent",
    }
    return own.get(number) or SEND_ERRORS.get(number, os.strerror(number).lower())


def _offender(address: bytes) -> str:
    """Return the IP address in a sockaddr, which follows an error (SO_EE_OFFENDER); "" for none."""
    if len(address) < 8:
        return ""
    family = struct.unpack_from("=H", address)[0]
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, address[4:8])
    if family == socket.AF_INET6 and len(address) >= 24:
        return socket.inet_ntop(socket.AF_INET6, address[8:24])
    return ""

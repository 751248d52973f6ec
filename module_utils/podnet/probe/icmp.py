"""Ping many addresses at once, at several sizes, and say why one does not answer.

ICMP and ICMPv6 echo over raw sockets, one per source and family, all in one loop: a thousand
targets take little longer than one, because all share one deadline. Packets carry "don't fragment"
and ignore what the kernel learned about path MTUs (IP_PMTUDISC_PROBE, ip(7)), so that a large
packet proves the path as it is now. The sockets also receive the ICMP errors in which routers say
why they could not deliver a packet (RFC 792, RFC 4443).

A socket belongs to the network namespace in which it was made. So one process can probe from a
pod's namespace and from the host's at the same time: see `in_netns`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Mapping, Sequence

from ..core.errors import PodnetError
from ..kernel.netns import in_netns

#: Seconds after the start at which requests go to all targets that have not answered yet.
TRIES = (0.0, 0.4, 1.0)

#: Seconds after which a target without an answer counts as not answering.
DEADLINE = 2.0

#: The small size in bytes, IP header included: that of an ordinary ping.
SMALL = 84

#: Packets between two looks at the answers, and the pause after them in seconds: 32,000 packets
#: a second at most, and replies never pile up beyond the receive buffer.
_BURST, _PAUSE = 32, 0.001

_RECEIVE_BUFFER = 8 * 1024 * 1024

# linux/in.h, linux/in6.h, linux/icmp.h, linux/icmpv6.h: not in Python's socket module.
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE = 10, 23, 3
_IPV6_DONTFRAG = 62
_SOL_RAW, _ICMP_FILTER, _ICMPV6_FILTER = 255, 1, 1
_SO_RCVBUFFORCE = 33

_HEADER = struct.Struct("!BBHHH")

_UNREACHABLE4 = {
    0: "network unreachable",
    1: "host unreachable",
    2: "protocol unreachable",
    9: "prohibited by a firewall",
    10: "prohibited by a firewall",
    13: "prohibited by a firewall",
}
_UNREACHABLE6 = {
    0: "no route",
    1: "prohibited by a firewall",
    3: "host unreachable",
    5: "prohibited by a firewall",
    6: "rejected by a route",
}
#: Errors that the kernel returns to the sender -> their meaning; `udp_tcp` uses them, too.
SEND_ERRORS = {
    errno.ENETUNREACH: "no route to it",
    errno.EHOSTUNREACH: "host unreachable",
    errno.EPERM: "dropped by a firewall on this host",
    errno.EACCES: "prohibited by a route",
    # IPv6 returns it for a full neighbour table, both families return it for a blackhole route.
    errno.EINVAL: "a blackhole route, or a full neighbour table here (sysctl gc_thresh3)",
    errno.ENOBUFS: "a full queue, or a full neighbour table here (sysctl gc_thresh3)",
}


@dataclass(frozen=True)
class Probe:
    """One question: does `address` answer a packet of `size` bytes from `source`?

    `source` is a key of `namespaces` in `run`. `size` counts the whole IP packet, header included,
    as an MTU does. `protocol` is icmp, udp or tcp; `port` is for udp and tcp (see `udp_tcp`).
    `bulk`: so many bytes over TCP, as fast as they go, instead of a short exchange.
    """

    source: str
    address: str
    size: int = SMALL
    protocol: str = "icmp"
    port: int = 0
    bulk: int = 0

    @property
    def full(self) -> bool:
        """Whether this is a probe of more than the small size."""
        return self.size > SMALL


@dataclass
class Answer:
    """The result of a probe: `ok`, or why not in `error`, and the router that said so ("": none).

    `rtt` is the round-trip time in seconds; only ICMP measures it. `segments` are those that a bulk
    sent over TCP, `again` how many of them were sent once more.
    """

    ok: bool = False
    error: str = ""
    router: str = ""
    rtt: float = 0.0
    segments: int = 0
    again: int = 0


@dataclass
class _Sockets:
    """The raw sockets of one source, by family (4, 6)."""

    by_family: dict[int, socket.socket] = field(default_factory=dict)


def run(
    probes: Sequence[Probe],
    namespaces: Mapping[str, str],
    tries: Sequence[float] = TRIES,
    deadline: float = DEADLINE,
) -> list[Answer]:
    """Send all `probes` and return their answers, in the same order.

    `namespaces` is source -> path of its network namespace ("" for this process's own). It returns
    as soon as all have answered, and at the latest `deadline` seconds after the start, not counting
    the time for sending. Raises PodnetError when a socket cannot be made.
    """
    if len(probes) * len(tries) > 65536:
        # The sequence number of an echo request has 16 bits.
        half = len(probes) // 2
        return run(probes[:half], namespaces, tries, deadline) + run(
            probes[half:], namespaces, tries, deadline
        )
    sources: dict[str, _Sockets] = {}
    try:
        for source, path in namespaces.items():
            families = {family_of(probe.address) for probe in probes if probe.source == source}
            with in_netns(path):
                sources[source] = sockets = _Sockets()
                for family in sorted(families):
                    sockets.by_family[family] = _open(family)
        return _Round(probes, sources, tries, deadline).run()
    finally:
        for sockets in sources.values():
            for one in sockets.by_family.values():
                one.close()


class _Round:
    """The state of one `run`: which requests were sent when, and what came back."""

    def __init__(
        self,
        probes: Sequence[Probe],
        sources: Mapping[str, _Sockets],
        tries: Sequence[float],
        deadline: float,
    ) -> None:
        self.probes = probes
        self.sources = sources
        self.tries = tries
        self.deadline = deadline
        self.answers = [Answer() for _probe in probes]
        self.identifier = os.getpid() & 0xFFFF
        # Tells our replies from those of another prober in the same namespace.
        self.token = os.urandom(8)
        self.sent = [0.0] * (len(probes) * len(tries))
        self.open = set(range(len(probes)))
        self.readers = {
            one.fileno(): (name, family, one)
            for name, sockets in sources.items()
            for family, one in sockets.by_family.items()
        }
        self.poll = select.poll()
        for number in self.readers:
            self.poll.register(number, select.POLLIN)

    def run(self) -> list[Answer]:
        start = time.monotonic()
        for number, moment in enumerate(self.tries):
            self._wait(start + moment)
            if not self.open:
                break
            before = time.monotonic()
            self._send_all(number)
            # A round that took long to send must not shorten the time left to answer.
            start += time.monotonic() - before
        self._wait(start + self.deadline)
        for index in self.open:
            answer = self.answers[index]
            answer.error = answer.error or "no reply"
        return self.answers

    def _send_all(self, number: int) -> None:
        count = 0
        for index in sorted(self.open):
            if index not in self.open:
                continue  # answered while the burst before was sent
            if count == _BURST:
                count = 0
                self._read(_PAUSE)
            self._send(index, number)
            count += 1

    def _send(self, index: int, number: int) -> None:
        probe, answer = self.probes[index], self.answers[index]
        family = family_of(probe.address)
        sequence = index * len(self.tries) + number
        packet = _request(family, self.identifier, sequence, self.token, probe.size)
        self.sent[sequence] = time.monotonic()
        try:
            self.sources[probe.source].by_family[family].sendto(packet, (probe.address, 0))
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                answer.error = "message too long: the device here has a smaller MTU"
            elif error.errno == errno.EAGAIN:
                pass  # a full queue: the next try comes
            else:
                answer.error = SEND_ERRORS.get(error.errno or 0, error.strerror or str(error))

    def _wait(self, until: float) -> None:
        """Take answers until the time `until` (time.monotonic), or until all have answered."""
        while self.open:
            left = until - time.monotonic()
            if left <= 0:
                return
            self._read(left)

    def _read(self, timeout: float) -> None:
        for number, _event in self.poll.poll(max(1, int(timeout * 1000))):
            source, family, reader = self.readers[number]
            for _count in range(256):
                try:
                    packet, sender = reader.recvfrom(65535, socket.MSG_DONTWAIT)
                except OSError:
                    break
                if family == 4:
                    self._take4(source, packet, str(sender[0]))
                else:
                    self._take6(source, packet, str(sender[0]).partition("%")[0])

    def _take4(self, source: str, packet: bytes, sender: str) -> None:
        # A raw IPv4 socket hands over the IP header, too (raw(7)).
        body = packet[(packet[0] & 15) * 4 :]
        if len(body) < 8:
            return
        kind, code, _sum, _high, low = _HEADER.unpack_from(body)
        if kind == 0:
            self._reply(source, body, sender)
        elif kind in (3, 11) and len(body) >= 8 + 20 + 8:
            inner = body[8:]
            target = socket.inet_ntop(socket.AF_INET, inner[16:20])
            request = inner[(inner[0] & 15) * 4 :]
            if kind == 11:
                reason = "went round in a loop (time exceeded)"
            elif code == 4:
                reason = f"message too long: path MTU {low}"
            else:
                reason = _UNREACHABLE4.get(code, f"unreachable (code {code})")
            self._complaint(source, request, target, sender, reason)

    def _take6(self, source: str, packet: bytes, sender: str) -> None:
        if len(packet) < 8:
            return
        kind, code, _sum, high, low = _HEADER.unpack_from(packet)
        if kind == 129:
            self._reply(source, packet, sender)
        elif kind in (1, 2, 3) and len(packet) >= 8 + 40 + 8:
            inner = packet[8:]
            target = socket.inet_ntop(socket.AF_INET6, inner[24:40])
            if kind == 2:
                reason = f"message too long: path MTU {high << 16 | low}"
            elif kind == 3:
                reason = "went round in a loop (hop limit exceeded)"
            else:
                reason = _UNREACHABLE6.get(code, f"unreachable (code {code})")
            self._complaint(source, inner[40:], target, sender, reason)

    def _reply(self, source: str, body: bytes, sender: str) -> None:
        index = self._index(source, body)
        if index is None or body[8:16] != self.token:
            return
        probe = self.probes[index]
        if probe.address != sender or index not in self.open:
            return
        # A reply that lost bytes would prove only a smaller packet than the one that was sent.
        if len(body) != _payload_size(family_of(probe.address), probe.size) + 8:
            return
        sequence = _HEADER.unpack_from(body)[4]
        self.answers[index] = Answer(ok=True, rtt=time.monotonic() - self.sent[sequence])
        self.open.discard(index)

    def _complaint(
        self, source: str, request: bytes, target: str, router: str, reason: str
    ) -> None:
        """Note why a packet of ours was not delivered; a later try may still get through."""
        if len(request) < 8:
            return
        index = self._index(source, request)
        if index is not None and index in self.open and self.probes[index].address == target:
            self.answers[index].error = reason
            self.answers[index].router = router

    def _index(self, source: str, header: bytes) -> int | None:
        _kind, _code, _sum, identifier, sequence = _HEADER.unpack_from(header)
        index = int(sequence) // len(self.tries)
        if identifier != self.identifier or index >= len(self.probes):
            return None
        return index if self.probes[index].source == source else None


def _open(family: int) -> socket.socket:
    """Return a raw socket that receives only echo replies and ICMP errors."""
    try:
        if family == 4:
            made = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            made.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
            hidden = ~(1 << 0 | 1 << 3 | 1 << 11) & 0xFFFFFFFF
            made.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", hidden))
        else:
            made = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_DONTFRAG, 1)
            blocked = [0xFFFFFFFF] * 8
            for kind in (1, 2, 3, 129):
                blocked[kind >> 5] &= ~(1 << (kind & 31)) & 0xFFFFFFFF
            made.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, struct.pack("=8I", *blocked))
    except OSError as error:
        raise PodnetError(
            f"IPv{family} probe: cannot open a raw socket ({error.strerror}); podnet needs root "
            "rights" + (", and a kernel with IPv6" if family == 6 else "")
        ) from error
    with contextlib.suppress(OSError):
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
    made.setblocking(False)
    return made


def family_of(address: str) -> int:
    """Return 4 or 6."""
    return 6 if ":" in address else 4


def _payload_size(family: int, size: int) -> int:
    # IP header and the echo header of 8 bytes; never less than the token.
    return max(8, size - (20 if family == 4 else 40) - 8)


def _request(family: int, identifier: int, sequence: int, token: bytes, size: int) -> bytes:
    """Return an echo request; for ICMPv6 the kernel adds the checksum (RFC 3542, section 3.1)."""
    payload = token + b"\0" * (_payload_size(family, size) - len(token))
    if family == 6:
        return _HEADER.pack(128, 0, 0, identifier, sequence) + payload
    # The zeros add nothing to the sum (RFC 1071), so only the front is added up.
    front = _HEADER.pack(8, 0, 0, identifier, sequence) + token
    total = sum(struct.unpack(f"!{len(front) // 2}H", front))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return _HEADER.pack(8, 0, ~total & 0xFFFF, identifier, sequence) + payload

"""ICMP echo requests from one namespace to many targets, every one of them accounted for.

Sent through a raw socket (raw(7)) by one process, because twelve `ping -i 0.005` would keep two
cores busy. A reply's time is the kernel's, so a process that gets no processor sees no loss.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import Any

from podnet.kernel.netns import in_netns

#: Seconds after which a request without a reply is lost. Longer than any queue holds a packet.
GRACE = 2.0

#: Times of lost pings that are kept one by one.
KEPT = 400

_MAGIC = os.urandom(4)
_PAYLOAD = struct.Struct("!4sQ")
_HEADER = struct.Struct("!BBHHH")
_REQUEST = {4: 8, 6: 128}  # ICMP types: RFC 792, RFC 4443
_REPLY = {4: 0, 6: 129}
_SO_TIMESTAMPNS = 35  # asm-generic/socket.h; also the type of the control message
_SO_RXQ_OVFL = 40
_BUFFER = 8 << 20


class Target:
    """One address that is pinged, and what became of the pings."""

    def __init__(self, source: str, name: str, address: str) -> None:
        """`source` and `name` are the two ends' names in the report."""
        self.source = source
        self.name = name
        self.address = address
        self.reset()

    def reset(self) -> None:
        """Forget all that was counted."""
        self.sent = 0
        self.received = 0
        self.late = 0
        self.lost = 0
        self.lost_at: list[float] = []
        self.worst = 0.0
        self.refusal = ""
        self.waiting: dict[int, float] = {}

    def lose(self, sent_at: float) -> None:
        """Count one ping that was sent at `sent_at` as lost."""
        self.lost += 1
        if len(self.lost_at) < KEPT:
            self.lost_at.append(sent_at)
        else:
            self.lost_at[-1] = sent_at

    def result(self) -> dict[str, Any]:
        """Return the counts as JSON types; times are seconds of the wall clock."""
        return {
            "from": self.source,
            "to": self.name,
            "family": 6 if ":" in self.address else 4,
            "sent": self.sent,
            "received": self.received,
            "waiting": len(self.waiting),
            "lost": self.lost,
            "lost_at": self.lost_at,
            "late": self.late,
            "worst": self.worst,
            "refusal": self.refusal,
        }


class Pinger:
    """Pings targets of one family from one namespace."""

    def __init__(self, netns: str, family: int, targets: list[Target]) -> None:
        """Open the socket in the namespace at `netns` ("" for the host's own)."""
        self.family = family
        self.targets = targets
        self.overflow = 0
        self._counter = 0
        self._base = struct.unpack("!H", os.urandom(2))[0]
        self._words = sum(struct.unpack("!2H", _MAGIC))
        with in_netns(netns):
            if family == 4:
                self.socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
                # ICMP_FILTER of raw(7): a bit that is set is a type that is not wanted.
                self.socket.setsockopt(
                    socket.SOL_RAW if hasattr(socket, "SOL_RAW") else 255,
                    1,
                    struct.pack("=I", 0xFFFFFFFF & ~(1 << _REPLY[4])),
                )
            else:
                self.socket = socket.socket(
                    socket.AF_INET6, socket.SOCK_RAW, socket.getprotobyname("ipv6-icmp")
                )
                # ICMP6_FILTER of RFC 3542: 256 bits, set means not wanted.
                bits = [0xFFFFFFFF] * 8
                bits[_REPLY[6] >> 5] &= ~(1 << (_REPLY[6] & 31))
                self.socket.setsockopt(socket.IPPROTO_ICMPV6, 1, struct.pack("=8I", *bits))
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, 33, _BUFFER)  # SO_RCVBUFFORCE
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)

    def send(self) -> None:
        """Send one ping to every target."""
        for index, target in enumerate(self.targets):
            self._counter += 1
            counter = self._counter
            ident = (self._base + index) & 0xFFFF
            packet = self._packet(ident, counter)
            now = time.time()
            target.sent += 1
            try:
                self.socket.sendto(packet, (target.address, 0))
                target.waiting[counter] = now
            except OSError as error:
                # The pod itself had no way out, so the ping is lost at once.
                target.refusal = error.strerror or str(error)
                target.lose(now)

    def _packet(self, ident: int, counter: int) -> bytes:
        sequence = counter & 0xFFFF
        checksum = 0
        if self.family == 4:  # for ICMPv6 the kernel computes it (RFC 3542, section 3.1)
            total = (
                0x0800
                + ident
                + sequence
                + self._words
                + (counter >> 48 & 0xFFFF)
                + (counter >> 32 & 0xFFFF)
                + (counter >> 16 & 0xFFFF)
                + (counter & 0xFFFF)
            )
            total = (total & 0xFFFF) + (total >> 16)
            checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        return _HEADER.pack(_REQUEST[self.family], 0, checksum, ident, sequence) + _PAYLOAD.pack(
            _MAGIC, counter
        )

    def receive(self) -> None:
        """Take in the replies that have come."""
        for _ in range(128):
            try:
                data, control, _flags, _address = self.socket.recvmsg(256, 128)
            except OSError:
                return
            offset = (data[0] & 15) * 4 if self.family == 4 else 0
            if len(data) < offset + 20 or data[offset] != _REPLY[self.family]:
                continue
            magic, counter = _PAYLOAD.unpack_from(data, offset + 8)
            if magic != _MAGIC:
                continue
            at = time.time()
            for _level, kind, value in control:
                if kind == _SO_TIMESTAMPNS:
                    seconds, nanoseconds = struct.unpack("=qq", value)
                    at = seconds + nanoseconds / 1e9
                elif kind == _SO_RXQ_OVFL:
                    self.overflow = struct.unpack("=I", value)[0]
            ident = struct.unpack_from("!H", data, offset + 4)[0]
            index = (ident - self._base) & 0xFFFF
            if index >= len(self.targets):
                continue
            target = self.targets[index]
            sent_at = target.waiting.pop(counter, None)
            if sent_at is None:
                target.late += 1
                continue
            if at - sent_at > GRACE:
                target.late += 1
                target.lose(sent_at)
                continue
            target.received += 1
            target.worst = max(target.worst, at - sent_at)

    def expire(self) -> None:
        """Count pings as lost whose time is up. Call `receive` first: a reply may lie there."""
        limit = time.time() - GRACE
        for target in self.targets:
            for counter, sent_at in list(target.waiting.items()):
                if sent_at > limit:
                    break
                del target.waiting[counter]
                target.lose(sent_at)

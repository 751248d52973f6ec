"""TCP connections that carry a small record every few milliseconds, and how long one stood still.

The receiving end measures. A record tells when it was handed to the sender's kernel, so a stream
stands still from then until the record is read: this counts what an application would feel, all
retransmission included.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from podnet.kernel.netns import in_netns

#: Seconds between two records.
INTERVAL = 0.02
#: Shorter waits are not noted.
NOTED = 0.1
#: Seconds a connection may take to be made before it counts as refused.
CONNECT = 5.0

_LABEL = 64
_RECORD = struct.Struct("!Qd")
_KEPT = 200


def _socket(netns: str, family: int) -> socket.socket:
    with in_netns(netns):
        made = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_STREAM)
    made.setblocking(False)
    return made


class Sender:
    """One stream's sending end. A connection that breaks is noted and made anew."""

    def __init__(self, netns: str, source: str, name: str, address: str, port: int) -> None:
        """`source` and `name` are the two ends' names in the report."""
        self.netns, self.source, self.name = netns, source, name
        self.address, self.port = address, port
        self.family = 6 if ":" in address else 4
        self.resets: list[tuple[float, str]] = []
        self.sent = 0
        self._again_at = 0.0
        self._socket: socket.socket | None = None
        self._began = 0.0
        self._rest = b""
        self._connected = False

    def reset(self) -> None:
        """Forget all that was counted."""
        self.resets = []
        self.sent = 0

    def tick(self) -> None:
        """Send the record that is due; connect where there is no connection."""
        now = time.time()
        if self._socket is None:
            if now >= self._again_at:
                self._connect(now)
            return
        try:
            if not self._connected:
                self._finish_connecting(now)
                return
            # Nothing is ever sent to us: data or an end here is the end of the connection.
            with contextlib.suppress(BlockingIOError):
                self._socket.recv(1)
                self._broken(now, "closed by the peer")
                return
            self._rest += _RECORD.pack(self.sent, now) if len(self._rest) < 4096 else b""
            self.sent += 1
            with contextlib.suppress(BlockingIOError):
                self._rest = self._rest[self._socket.send(self._rest) :]
        except OSError as error:
            self._broken(now, error.strerror or str(error))

    def _connect(self, now: float) -> None:
        self._socket = _socket(self.netns, self.family)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._began, self._connected = now, False
        code = self._socket.connect_ex((self.address, self.port))
        if code not in (0, errno.EINPROGRESS):
            self._broken(now, errno.errorcode.get(code, str(code)))

    def _finish_connecting(self, now: float) -> None:
        assert self._socket is not None
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._broken(now, errno.errorcode.get(code, str(code)))
            return
        try:
            self._socket.getpeername()
        except OSError:
            if now - self._began > CONNECT:
                self._broken(now, "no connection")
            return
        self._connected = True
        self._rest = f"{self.source} {self.name}".encode().ljust(_LABEL)

    def _broken(self, now: float, why: str) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._again_at = now + 0.1
        self.resets.append((now, why))

    def result(self) -> dict[str, Any]:
        """Return the counts as JSON types."""
        return {
            "from": self.source,
            "to": self.name,
            "family": self.family,
            "sent": self.sent,
            "resets": self.resets[:_KEPT],
        }


class _Incoming:
    """One stream as its receiving end sees it, over all its connections."""

    def __init__(self) -> None:
        self.reset()
        self.sent_at = self.read_at = time.time()

    def reset(self) -> None:
        self.received = 0
        self.stalls: list[tuple[float, float]] = []
        self.longest = 0.0
        self.ends: list[tuple[float, str]] = []

    def note(self, start: float, end: float) -> None:
        self.longest = max(self.longest, end - start)
        if end - start > NOTED and len(self.stalls) < _KEPT:
            self.stalls.append((start, end))


class Listener:
    """Accepts streams on one namespace's address and measures them."""

    def __init__(self, netns: str, family: int) -> None:
        """Listen on a free port of all addresses of the family."""
        self.family = family
        self.socket = _socket(netns, family)
        if family == 6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.socket.bind(("::" if family == 6 else "", 0))
        self.socket.listen(64)
        self.port: int = self.socket.getsockname()[1]
        self._streams: dict[str, _Incoming] = {}

    def accept(self, register: Callable[[socket.socket, Callable[[], bool]], None]) -> None:
        """Take new connections; `register` them with what reads one and says if it goes on."""
        while True:
            try:
                connection, _address = self.socket.accept()
            except OSError:
                return
            connection.setblocking(False)
            register(connection, _Reader(self, connection).read)

    def stream(self, label: str) -> _Incoming:
        """Return the stream with that label."""
        return self._streams.setdefault(label, _Incoming())

    def reset(self) -> None:
        """Forget all that was counted."""
        for stream in self._streams.values():
            stream.reset()
            stream.sent_at = stream.read_at = time.time()

    def result(self) -> list[dict[str, Any]]:
        """Return the counts as JSON types; a stream that stands still now counts until now."""
        now = time.time()
        results = []
        for label, stream in self._streams.items():
            source, _, name = label.partition(" ")
            standing = now - stream.read_at
            open_stall = [(stream.read_at, now)] if standing > NOTED else []
            results.append(
                {
                    "from": source,
                    "to": name,
                    "family": self.family,
                    "received": stream.received,
                    "longest": max(stream.longest, standing if open_stall else 0.0),
                    "stalls": stream.stalls + open_stall,
                    "ends": stream.ends[:_KEPT],
                }
            )
        return results


class _Reader:
    """Reads one connection: a label first, then records."""

    def __init__(self, listener: Listener, connection: socket.socket) -> None:
        self._listener, self._connection = listener, connection
        self._data = b""
        self._stream: _Incoming | None = None

    def read(self) -> bool:
        """Take in what has come; return whether the connection goes on."""
        why = "closed by the peer"
        try:
            data = self._connection.recv(65536)
        except BlockingIOError:
            return True
        except OSError as error:
            data, why = b"", error.strerror or str(error)
        now = time.time()
        if not data:
            if self._stream:
                self._stream.ends.append((now, why))
            self._connection.close()
            return False
        self._data += data
        if self._stream is None:
            if len(self._data) < _LABEL:
                return True
            self._stream = self._listener.stream(self._data[:_LABEL].decode().strip())
            self._data = self._data[_LABEL:]
        stream = self._stream
        whole = len(self._data) // _RECORD.size
        if whole:
            # The oldest record of what was read waited longest.
            _number, sent_at = _RECORD.unpack_from(self._data)
            stream.note(min(sent_at, now), now)
            # Nothing sent for a while is the sender's standstill, unless it was never connected.
            if stream.received:
                stream.note(stream.read_at, now)
            stream.received += whole
            stream.read_at = now
            self._data = self._data[whole * _RECORD.size :]
        return True

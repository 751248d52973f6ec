"""Enter another network namespace with the calling thread, for a moment (setns(2)).

A socket belongs to the namespace in which it was made, for as long as it lives. So a program needs
to be in the namespace only while it makes the socket.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from typing import Iterator

from ..core.errors import PodnetError

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_SIOCGIFMTU = 0x8921  # linux/sockios.h


@contextlib.contextmanager
def in_netns(path: str) -> Iterator[None]:
    """Move this thread to the network namespace at `path` ("": none) for a with block.

    Sockets made in the block stay in that namespace. Raises PodnetError when it cannot be entered.
    """
    if not path:
        yield
        return
    try:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _setns(there)
            finally:
                os.close(there)
            try:
                yield
            finally:
                _setns(home)
        finally:
            os.close(home)
    except OSError as error:
        raise PodnetError(f"{path}: cannot enter the namespace ({error.strerror})") from error


def _setns(handle: int) -> None:
    # os.setns exists only since Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(handle, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def interface_mtu(interface: str, netns: str = "") -> int | None:
    """Return the MTU in bytes of an interface in the namespace at `netns`; None if there is none.

    It is not read from /sys, which shows the namespace in which it was mounted.
    """
    with in_netns(netns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            answer = fcntl.ioctl(
                asked.fileno(), _SIOCGIFMTU, struct.pack("16s16x", interface.encode())
            )
        except OSError:
            return None
    return int(struct.unpack_from("=i", answer, 16)[0])

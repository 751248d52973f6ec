"""Look into another network namespace from inside this process (setns(2), netns of socket(7)).

A socket belongs for ever to the namespace in which it was made, so a program needs to be there
only for the moment of making it.
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
    """Be in the network namespace at `path` ("" means: stay) for the time of a with block.

    Sockets made inside stay there. Raises PodnetError when the namespace cannot be entered.
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
    # os.setns came with Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(handle, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def interface_mtu(interface: str, netns: str = "") -> int | None:
    """Return the MTU in bytes of an interface of the namespace at `netns`; None if there is none.

    /sys would not do: it shows the namespace in which it was mounted.
    """
    with in_netns(netns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            answer = fcntl.ioctl(
                asked.fileno(), _SIOCGIFMTU, struct.pack("16s16x", interface.encode())
            )
        except OSError:
            return None
    return int(struct.unpack_from("=i", answer, 16)[0])

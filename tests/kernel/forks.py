"""Runs code in the namespaces of a process, in a fork of one that has podnet loaded.

A Python that starts and imports podnet costs more than most of what the tests ask it to do. Here
one does so for all of them, once: the server. For each call it forks, and the fork enters the
namespaces and forks what runs the code, so each call begins with the same fresh modules.

`Server` is the caller's end; run as a script, this file is the other.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import types
from pathlib import Path
from typing import IO

#: What code on a host imports from.
MODULES = Path(__file__).resolve().parents[2] / "module_utils"


class Server:
    """A process with podnet loaded, started with the first call."""

    def __init__(self) -> None:
        """Name it; nothing is started yet."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def run(self, pid: int, code: str, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run code, as `python -c` does, in the network and mount namespaces of a process.

        Raises subprocess.TimeoutExpired after `timeout` seconds, when it is killed.
        """
        with contextlib.ExitStack() as stack:
            reads: list[int] = []
            writes = [os.memfd_create("code")]
            stack.callback(os.close, writes[0])
            os.write(writes[0], f"{pid}\n{code}".encode())
            for _ in ("stdout", "stderr", "status"):
                read, write = os.pipe()
                stack.callback(os.close, read)
                reads.append(read)
                writes.append(write)
            try:
                with self._lock:
                    socket.send_fds(self._started(), [b"run"], writes)
            finally:
                for write in writes[1:]:
                    os.close(write)
            stdout, stderr, status = _collect(reads, timeout)
        text = status.decode().split()
        assert len(text) == 2, f"the server of forks said {status!r}: {stderr.decode()}"
        said = [io.TextIOWrapper(io.BytesIO(data), "utf-8").read() for data in (stdout, stderr)]
        return subprocess.CompletedProcess(["python"], int(text[1]), *said)

    def _started(self) -> socket.socket:
        if self._socket is None:
            self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env=os.environ | {"PYTHONPATH": str(MODULES)},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
            theirs.close()
        return self._socket

    def close(self) -> None:
        """End it."""
        if self._socket is not None and self._process is not None:
            self._socket.close()
            self._process.wait()
        self._socket = self._process = None


def _collect(reads: list[int], timeout: float) -> list[bytes]:
    """Return what comes out of pipes until all are closed; kill what takes too long."""
    found = dict.fromkeys(reads, b"")
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for read in reads:
            selector.register(read, selectors.EVENT_READ)
        while selector.get_map():
            events = selector.select(deadline - time.monotonic())
            if not events and time.monotonic() >= deadline:
                with contextlib.suppress(ProcessLookupError, IndexError):
                    os.kill(int(found[reads[2]].split()[0]), signal.SIGKILL)
                raise subprocess.TimeoutExpired("python", timeout, found[reads[0]])
            for key, _ in events:
                data = os.read(key.fd, 65536)
                found[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
    return [found[read] for read in reads]


# The other end


def serve(connection: socket.socket) -> None:
    """Fork for each request until the other end is closed."""
    while True:
        request, handles, _, _ = socket.recv_fds(connection, 16, 4)
        if not request:
            return
        if os.fork() == 0:
            connection.close()
            _handle(*handles)
        for handle in handles:
            os.close(handle)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _handle(code: int, stdout: int, stderr: int, status: int) -> None:
    """Run the code in a child; tell its process id, then its exit status. Does not return."""
    try:
        os.lseek(code, 0, os.SEEK_SET)
        with os.fdopen(code) as file:
            pid = int(file.readline())
            text = file.read()
        _enter(pid)
        child = os.fork()
        if child == 0:
            os.close(status)
            os.dup2(stdout, 1)
            os.dup2(stderr, 2)
            os.close(stdout)
            os.close(stderr)
            _execute(text)
        os.close(stdout)
        os.close(stderr)
        os.write(status, f"{child} ".encode())
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(status, f"{ended}".encode())
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _enter(pid: int) -> None:
    """Go where a process is; the directory becomes "/", as with nsenter(1)."""
    libc = ctypes.CDLL(None, use_errno=True)
    for name in ("net", "mnt"):
        handle = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        if libc.setns(handle, 0):
            raise OSError(ctypes.get_errno(), f"setns: {name} of {pid}")
        os.close(handle)


def _execute(text: str) -> None:
    """Run code as the program of a fresh Python, and end as that does. Does not return."""
    status = 1
    try:
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        sys.argv, sys.path[0] = ["-c"], ""
        exec(compile(text, "<string>", "exec"), main.__dict__)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if status and not isinstance(end.code, int):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:
        traceback.print_exc()
    finally:
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        streams: list[IO[str]] = [sys.stdout, sys.stderr]
        for stream in streams:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)


def _load() -> None:
    """Import all of podnet that a host can import; what cannot be says so where it is used."""
    import podnet

    for module in pkgutil.walk_packages(podnet.__path__, "podnet.", onerror=lambda _: None):
        with contextlib.suppress(Exception):
            importlib.import_module(module.name)


if __name__ == "__main__":
    here = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(here.fileno(), False)
    _load()
    serve(here)

"""The watcher on one host: makes the pods, keeps them, watches, and takes them away.

It speaks lines of JSON. In: the settings, then the targets, then the words `reset`, `report`,
`stop`; the end of the input means `stop`, too, and takes the pods away. Out: the pods (or `error`),
then a result for each `report` and a last one for `stop`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from podnet.cni.chain import Attachment, PluginChain
from podnet.core.errors import PodnetError
from podnet.kernel.netns import interface_mtu

from .pings import GRACE, Pinger, Target
from .streams import INTERVAL, Listener, Sender

PREFIX = "podnet-traffic-"

#: The name of the host's own end, which is watched over the underlay.
UNDERLAY = "host"

#: A loop that comes so many seconds late was kept from running: it has seen nothing meanwhile.
LATE = 0.02

#: Seconds between two pings on the underlay: for comparison, not for proof.
_UNDERLAY_EVERY = 0.05

#: Seconds by which pods and families ping one after the other, where the interval has room for it.
_APART = 0.005


class Pod:
    """A namespace made through the CNI configuration, as a container runtime would."""

    def __init__(self, label: str, chain: PluginChain, named: bool) -> None:
        """Make it; with `named` it lies in /run/netns, else only a process holds it."""
        self.container = f"{PREFIX}{_boot()}-{os.getpid()}-{label}"
        self._chain = chain
        self._holder: subprocess.Popen[bytes] | None = None
        if named:
            subprocess.run(["ip", "netns", "add", self.container], check=True)
            self.netns = f"/run/netns/{self.container}"
        else:
            # The end of our life ends it: its standard input closes.
            self._holder = subprocess.Popen(
                ["unshare", "--net", "sh", "-c", "echo; cat"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert self._holder.stdout
            self._holder.stdout.readline()
            self.netns = f"/proc/{self._holder.pid}/ns/net"
        self._attachment = Attachment(self.container, self.netns)
        try:
            self.added = chain.add(self._attachment)
        except PodnetError:
            self._end()
            raise

    def facts(self) -> dict[str, Any]:
        """Return the pod's namespace, addresses by family and MTU in bytes."""
        addresses: dict[str, str] = {}
        for entry in self.added.get("ips", ()):
            address = str(entry["address"]).partition("/")[0]
            addresses.setdefault("6" if ":" in address else "4", address)
        return {
            "netns": self.netns,
            "addresses": addresses,
            "mtu": interface_mtu("eth0", self.netns) or 0,
        }

    def remove(self) -> None:
        """Take it away through the plugins, and with force where they fail."""
        with contextlib.suppress(PodnetError):
            self._chain.delete(self._attachment, self.added)
        self._end()

    def _end(self) -> None:
        if self._holder:
            self._holder.kill()
            self._holder.wait()
        else:
            subprocess.run(["ip", "netns", "delete", self.container], check=False)


class Agent:
    """All that is watched from one host, in one loop."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Make the pods and the listeners."""
        self.name: str = settings["name"]
        self.interval: float = settings["interval"]
        self.lags: list[tuple[float, float]] = []
        self.pingers: list[tuple[float, Pinger]] = []
        self.senders: list[Sender] = []
        self.pods: dict[str, Pod] = {}
        text = Path(settings["conflist"]).read_text()
        chain = PluginChain.from_text(text, settings["directories"])
        _forget_pods_of_earlier_boots(chain.name)
        try:
            for number, label in enumerate(settings["pods"]):
                self.pods[label] = Pod(label, chain, named=number % 2 == 0)
            self.netns = {label: pod.netns for label, pod in self.pods.items()}
            self.netns[UNDERLAY] = ""
            self.listeners = {
                (label, family): Listener(netns, family)
                for label, netns in self.netns.items()
                for family in (4, 6)
            }
        except BaseException:
            self.remove_pods()
            raise
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[], Any]] = {}

    def remove_pods(self) -> None:
        """Take all pods away."""
        for pod in self.pods.values():
            pod.remove()

    def facts(self) -> dict[str, Any]:
        """Return what the other hosts need to reach this one's pods."""
        return {
            "pods": {label: pod.facts() for label, pod in self.pods.items()},
            "gateways": sorted(
                {
                    str(entry["gateway"])
                    for pod in self.pods.values()
                    for entry in pod.added.get("ips", ())
                    if entry.get("gateway")
                }
            ),
            "ports": {
                f"{label} {family}": listener.port
                for (label, family), listener in self.listeners.items()
            },
        }

    def aim(self, targets: Mapping[str, Any]) -> None:
        """Begin to ping `pings` and to stream to `streams`: lists of [from, to, address, port]."""
        grouped: dict[tuple[str, int], list[Target]] = {}
        for label, name, address in targets["pings"]:
            grouped.setdefault((label, 6 if ":" in address else 4), []).append(
                Target(f"{self.name}/{label}", name, address)
            )
        for (label, family), group in grouped.items():
            pinger = Pinger(self.netns[label], family, group)
            self._register(pinger.socket.fileno(), pinger.receive)
            every = _UNDERLAY_EVERY if label == UNDERLAY else self.interval
            self.pingers.append((every, pinger))
        for label, name, address, port in targets["streams"]:
            self.senders.append(
                Sender(self.netns[label], f"{self.name}/{label}", name, address, port)
            )

    def _register(self, handle: int, handler: Callable[[], Any]) -> None:
        self._handlers[handle] = handler
        self._poll.register(handle, select.EPOLLIN)

    def _register_stream(self, connection: Any, read: Callable[[], bool]) -> None:
        handle = connection.fileno()

        def read_or_forget() -> None:
            if not read():
                # A closed socket has left the poll by itself.
                del self._handlers[handle]

        self._register(handle, read_or_forget)

    def run(self) -> dict[str, Any]:
        """Watch until told to stop; return the last result."""
        for listener in self.listeners.values():
            self._register(
                listener.socket.fileno(),
                lambda listener=listener: listener.accept(self._register_stream),  # type: ignore[misc]
            )
        commands = _Lines(0)
        self._register(0, commands.read)
        start = time.time()
        works = self._work()
        due = [start + number * _APART % every for number, (every, _work) in enumerate(works)]
        while True:
            now = time.time()
            for index, (every, work) in enumerate(works):
                if now < due[index]:
                    continue
                if now - due[index] > LATE:
                    self.lags.append((due[index], now))
                work()
                # What was missed for long is not made up for: a burst would prove nothing.
                due[index] = due[index] + every if now - due[index] < LATE else now + every
            for command in commands.take():
                if command == "reset":
                    self.reset()
                elif command == "report":
                    _say(self.result())
                else:
                    return self._finish()
            for handle, _event in self._poll.poll(max(0.0, min(due) - time.time())):
                handler = self._handlers.get(handle)
                if handler:
                    handler()

    def _work(self) -> list[tuple[float, Callable[[], None]]]:
        def streams() -> None:
            for sender in self.senders:
                sender.tick()

        pings = [(every, pinger.send) for every, pinger in self.pingers]
        return [*pings, (max(INTERVAL, self.interval), streams)]

    def reset(self) -> None:
        """Forget all that was counted, as if the watch began now."""
        self.lags = []
        for _every, pinger in self.pingers:
            for target in pinger.targets:
                target.reset()
        for sender in self.senders:
            sender.reset()
        for listener in self.listeners.values():
            listener.reset()

    def _finish(self) -> dict[str, Any]:
        incoming = [one for listener in self.listeners.values() for one in listener.result()]
        outgoing = [sender.result() for sender in self.senders]
        end = time.time() + GRACE
        while time.time() < end and any(
            target.waiting for _every, pinger in self.pingers for target in pinger.targets
        ):
            for handle, _event in self._poll.poll(0.05):
                # Of the streams only what was counted until now matters: peers stop in turn.
                if any(handle == pinger.socket.fileno() for _every, pinger in self.pingers):
                    self._handlers[handle]()
        return {**self.result(), "incoming": incoming, "outgoing": outgoing}

    def result(self) -> dict[str, Any]:
        """Return all that was counted so far."""
        for _every, pinger in self.pingers:
            pinger.receive()
            pinger.expire()
        return {
            "host": self.name,
            "lags": self.lags,
            "overflow": sum(pinger.overflow for _every, pinger in self.pingers),
            "pings": [
                target.result() for _every, pinger in self.pingers for target in pinger.targets
            ],
            "outgoing": [sender.result() for sender in self.senders],
            "incoming": [one for listener in self.listeners.values() for one in listener.result()],
        }


def _boot() -> str:
    """Return what tells this boot of the host from its others."""
    # When init began (proc(5), starttime), not the kernel's boot_id: the lab's hosts share that.
    return Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19]


def _forget_pods_of_earlier_boots(network: str) -> None:
    """Give back the addresses of pods that a reboot has ended, as container runtimes do."""
    with contextlib.suppress(OSError):
        for lease in Path("/var/lib/cni/networks", network).iterdir():
            holder = lease.read_text(errors="replace")
            if holder.startswith(PREFIX) and not holder.startswith(f"{PREFIX}{_boot()}-"):
                lease.unlink()


class _Lines:
    """Lines from a descriptor, without waiting for them. Its end reads as `stop`."""

    def __init__(self, handle: int) -> None:
        self._handle, self._data, self._lines = handle, b"", [""][:0]

    def read(self) -> None:
        data = os.read(self._handle, 4096)
        self._data += data or b"stop\n"
        *lines, self._data = self._data.split(b"\n")
        self._lines += [line.decode() for line in lines]

    def take(self) -> list[str]:
        lines, self._lines = self._lines, []
        return lines


def _say(message: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _line() -> str:
    """Read one line byte by byte: what follows belongs to the loop."""
    data = b""
    while not data.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            raise SystemExit(0)
        data += byte
    return data.decode()


def main() -> None:
    """Watch as the lines on the standard input say."""
    # All of it is loaded by now, and nothing is to be left behind.
    with contextlib.suppress(OSError, KeyError):
        Path(os.environ.pop("PYTHONPATH")).unlink()
    # Ansible's work must not keep the watcher from the processor.
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    try:
        agent = Agent(json.loads(_line()))
    except (PodnetError, OSError, subprocess.SubprocessError) as error:
        _say({"error": str(error)})
        raise SystemExit(1) from error
    try:
        _say(agent.facts())
        agent.aim(json.loads(_line()))
        _say(agent.run())
        # Others may still be at it: the pods answer until all have ended, which closes the input.
        while os.read(0, 4096):
            pass
    finally:
        agent.remove_pods()


if __name__ == "__main__":
    main()

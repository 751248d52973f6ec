"""Watch the pod network of a running lab from outside Ansible, over SSH connections of its own."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import paramiko

from lab import Lab, machine
from tests.traffic.report import UNDERLAY, Report, judge

PROJECT = Path(__file__).resolve().parents[2]

#: Where the watchers' code lies on a host: gone with a reboot.
_CODE = "/run/podnet-traffic.zip"

_CONFLIST = "/etc/cni/net.d/10-podnet.conflist"
_PLUGINS = ("/opt/cni/bin", "/usr/lib/cni")


class TrafficError(Exception):
    """The watch could not begin or was cut off."""


class _Watcher:
    """The agent on one host, at the end of an SSH session."""

    def __init__(self, lab: Lab, host: str) -> None:
        self.host = host
        self.facts: dict[str, Any] = {}
        this = lab.hosts[host]
        self._client = paramiko.SSHClient()
        self._client.load_host_keys(str(lab.directory / "known_hosts"))
        self._client.set_missing_host_key_policy(paramiko.RejectPolicy())
        try:
            self._client.connect(
                this.address,
                username="root",
                key_filename=str(lab.directory / "id_ed25519"),
                sock=machine.connect(lab.netns, this.address, 22, timeout=10.0),
                allow_agent=False,
                look_for_keys=False,
                timeout=10.0,
            )
        except (OSError, paramiko.SSHException) as error:
            self._client.close()
            raise TrafficError(f"{host}: no SSH connection ({error})") from error

    def begin(self, code: bytes, settings: dict[str, Any]) -> None:
        """Bring the code to the host and start it there."""
        stdin, stdout, _ = self._client.exec_command(f"cat > {_CODE}.new && mv {_CODE}.new {_CODE}")
        stdin.write(code)
        stdin.channel.shutdown_write()
        if stdout.channel.recv_exit_status():
            raise TrafficError(f"{self.host}: cannot write {_CODE}")
        self._in, self._out, self._err = self._client.exec_command(
            f"PYTHONPATH={_CODE} exec python3 -m onhost.agent"
        )
        self.tell(json.dumps({"name": self.host, **settings}))

    def tell(self, line: str) -> None:
        """Send a line to the agent."""
        try:
            self._in.write(f"{line}\n")
            self._in.flush()
        except OSError as error:
            raise TrafficError(f"{self.host}: its watcher is gone ({error})") from error

    def hear(self, timeout: float = 60.0) -> dict[str, Any]:
        """Return the agent's next answer; raise TrafficError when it has ended."""
        self._out.channel.settimeout(timeout)
        try:
            line = self._out.readline()
        except (OSError, paramiko.SSHException) as error:
            raise TrafficError(f"{self.host}: its watcher does not answer") from error
        if not line:
            said = self._err.read().decode(errors="replace").strip()[-2000:]
            raise TrafficError(f"{self.host}: its watcher ended early. {said}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise TrafficError(f"{self.host}: {answer['error']}")
        return answer

    def end(self) -> None:
        """Wait until the agent has taken its pods away, and close the connection."""
        self._in.channel.shutdown_write()
        self._out.channel.settimeout(10.0)
        with contextlib.suppress(OSError):
            self._out.read()
        self._client.close()

    def close(self) -> None:
        """Close the connection; an agent that is left sees the end of its input and goes."""
        self._client.close()


class Traffic:
    """Pods on hosts of a lab, with pings and streams between all pairs of hosts.

    On every host stand the pods `pods` (the first with a named namespace, the second held by a
    process only), made through the rendered CNI configuration. Each pings its namesake on every
    other host every `interval` seconds, with IPv4 and IPv6 where pods have them, one after the
    other: by default two hosts with two pods of both families are joined by a ping every 5 ms. The
    first pods are joined by TCP streams in both directions. With `gateways`, each first pod also
    pings the other hosts' bridges, which answer without any pod there. The hosts do the same on the
    underlay, for comparison.

        with Traffic(lab) as traffic:
            ...
        print(traffic.result.table())
    """

    def __init__(
        self,
        lab: Lab,
        hosts: Sequence[str] | None = None,
        *,
        pods: Sequence[str] = ("a", "b"),
        interval: float = 0.02,
        gateways: bool = False,
        warm_up: float = 10.0,
        conflist: str = _CONFLIST,
        underlay: bool = True,
    ) -> None:
        """Name what will be watched; nothing is made yet.

        All pairs must work within `warm_up` seconds, or the watch does not begin. `conflist` is the
        hosts' file to make pods with. Without `underlay` the hosts are not watched beside the pods,
        and no stall of a stream is excused: for hosts whose processor cannot do all of it.
        """
        self._underlay = underlay
        self._conflist = conflist
        self._lab = lab
        self._names = list(hosts if hosts is not None else lab.hosts)
        self._labels = list(pods)
        self._interval = interval
        self._gateways = gateways
        self._warm_up_time = warm_up
        self._watchers: dict[str, _Watcher] = {}
        self._silent: list[str] = []
        #: The report on the whole watch, once it has ended.
        self.result: Report = Report([])

    def __enter__(self) -> Traffic:
        """Begin to watch."""
        self.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """End the watch unless it has ended."""
        if kind is None:
            self.stop()
        else:
            self._close()

    def start(self) -> None:
        """Make the pods and begin; return when every pair works. Raises TrafficError."""
        settings = {
            "interval": self._interval,
            "pods": self._labels,
            "conflist": self._conflist,
            "directories": _PLUGINS,
        }
        try:
            code = code_archive()
            for name in self._names:
                self._watchers[name] = watcher = _Watcher(self._lab, name)
                watcher.begin(code, settings)
            for watcher in self._watchers.values():
                watcher.facts = watcher.hear()
            for name, watcher in self._watchers.items():
                watcher.tell(json.dumps(self._targets(name)))
            self._warm_up()
        except BaseException:
            self._close()
            raise

    def pods(self, host: str) -> dict[str, dict[str, Any]]:
        """Return a host's pods by label: netns (a path on the host), addresses, mtu at birth."""
        return dict(self._watchers[host].facts["pods"])

    def report(self) -> Report:
        """Return what was seen so far; pings under way are not counted as lost yet."""
        return judge(self._ask("report"), self._silent)

    def forget(self) -> None:
        """Begin to count anew."""
        for watcher in list(self._watchers.values()):
            self._try(watcher, lambda watcher: watcher.tell("reset"))

    def stop(self) -> Report:
        """End the watch, take the pods away, return the report on all of it."""
        if self._watchers:
            self.result = judge(self._ask("stop"), self._silent)
            for watcher in self._watchers.values():
                watcher.end()
            self._watchers = {}
        return self.result

    def _close(self) -> None:
        for watcher in self._watchers.values():
            try:
                watcher.end()
            except (AttributeError, OSError, EOFError):
                watcher.close()
        self._watchers = {}

    def _ask(self, question: str) -> dict[str, dict[str, Any]]:
        # All are told before the first is heard, so that they stop at one time.
        for watcher in list(self._watchers.values()):
            self._try(watcher, lambda watcher: watcher.tell(question))
        answers = {}
        for name, watcher in list(self._watchers.items()):
            answer = self._try(watcher, _Watcher.hear)
            if answer is not None:
                answers[name] = answer
        return answers

    def _try(self, watcher: _Watcher, what: Callable[[_Watcher], Any]) -> Any:
        try:
            return what(watcher)
        except TrafficError:
            self._silent.append(watcher.host)
            del self._watchers[watcher.host]
            watcher.close()
            return None

    def _targets(self, name: str) -> dict[str, Any]:
        pings: list[list[Any]] = []
        streams: list[list[Any]] = []
        for other, watcher in self._watchers.items():
            if other == name:
                continue
            host = self._lab.hosts[other]
            ends = {label: pod["addresses"] for label, pod in watcher.facts["pods"].items()}
            if self._underlay:
                ends[UNDERLAY] = {"4": host.address, "6": host.address6}
            for label, addresses in ends.items():
                for family, address in addresses.items():
                    pings.append([label, f"{other}/{label}", address])
                    if label in (self._labels[0], UNDERLAY):
                        port = watcher.facts["ports"][f"{label} {family}"]
                        streams.append([label, f"{other}/{label}", address, port])
            if self._gateways:
                for gateway in watcher.facts["gateways"]:
                    pings.append([self._labels[0], f"{other}/bridge", gateway])
        return {"pings": pings, "streams": streams}

    def _warm_up(self) -> None:
        """Wait until everything works once: neighbours are known, addresses usable."""
        deadline = time.monotonic() + self._warm_up_time
        while True:
            time.sleep(0.5)
            idle = _idle(self._ask("report"))
            if self._silent:
                raise TrafficError(f"watchers ended at once: {', '.join(self._silent)}")
            if not idle:
                break
            if time.monotonic() > deadline:
                raise TrafficError(
                    f"{len(idle)} pairs do not work before the watch begins: {'; '.join(idle[:6])}"
                )
        self.forget()


def _idle(answers: dict[str, dict[str, Any]]) -> list[str]:
    """Return the pairs that carried nothing in the last moment."""
    idle = []
    carried = {
        (one["from"], one["to"], one["family"])
        for answer in answers.values()
        for one in answer["incoming"]
        if one["received"]
    }
    for answer in answers.values():
        for ping in answer["pings"]:
            if not ping["received"]:
                idle.append(f"ping {ping['from']} -> {ping['to']} IPv{ping['family']}")
        for stream in answer["outgoing"]:
            key = (stream["from"], stream["to"], stream["family"])
            if key not in carried:
                idle.append(f"stream {key[0]} -> {key[1]} IPv{key[2]}")
    return idle


@functools.cache
def code_archive() -> bytes:
    """Return a zip with podnet and what runs on hosts, for Python to import from."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for top, directory in (
            ("podnet", PROJECT / "module_utils" / "podnet"),
            ("onhost", Path(__file__).parent / "onhost"),
        ):
            for file in sorted(directory.rglob("*.py")):
                archive.write(file, f"{top}/{file.relative_to(directory)}")
    return data.getvalue()

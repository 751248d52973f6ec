"""A lab with podnet on it, as scenarios see it: playbooks run as a user runs them, hosts looked at
from outside.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab import Lab

PROJECT = Path(__file__).resolve().parents[2]
_SNAPSHOT = Path(__file__).with_name("snapshot.py").read_text()
_RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)")

#: Seconds a playbook may take on a busy machine whose hosts have emulated processors.
_TIMEOUT = 900

#: A host's name and the message of its task that failed, in Ansible's output.
_FATAL = re.compile(r'^fatal: (\[.*"msg": ".*)$', re.MULTILINE)

Snapshot = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A playbook that ended: its status, all it printed, and the recap's counts by host."""

    status: int
    output: str
    changed: Mapping[str, int]
    failed: Mapping[str, int]

    @property
    def changed_hosts(self) -> set[str]:
        """The hosts that report a change."""
        return {host for host, count in self.changed.items() if count}

    @property
    def message(self) -> str:
        """The output on one line, without the breaks and frames that Ansible puts into it."""
        return " ".join(self.output.replace("\\n", " ").split())

    @property
    def why(self) -> str:
        """What the tasks that failed said, one after the other."""
        return "; ".join(dict.fromkeys(_FATAL.findall(self.output)))


class Cluster:
    """The hosts of `lab` and their inventory."""

    def __init__(self, lab: Lab, inventory: Path | None = None) -> None:
        """Name an inventory other than the lab's own to see the same hosts in another network."""
        self.lab = lab
        self.inventory = inventory or lab.inventory_dir
        #: Where playbooks are run from.
        self.project = PROJECT

    @property
    def hosts(self) -> list[str]:
        """Names of the hosts, in order."""
        return list(self.lab.hosts)

    def play(
        self,
        playbook: str | Path,
        *arguments: str,
        ok: bool = True,
        directory: Path | None = None,
    ) -> Run:
        """Run a playbook of the project, or another file; with `ok`, it must succeed.

        `directory` is where it is run, with the ansible.cfg that Ansible takes there.
        """
        if isinstance(playbook, str):
            playbook = self.project / "playbooks" / playbook
        command = [str(Path(sys.executable).parent / "ansible-playbook")]
        command += ["-i", str(self.inventory), str(playbook), *arguments]
        environment = {key: val for key, val in os.environ.items() if key != "ANSIBLE_CONFIG"}
        done = subprocess.run(
            command,
            cwd=directory or self.project,
            env=environment | {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        changed, failed = {}, {}
        for line in done.stdout.splitlines():
            if found := _RECAP.match(line):
                changed[found[1]] = int(found[3])
                failed[found[1]] = int(found[4]) + int(found[5])
        run = Run(done.returncode, done.stdout, changed, failed)
        assert not ok or run.status == 0, f"{playbook} failed: {run.why}\n{run.output}"
        assert "Traceback" not in run.output, run.output
        return run

    def site(self, *arguments: str, ok: bool = True) -> Run:
        """Run site.yml."""
        return self.play("site.yml", *arguments, ok=ok)

    def check(self, *arguments: str) -> Run:
        """Run site.yml in check mode with a diff."""
        return self.play("site.yml", "--check", "--diff", *arguments)

    def demand_clean(self, *arguments: str) -> None:
        """Fail, showing the diff, unless a check run finds nothing to do on any host."""
        run = self.check(*arguments)
        assert run.changed_hosts == set(), run.output

    def verify(self, *arguments: str, ok: bool = True) -> Run:
        """Run verify.yml: the data path between all pairs."""
        return self.play("verify.yml", *arguments, ok=ok)

    def reset(self, *arguments: str) -> Run:
        """Run reset.yml."""
        return self.play("reset.yml", *arguments)

    # What the hosts have

    def on(self, host: str, *argv: str, stdin: str = "", ok: bool = True) -> str:
        """Return what a command on a host prints; with `ok`, it must succeed."""
        return self.lab.run(host, argv, stdin=stdin, check=ok).stdout

    def json_on(self, host: str, *argv: str) -> list[Any]:
        """Return what `ip -json` or `bridge -json` prints on a host."""
        return [one for one in json.loads(self.on(host, *argv) or "[]") if one]

    def link(self, host: str, device: str) -> dict[str, Any]:
        """Return a link with its details; the VXLAN's or bridge's attributes under "data"."""
        link: dict[str, Any] = self.json_on(host, "ip", "-d", "-json", "link", "show", device)[0]
        link["data"] = link.get("linkinfo", {}).get("info_data", {})
        return link

    def has_link(self, host: str, device: str) -> bool:
        """Whether a host has such a device."""
        return self.lab.run(host, ["ip", "link", "show", device], check=False).returncode == 0

    def routes(self, host: str, *family: str) -> dict[str, dict[str, Any]]:
        """Return podnet's routes to peers by destination; "-6" for those of IPv6."""
        shown = self.json_on(host, "ip", *family, "-d", "-json", "route", "show", "proto", "112")
        # Without a gateway are those that make an IPv6 gateway on-link.
        return {route["dst"]: route for route in shown if "gateway" in route}

    def snapshot(self, host: str) -> Snapshot:
        """Return all that is on a host; see snapshot.py."""
        return snapshot(self.lab, host)

    def snapshots(self) -> dict[str, Snapshot]:
        """Return snapshots of all hosts."""
        return take(self.lab)

    def demand_equal(self, before: Mapping[str, Snapshot], after: Mapping[str, Snapshot]) -> None:
        """Fail, telling the differences, unless hosts are in the state that they were in."""
        differences = {host: difference(before[host], after[host]) for host in before}
        lines = [f"{host}: {line}" for host, found in differences.items() for line in found]
        assert not lines, "\n".join(lines)

    def remember(self, host: str) -> None:
        """Record a new host's state: what reset must restore at the scenario's end."""
        file = record_file(self.lab)
        file.write_text(json.dumps(json.loads(file.read_text()) | {host: self.snapshot(host)}))

    def left_on(self, host: str) -> list[str]:
        """Return what a host differs in from the state before podnet came."""
        before = json.loads(record_file(self.lab).read_text())
        return difference(before[host], self.snapshot(host))

    # The inventory

    @contextlib.contextmanager
    def host_vars(self, host: str, **variables: Any) -> Iterator[None]:
        """Give a host variables of its own for a while, as a user would."""
        file = self.inventory / "host_vars" / f"{host}.yml"
        file.parent.mkdir(exist_ok=True)
        before = file.read_text() if file.exists() else None
        old = yaml.safe_load(before) if before else {}
        file.write_text(yaml.safe_dump(old | variables, explicit_start=True))
        try:
            yield
        finally:
            if before is None:
                file.unlink()
                with contextlib.suppress(OSError):
                    file.parent.rmdir()
            else:
                file.write_text(before)

    def allocations(self) -> dict[str, Any]:
        """Return the recorded allocations: node -> its subnets."""
        content = yaml.safe_load((self.inventory / "podnet_allocations.yml").read_text())
        nodes: dict[str, Any] = content["podnet_allocations"]["vars"]["nodes"]
        return nodes


def snapshot(lab: Lab, host: str) -> Snapshot:
    """Return all that is on a host."""
    shown = lab.run(host, ["python3", "-"], stdin=_SNAPSHOT)
    result: Snapshot = json.loads(shown.stdout)
    return result


def take(lab: Lab, hosts: Iterable[str] | None = None) -> dict[str, Snapshot]:
    """Return snapshots of hosts by name."""
    names = list(hosts if hosts is not None else lab.hosts)
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(names, pool.map(lambda name: snapshot(lab, name), names), strict=True))


def record_file(lab: Lab) -> Path:
    """Where furnish.py records the hosts' first state."""
    return lab.directory / "before.json"


def difference(before: Snapshot, after: Snapshot, path: Sequence[str] = ()) -> list[str]:
    """Return what two snapshots differ in, a line each."""
    lines: list[str] = []
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        where = " ".join([*path, key])
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            lines += difference(old, new, [*path, key])
        elif isinstance(old, list) and isinstance(new, list):
            lines += [f"- {where}: {one}" for one in old if one not in new]
            lines += [f"+ {where}: {one}" for one in new if one not in old]
            if sorted(old) == sorted(new):
                lines.append(f"~ {where}: another order")
        else:
            lines.append(f"~ {where}: {old!r} -> {new!r}")
    return lines

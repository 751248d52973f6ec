"""A lab: its namespace, its router, its hosts, its files; up, down and everything between."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import addresses, borrowed, box, image, inventory, machine
from .addresses import Host, Layout, Segment
from .box import Box
from .container import Container
from .errors import LabError
from .image import CONTAINER, DEFAULT_SUITE, QEMU, Image
from .vm import VirtualMachine

DEFAULT_NAME = "lab"
DEFAULT_MTU = 1500

_RUN = borrowed.RUN

#: Seconds that every further host adds to those that one may take to answer SSH.
_READY_EACH = 2.0

_BOXES: dict[str, type[Box]] = {CONTAINER: Container, QEMU: VirtualMachine}


class Lab:
    """The lab called `name`, whether it is up or not.

    All methods raise LabError for what a person can put right. `inventory_dir` matters to `up`
    only, which records it; by default it is inventory/<name> in the project.
    """

    def __init__(self, name: str = DEFAULT_NAME, inventory_dir: Path | None = None) -> None:
        """Name a lab; nothing happens to it yet."""
        self.name = addresses.check_lab_name(name)
        #: The network namespace that holds the router and both ends of all hosts' links.
        self.netns = f"podnet-lab-{name}"
        #: lab.json, SSH files, the hosts' consoles and disks.
        self.directory = _RUN / name
        self._inventory = inventory_dir or image.PROJECT / "inventory" / name
        self._lock = _RUN / f"{name}.lock"

    # What it is

    def is_up(self) -> bool:
        """Whether the lab was brought up and not taken down, interrupted or not."""
        return (self.directory / "lab.json").exists()

    @property
    def inventory_dir(self) -> Path:
        """The directory of the inventory that the lab wrote, or would write."""
        return Path(self._state()["inventory"]) if self.is_up() else self._inventory

    @property
    def hosts(self) -> dict[str, Host]:
        """The lab's hosts by name, in the order of their numbers, on or off."""
        state = self._state()
        layout = Layout(state["segments"], state["wide"])
        return {name: layout.host(name) for name in state["hosts"]}

    @property
    def segments(self) -> list[Segment]:
        """The lab's one or two layer-2 segments."""
        state = self._state()
        return Layout(state["segments"], state["wide"]).all_segments()

    def image(self, host: str) -> str:
        """Return what a host began as: suite and kind, as in `bookworm-container`."""
        return self._box(host).image

    def is_on(self, host: str) -> bool:
        """Whether a host is switched on."""
        return self._box(host).is_on()

    def leader(self, host: str) -> int:
        """Return the machine's process id of the host's init, 0 for a host that is off."""
        return self._box(host).leader()

    def console(self, host: str, lines: int = 1000) -> str:
        """Return the last lines that a host wrote to its console, over all its boots."""
        return self._box(host).console(lines)

    def processes(self) -> list[int]:
        """Return the ids of all processes of the lab's hosts."""
        return machine.processes(machine.cgroup(self.netns))

    # Up and down

    def up(
        self,
        hosts: int = 3,
        segments: int = 1,
        mtu: int = DEFAULT_MTU,
        *,
        node_ip6: bool = False,
        keep_bytecode: bool = False,
        kind: str = CONTAINER,
        suites: Sequence[str] = (DEFAULT_SUITE,),
    ) -> None:
        """Make the lab anew, with hosts n1 to n<hosts>; return when all of them answer SSH.

        A host is a container or a virtual machine (`kind`); it runs one of the `suites`, which
        hosts take in turn.

        Whatever a lab of this name was before is cleared first. If this fails or is interrupted,
        nothing is left. With `keep_bytecode` hosts compile what Ansible sends only once.
        """
        machine.require_root()
        layout = addresses.layout_for(hosts, segments)
        if not 1280 <= mtu <= 65535:
            raise LabError(f"mtu: {mtu}: between 1280 (the least that IPv6 allows) and 65535")
        if not suites:
            raise LabError("suites: name one at least")
        images = [Image(suite, kind) for suite in suites]
        for one in images:
            one.ensure()
        with self._locked():
            self._clear()
            chosen = {f"n{number + 1}": images[number % len(images)] for number in range(hosts)}
            state = {
                "inventory": str(self._inventory),
                "segments": segments,
                "wide": layout.wide,
                "mtu": mtu,
                "node_ip6": node_ip6,
                "keep_bytecode": keep_bytecode,
                "hosts": {name: asdict(one) for name, one in chosen.items()},
            }
            try:
                self.directory.mkdir(parents=True, mode=0o700)
                self._write_state(state)
                borrowed.borrow()
                self._make_ground()
                self._make_router(layout, mtu)
                self._start_new(list(chosen))
                self._write_files()
            except BaseException:
                self._clear()
                borrowed.give_back()
                raise

    def down(self) -> list[str]:
        """End and remove all there is of the lab; no lab is no error.

        Returns the names of files in the inventory directory that the lab did not write and so
        left there.
        """
        machine.require_root()
        with self._locked():
            left = self._clear()
        borrowed.give_back()
        return left

    def add(
        self, host: str | None = None, *, kind: str = CONTAINER, suite: str = DEFAULT_SUITE
    ) -> Host:
        """Add a host, by default the first number that is free; return it when it answers SSH."""
        chosen = Image(suite, kind)
        chosen.ensure()
        with self._locked():
            state = self._state()
            names = state["hosts"]
            host = host or next(n for n in map("n{}".format, range(1, 9999)) if n not in names)
            if host in names:
                raise LabError(f"lab {self.name} has a host {host} already")
            added = Layout(state["segments"], state["wide"]).host(host)
            names[host] = asdict(chosen)
            state["hosts"] = {one: names[one] for one in sorted(names, key=addresses.host_number)}
            self._write_state(state)
            borrowed.borrow()
            self._start_new([host])
            self._write_files()
        return added

    def remove(self, host: str) -> None:
        """End a host and remove it, its disk included."""
        with self._locked():
            self._box(host).destroy()
            state = self._state()
            del state["hosts"][host]
            self._write_state(state)
            self._write_files()

    # Power

    def start(self, host: str) -> None:
        """Switch a host on; return when it answers SSH. One that is on is left as it is."""
        with self._locked():
            this = self._box(host)
            if not this.is_on():
                this.start()
            box.wait_until_ready([this], this.patience)

    def reboot(self, host: str) -> None:
        """Reboot a host in order; return when it answers SSH again."""
        with self._locked():
            this = self._box(host)
            before = this.leader()
            self.run(host, ["systemctl", "reboot"], check=False)
            deadline = time.monotonic() + this.patience
            while this.leader() in (0, before):
                if time.monotonic() > deadline or not this.is_on():
                    raise LabError(f"{host} does not reboot; its console:\n{this.console()}")
                time.sleep(0.02)
            box.wait_until_ready([this], this.patience)

    def power_off(self, host: str) -> None:
        """Shut a host down in order; its disk stays."""
        with self._locked():
            this = self._box(host)
            if this.is_on():
                self.run(host, ["systemctl", "poweroff"], check=False)
                box.wait_until_off(this, this.patience)

    def power_cut(self, host: str) -> None:
        """End a host at once, without any shutdown; its disk stays as it was at that moment."""
        with self._locked():
            self._box(host).cut()

    # Commands

    def run(
        self,
        host: str,
        argv: Sequence[str],
        *,
        stdin: str = "",
        check: bool = True,
        timeout: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a host as root, straight in its namespaces: fast, without SSH.

        Raises LabError with what the command said when it fails and `check` is set;
        subprocess.TimeoutExpired after `timeout` seconds.
        """
        return self._command(
            self._box(host).inside(argv), f"{host}: `{' '.join(argv)}`", stdin, check, timeout
        )

    def run_outside(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        check: bool = True,
        timeout: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the lab's namespace, where the router and the outside address are."""
        self._state()
        command = machine.in_netns(self.netns, argv)
        return self._command(command, f"router: `{' '.join(argv)}`", stdin, check, timeout)

    def ssh_command(self, host: str, *options: str) -> list[str]:
        """Return the ssh command that reaches a host; append what shall run there."""
        self._box(host)
        return ["ssh", "-F", str(self.directory / "ssh_config"), *options, host]

    def _command(
        self, argv: Sequence[str], title: str, stdin: str, check: bool, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            env=box.environment(),
        )
        if check and done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise LabError(f"{title} ended with status {done.returncode}: {said}")
        return done

    # How it is made

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with machine.lock(self._lock):
                yield
        finally:
            # The lock's directory, if it was made for nothing else.
            with contextlib.suppress(OSError):
                _RUN.rmdir()

    def _state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads((self.directory / "lab.json").read_text())
        except (OSError, ValueError) as error:
            raise LabError(
                f"there is no lab named {self.name}; `python -m lab list` shows those there are, "
                f"`python -m lab up --name {self.name}` makes it"
            ) from error
        return state

    def _write_state(self, state: dict[str, Any]) -> None:
        inventory.replace(self.directory / "lab.json", json.dumps(state, indent=2) + "\n")

    def _box(self, host: str) -> Box:
        hosts = self.hosts
        if host not in hosts:
            raise LabError(f"lab {self.name} has no host {host!r}; it has {', '.join(hosts)}")
        state = self._state()
        chosen = Image(**state["hosts"][host])
        make = _BOXES[chosen.kind]
        return make(hosts[host], self.directory, self.netns, state["mtu"], chosen.name)

    def _make_ground(self) -> None:
        """Make the SSH key, the mounts that all hosts share, and the cgroup."""
        disk = self.directory / "disk"
        for directory in (disk, self.directory / "images", self.directory / "hosts"):
            directory.mkdir()
        (self.directory / "cp").mkdir(mode=0o700)
        machine.run(["mount", "-t", "tmpfs", "-o", "mode=0755", self.netns, str(disk)])
        key = str(self.directory / "id_ed25519")
        machine.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.netns, "-f", key])
        machine.make_cgroup(machine.cgroup(self.netns))

    def _make_router(self, layout: Layout, mtu: int) -> None:
        """Make the namespace: a bridge for each segment, the router's addresses, forwarding.

        Nothing leads from here to the machine's own network, so no packet can go astray.
        """
        machine.run(["ip", "netns", "add", self.netns])
        batch = [
            "link set lo up",
            f"address add {addresses.OUTSIDE}/32 dev lo",
            f"address add {addresses.OUTSIDE6}/128 dev lo",
        ]
        for number, segment in enumerate(layout.all_segments(), 1):
            name = segment.bridge
            batch += [
                # With a MAC of its own the bridge keeps it when hosts come and go.
                f"link add {name} address 02:00:00:00:00:0{number} type bridge mcast_snooping 0",
                f"link set {name} mtu {mtu} up",
                f"address add {segment.router}/{segment.network.prefixlen} dev {name}",
                f"address add {segment.router6}/{segment.network6.prefixlen} dev {name} nodad",
            ]
        machine.run(["ip", "-n", self.netns, "-batch", "-"], "\n".join(batch) + "\n")
        settings = [
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
            # Not whatever the machine's own namespace has: it would be inherited.
            "net.ipv4.conf.all.rp_filter=0",
            "net.ipv4.conf.default.rp_filter=0",
        ]
        machine.run(machine.in_netns(self.netns, ["sysctl", "-q", "-w", *settings]))

    def _mount_image(self, one: Image) -> None:
        """Mount an image where this lab's hosts find it, unless it is there.

        Mounted so that its path, whatever is in it, needs no quoting in options, and that it is
        seen to be in use.
        """
        place = self.directory / "images" / one.name
        if not place.is_dir():
            place.mkdir()
            machine.run(["mount", "--bind", "-o", "ro", str(one.path()), str(place)])

    def _start_new(self, names: Sequence[str]) -> None:
        boxes = [self._box(name) for name in names]
        keep_bytecode = self._state()["keep_bytecode"]
        for name in names:
            self._mount_image(Image(**self._state()["hosts"][name]))
        for new in boxes:
            new.create(keep_bytecode=keep_bytecode)
            new.start()
        patience = max(new.patience for new in boxes)
        box.wait_until_ready(boxes, patience + _READY_EACH * len(boxes))

    def _write_files(self) -> None:
        """Write SSH's files and the inventory for the hosts there are now."""
        hosts = list(self.hosts.values())
        keys = {host: self._box(host.name).public_key() for host in hosts}
        state = self._state()
        inventory.replace(self.directory / "known_hosts", inventory.known_hosts(keys))
        slow = [name for name, one in state["hosts"].items() if one["kind"] == QEMU]
        config = inventory.ssh_config(hosts, self.directory, self.netns, slow=slow)
        inventory.replace(self.directory / "ssh_config", config)
        text = inventory.hosts_file(hosts, self.directory, node_ip6=state["node_ip6"])
        inventory.write(Path(state["inventory"]), text)

    def _clear(self) -> list[str]:
        """Remove all there is of the lab, in whatever state it was left."""
        left: list[str] = []
        if self.directory.exists():
            self._close_ssh_masters()
        machine.end_cgroup(self.netns)
        for directory in sorted((self.directory / "hosts").glob("n*")):
            # Its name is all that matters here, not where it was; lab.json may be damaged.
            host = Layout(wide=True).host(directory.name)
            for make in _BOXES.values():
                make(host, self.directory, self.netns, DEFAULT_MTU, "").forget()
        if self.directory.exists():
            with contextlib.suppress(LabError):  # damaged or never written: the default then
                left = inventory.remove(Path(self._state()["inventory"]))
            machine.unmount_below(self.directory)
        machine.remove_netns(self.netns)
        machine.remove_tree(self.directory)
        return left

    def _close_ssh_masters(self) -> None:
        """End the SSH connections that Ansible keeps open in the background (ControlPersist).

        They sit in the machine's process list, not in the lab's cgroup, and would keep the
        namespace alive through their sockets.
        """
        for control in (self.directory / "cp").glob("*"):
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(
                    ["ssh", "-F", "none", "-o", f"ControlPath={control}", "-O", "exit", "lab"],
                    capture_output=True,
                    check=False,
                    timeout=5,
                )


def names() -> list[str]:
    """Return the names of the labs that are up on this machine."""
    return sorted(file.parent.name for file in _RUN.glob("*/lab.json"))

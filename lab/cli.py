"""The command line: `python -m lab COMMAND`."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from . import image, lab
from .errors import LabError
from .lab import Lab
from .sources import SUITES

_DESCRIPTION = """\
A lab of real hosts on this machine: each boots systemd, sshd and systemd-networkd, in a container
or a virtual machine; all live in one network namespace that no packet leaves. Needs root.
"""

_EPILOG = """\
examples:
  python -m lab up                          three hosts, n1 n2 n3, on one segment
  python -m lab up --hosts 4 --segments 2   n1 n3 on one segment, n2 n4 on the other
  ansible all -m ansible.builtin.ping       the inventory is inventory/lab
  python -m lab shell n1                    a root shell on a host
  python -m lab exec n1 -- ip route         one command on a host
  python -m lab power-cut n2; python -m lab start n2
  python -m lab up --suite bullseye,trixie  hosts of two releases in turn
  python -m lab up --kind qemu --hosts 2    virtual machines, each with its suite's kernel
  python -m lab down                        nothing is left

exit status: 0 done; 1 an error, told on stderr; `exec` and `shell` give the command's own.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    options = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = options.function
    # A polite end (a CI job that is cancelled) clears up as an interrupt does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return command(options)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m lab", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=raw
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str, function: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        sub.set_defaults(function=function)
        return sub

    def lab_command(
        name: str,
        function: Callable[[argparse.Namespace], int],
        text: str,
        host: str = "",
    ) -> argparse.ArgumentParser:
        sub = command(name, function, text)
        sub.add_argument(
            "--name", default=lab.DEFAULT_NAME, help="the lab's name (default: %(default)s)"
        )
        if host:
            sub.add_argument("host", nargs=None if host == "one" else "?", help="n1, n2, ...")
        return sub

    up = lab_command("up", _up, "make a lab, clearing first what there was of that name")
    up.add_argument("--hosts", type=int, default=3, help="how many (default: %(default)s)")
    up.add_argument(
        "--segments",
        type=int,
        default=1,
        help="1, or 2 joined by a router: odd hosts on one, even ones on the other (default: 1)",
    )
    up.add_argument(
        "--mtu", type=int, default=lab.DEFAULT_MTU, help="the underlay's (default: %(default)s)"
    )
    up.add_argument(
        "--node-ip6", action="store_true", help="put podnet_node_ip6 into the inventory, too"
    )
    up.add_argument(
        "--keep-bytecode",
        action="store_true",
        help="let hosts compile what Ansible sends only once (measure without it)",
    )
    _kind_options(up, "of all hosts")
    up.add_argument(
        "--inventory",
        type=Path,
        metavar="DIR",
        help="where to write the inventory (default: inventory/NAME in the project)",
    )
    lab_command("down", _down, "end a lab and remove all there is of it; no lab is no error")
    command("list", _list, "show all labs and their hosts")
    shell = lab_command("shell", _shell, "open a root shell on a host, over SSH", "one")
    shell.set_defaults(argv=[])
    execute = lab_command("exec", _shell, "run a command on a host, over SSH", "one")
    execute.add_argument("argv", nargs="+", metavar="CMD", help="after --, with its arguments")
    add = lab_command("add", _add, "add a host, by default the first free number", "optional")
    _kind_options(add, "of the host")
    lab_command("remove", _power(Lab.remove), "end a host and remove it", "one")
    lab_command("reboot", _power(Lab.reboot), "reboot a host, wait until it is back", "one")
    lab_command("start", _power(Lab.start), "switch a host on, wait until it is ready", "one")
    lab_command("power-off", _power(Lab.power_off), "shut a host down; its disk stays", "one")
    lab_command("power-cut", _power(Lab.power_cut), "end a host at once; its disk stays", "one")
    lab_command("console", _console, "print what a host wrote to its console", "one")
    lab_command("netns", _netns, "print the name of the lab's network namespace")
    made = command("image", _image, "make what hosts' disks begin as, if it is not there yet")
    _kind_options(made, "of hosts")
    return parser


def _kind_options(parser: argparse.ArgumentParser, whose: str) -> None:
    parser.add_argument(
        "--kind",
        choices=image.KINDS,
        default=image.CONTAINER,
        help=f"{whose}: a container on this machine's kernel, or a virtual machine on its suite's"
        " (default: %(default)s)",
    )
    parser.add_argument(
        "--suite",
        default=image.DEFAULT_SUITE,
        help=f"Debian's release {whose}: {', '.join(SUITES)}; several, separated by commas, are"
        " taken in turn (default: %(default)s)",
    )


def _suites(options: argparse.Namespace) -> list[str]:
    return [word for word in options.suite.split(",") if word]


def _up(options: argparse.Namespace) -> int:
    directory = options.inventory.resolve() if options.inventory else None
    this = Lab(options.name, directory)
    begin = time.monotonic()
    this.up(
        options.hosts,
        options.segments,
        options.mtu,
        node_ip6=options.node_ip6,
        keep_bytecode=options.keep_bytecode,
        kind=options.kind,
        suites=_suites(options),
    )
    shown = _relative(this.inventory_dir)
    name = "" if options.name == lab.DEFAULT_NAME else f" --name {options.name}"
    print(
        f"Lab {options.name}: {options.hosts} hosts answer, after {time.monotonic() - begin:.1f} s."
        f" Inventory: {shown}\n"
        f"  ansible -i {shown} all -m ansible.builtin.ping\n"
        f"  python -m lab shell{name} n1\n"
        f"  python -m lab down{name}"
    )
    return 0


def _down(options: argparse.Namespace) -> int:
    this = Lab(options.name)
    directory = _relative(this.inventory_dir) if this.is_up() else ""
    was_up = this.is_up()
    left = this.down()
    print(f"Lab {options.name}: {'removed' if was_up else 'there was none; nothing is left'}.")
    if left:
        print(f"  {directory} stays: it holds files of yours: {', '.join(left)}")
    return 0


def _list(_options: argparse.Namespace) -> int:
    names = lab.names()
    if not names:
        print("no lab is up")
    for name in names:
        this = Lab(name)
        print(f"{name}: namespace {this.netns}, inventory {_relative(this.inventory_dir)}")
        for host in this.hosts.values():
            power = "on" if this.is_on(host.name) else "off"
            where = f"{host.segment.bridge}  {host.interface:<18} {host.interface6}"
            print(f"  {host.name:<6} {power:<4} {this.image(host.name):<19} {where}")
    return 0


def _shell(options: argparse.Namespace) -> int:
    flags = ["-t"] if not options.argv or sys.stdin.isatty() else []
    # One argument for the remote shell, quoted as the words it was.
    remote = [shlex.join(options.argv)] if options.argv else []
    this = Lab(options.name)
    if not this.is_on(options.host):
        raise LabError(f"{options.host} is off; `python -m lab start {options.host}`")
    command = [*this.ssh_command(options.host, "-o", "LogLevel=ERROR", *flags), *remote]
    return subprocess.run(command, check=False).returncode


def _add(options: argparse.Namespace) -> int:
    added = Lab(options.name).add(options.host, kind=options.kind, suite=options.suite)
    print(f"{added.name}: {added.interface}, on {added.segment.bridge}")
    return 0


def _power(method: Callable[[Lab, str], None]) -> Callable[[argparse.Namespace], int]:
    def function(options: argparse.Namespace) -> int:
        method(Lab(options.name), options.host)
        return 0

    return function


def _console(options: argparse.Namespace) -> int:
    print(Lab(options.name).console(options.host))
    return 0


def _netns(options: argparse.Namespace) -> int:
    print(Lab(options.name).netns)
    return 0


def _image(options: argparse.Namespace) -> int:
    for suite in _suites(options):
        print(_relative(image.Image(suite, options.kind).ensure()))
    return 0


def _relative(directory: Path) -> str:
    here = Path.cwd()
    return os.path.relpath(directory) if directory.is_relative_to(here) else str(directory)

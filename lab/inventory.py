"""What the lab leaves for Ansible and SSH: an ordinary inventory, an ssh_config, known hosts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from .addresses import Host
from .errors import LabError
from .machine import netns_path

_HEADER = "# Written by the lab; `python -m lab down` removes it. Your own settings go beside it,\n"
_HEADER += "# into group_vars/ and host_vars/: those stay.\n"

#: What playbooks write into a lab's inventory: of no use without the lab's hosts.
_GENERATED = "*podnet_allocations.yml*"


def hosts_file(hosts: Sequence[Host], directory: Path, *, node_ip6: bool) -> str:
    """Return hosts.yml: group podnet_nodes, each host's addresses, how to connect.

    `directory` is the lab's state directory; `node_ip6` adds podnet_node_ip6, which changes what
    podnet does, so only who asks for it gets it.
    """

    def variables(host: Host) -> dict[str, str]:
        result = {"ansible_host": host.address, "podnet_node_ip": host.interface}
        if node_ip6:
            result["podnet_node_ip6"] = host.interface6
        return result

    content: dict[str, Any] = {
        "all": {
            "vars": {
                "ansible_user": "root",
                "ansible_ssh_common_args": f"-F {directory / 'ssh_config'}",
                # Labs have the same addresses, and Ansible names a control socket by address.
                "ansible_control_path_dir": str(directory / "cp"),
                "ansible_python_interpreter": "/usr/bin/python3",
            }
        },
        "podnet_nodes": {"hosts": {host.name: variables(host) for host in hosts}},
    }
    return _HEADER + yaml.safe_dump(content, sort_keys=False, explicit_start=True)


def ssh_config(
    hosts: Sequence[Host], directory: Path, netns: str, *, slow: Collection[str] = ()
) -> str:
    """Return an ssh_config(5) that reaches the hosts by name or address, with host keys checked.

    Those in `slow` may take longer to answer.

    The way into the lab's network namespace is a proxy command that connects there, hands the
    connected socket to ssh (ProxyUseFdpass) and ends: 2 ms a connection, and no process in the
    path. The same in Python, which would save the small package netcat-openbsd, took 18 ms.
    """
    lines = []
    for host in hosts:
        lines.append(f"Host {host.name}\n  HostName {host.address}")
        if host.name in slow:
            # The first value counts (ssh_config(5)). Ansible names a host by its address.
            names = f"{host.name} {host.address} {host.address6}"
            lines.append(f"Host {names}\n  ConnectTimeout 60\n  ServerAliveInterval 20")
    lines.append(
        "Host *\n"
        "  User root\n"
        f"  IdentityFile {directory / 'id_ed25519'}\n"
        "  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {directory / 'known_hosts'}\n"
        "  GlobalKnownHostsFile /dev/null\n"
        "  StrictHostKeyChecking yes\n"
        f"  ProxyCommand nsenter --net={netns_path(netns)} -- nc -F -w 10 %h %p\n"
        "  ProxyUseFdpass yes\n"
        # A host that was cut off must not hold a test for the kernel's two minutes.
        "  ConnectTimeout 10\n"
        "  ServerAliveInterval 3"
    )
    return "\n".join(lines) + "\n"


def known_hosts(keys: Mapping[Host, str]) -> str:
    """Return a known_hosts file: each host's public key, under its name and its addresses."""
    return "".join(
        f"{host.name},{host.address},{host.address6} {key}\n" for host, key in keys.items()
    )


def network_file(host: Host, mtu: int) -> str:
    """Return the systemd.network(5) file of a host's interface on the underlay."""
    return (
        "[Match]\nName=host0\n"
        f"[Link]\nMTUBytes={mtu}\n"
        "[Network]\n"
        "LinkLocalAddressing=ipv6\nIPv6AcceptRA=no\n"
        f"Gateway={host.segment.router}\nGateway={host.segment.router6}\n"
        f"[Address]\nAddress={host.interface}\n"
        # Nobody else has it, and a second in which it cannot be used would be one a test waits.
        f"[Address]\nAddress={host.interface6}\nDuplicateAddressDetection=none\n"
    )


def write(directory: Path, text: str) -> None:
    """Write hosts.yml into an inventory directory; refuse to replace one that is not the lab's."""
    file = directory / "hosts.yml"
    if file.exists() and not _is_ours(file):
        raise LabError(
            f"{file} was not written by the lab; move it away or give another --inventory"
        )
    directory.mkdir(parents=True, exist_ok=True)
    replace(file, text)


def remove(directory: Path) -> list[str]:
    """Remove what the lab and its playbooks wrote there; return the names of what stays."""
    if not directory.is_dir():
        return []
    if (directory / "hosts.yml").exists() and _is_ours(directory / "hosts.yml"):
        (directory / "hosts.yml").unlink()
    for file in directory.glob(_GENERATED):
        file.unlink()
    with contextlib.suppress(OSError):
        directory.rmdir()
    return sorted(file.name for file in directory.iterdir()) if directory.is_dir() else []


def _is_ours(file: Path) -> bool:
    return file.read_text().startswith(_HEADER)


def replace(file: Path, text: str, mode: int = 0o644) -> None:
    """Write a file in one step: a reader sees the old text or the new, never half of it."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.chmod(mode)
    temporary.rename(file)

"""What makes a host differ from its image: its name, its identity, its keys and its address."""

from __future__ import annotations

import uuid
from pathlib import Path

from . import bytecode, inventory, machine
from .addresses import Host

#: Where the host's public key lies below a seed.
PUBLIC_KEY = "etc/ssh/ssh_host_ed25519_key.pub"


def seed(root: Path, host: Host, mtu: int, authorized: str, *, keep_bytecode: bool) -> None:
    """Write a host's own files below `root`; `authorized` is the public key of who may log in.

    `keep_bytecode`: its Python keeps what it compiles; see bytecode.py.
    """
    key = root / PUBLIC_KEY.removesuffix(".pub")
    ssh = root / "root/.ssh"
    network = root / "etc/systemd/network"
    for directory in (key.parent, ssh, network):
        directory.mkdir(parents=True, exist_ok=True)
    (root / "root").chmod(0o700)
    ssh.chmod(0o700)
    machine.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host.name, "-f", str(key)])
    (ssh / "authorized_keys").write_text(authorized)
    (network / "10-host0.network").write_text(inventory.network_file(host, mtu))
    (root / "etc/hostname").write_text(f"{host.name}\n")
    # Without it sudo and others would ask a DNS server that is not there for the own name.
    names = f"127.0.0.1 localhost\n127.0.1.1 {host.name}\n::1 localhost\n"
    (root / "etc/hosts").write_text(names)
    (root / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
    if keep_bytecode:
        _keep_bytecode(root)


def _keep_bytecode(root: Path) -> None:
    module, pth = root / bytecode.MODULE, root / bytecode.PTH
    module.parent.mkdir(parents=True)
    module.write_text(Path(bytecode.__file__).read_text())
    pth.write_text(bytecode.PTH_TEXT)
    (root / bytecode.DIRECTORY.lstrip("/")).mkdir(parents=True)

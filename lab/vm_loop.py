"""Keeps a virtual machine on: runs qemu, and runs it again when the host asked for a reboot.

    python vm_loop.py DEVICE BRIDGE MTU QEMU...

Runs in the lab's network namespace. DEVICE, the host's end on BRIDGE, is made anew for each boot.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys


def main(argv: list[str]) -> int:
    """Run the machine until it is switched off."""
    device, bridge, mtu, *qemu = argv
    while True:
        subprocess.run(["ip", "link", "delete", device], stderr=subprocess.DEVNULL, check=False)
        subprocess.run(["ip", "tuntap", "add", "dev", device, "mode", "tap"], check=True)
        to_bridge = ["ip", "link", "set", device, "master", bridge, "mtu", mtu, "up"]
        subprocess.run(to_bridge, check=True)
        ours, theirs = socket.socketpair()
        monitor = ["-chardev", f"socket,id=qmp,fd={theirs.fileno()}"]
        monitor += ["-mon", "chardev=qmp,mode=control"]
        with ours:
            process = subprocess.Popen([*qemu, *monitor], pass_fds=[theirs.fileno()])
            theirs.close()
            reboots = _asks_for_reboot(ours)
        process.wait()
        if not reboots:
            return process.returncode


def _asks_for_reboot(monitor: socket.socket) -> bool:
    """Follow qemu's events (QMP) until it ends; return whether the host asked for a reboot."""
    monitor.sendall(b'{"execute": "qmp_capabilities"}\n')
    reboots = False
    with monitor.makefile("rb") as lines:
        for line in lines:
            event = json.loads(line)
            if event.get("event") == "SHUTDOWN":
                reboots = event["data"]["reason"] == "guest-reset"
    return reboots


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

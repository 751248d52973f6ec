"""The demo: a pod network on a lab that is up, and a look at what it made.

    python tools/demo.py [LAB]

Runs the playbooks as a user runs them, over SSH, and prints every command before its output.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from lab import Lab  # noqa: E402

#: What `ip -d link` says beyond these is the kernel's default.
_DEVICE = re.compile(
    r"flannel\.1|\bmtu \d+|link/ether \S+|vxlan id \d+|local \S+|dstport \d+|nolearning"
)


def main() -> int:
    """Build the network, show it, prove it; return the exit status."""
    name = sys.argv[1] if len(sys.argv) > 1 else "lab"
    lab = Lab(name)
    begin = time.monotonic()
    inventory = os.path.relpath(lab.inventory_dir, PROJECT)

    title("1. The plan: every host gets a share of 10.244.0.0/16")
    print(*messages(playbook(inventory, "plan.yml")), sep="\n")

    title("2. The network: over SSH, on all hosts at once")
    print(recap(playbook(inventory, "site.yml")))

    title("3. What a host has now: its VXLAN device, and a route to each peer")
    for host in lab.hosts:
        command(host, "ip -d link show flannel.1")
        words = _DEVICE.findall(lab.run(host, ["ip", "-d", "link", "show", "flannel.1"]).stdout)
        print("  " + "  ".join(words))
    for host in lab.hosts:
        command(host, "ip route show proto 112")
        routes = lab.run(host, ["ip", "route", "show", "proto", "112"]).stdout
        print("".join(f"  {line}\n" for line in routes.splitlines()), end="")

    title("4. The proof: a pod on every host reaches every other, at full size")
    print(*messages(playbook(inventory, "verify.yml")), sep="\n")

    title("5. One packet's way, hop by hop, from what every kernel on it answers")
    first, second = list(lab.hosts)[:2]
    ends = ["-e", f"podnet_from={first}", "-e", f"podnet_to={second}"]
    print(*messages(playbook(inventory, "trace.yml", *ends)), sep="\n")

    option = "" if name == "lab" else f" LAB={name}"
    print(
        f"\nDone in {time.monotonic() - begin:.0f} s. The lab is up; look around, switch, end it:\n"
        f"  make lab-shell HOST=n1{option}\n"
        f"  . .venv/bin/activate\n"
        f"  ansible-playbook -i {inventory} playbooks/site.yml -e podnet_backend=host-gw\n"
        f"  make lab-down{option}"
    )
    return 0


def playbook(inventory: str, name: str, *options: str) -> str:
    """Run a playbook; return what it printed. One that fails is shown whole and ends the demo."""
    argv = ["ansible-playbook", "-i", inventory, f"playbooks/{name}", *options]
    print(f"$ {' '.join(argv)}", flush=True)
    done = subprocess.run(
        [str(Path(sys.executable).with_name(argv[0])), *argv[1:]],
        cwd=PROJECT,
        # One line each, without the quotes and commas of JSON.
        env={**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml", "ANSIBLE_NOCOLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stdout)
        raise SystemExit(f"demo: playbooks/{name} failed, see above")
    return done.stdout


def messages(output: str) -> Sequence[str]:
    """Return the lines that a playbook's `debug` task printed."""
    block = re.search(r"^    msg:\n((?:    .*\n)+)", output, re.MULTILINE)
    return [f"  {line}" for line in yaml.safe_load(block[1])] if block else [output]


def recap(output: str) -> str:
    """Return a playbook's last lines: what was done on each host."""
    lines = output.partition("PLAY RECAP")[2].splitlines()[1:]
    return "\n".join(f"  {line.partition('unreachable')[0].rstrip()}" for line in lines if line)


def command(host: str, text: str) -> None:
    """Print a command that is about to run on a host."""
    print(f"{host}$ {text}")


def title(text: str) -> None:
    """Print what comes next."""
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())

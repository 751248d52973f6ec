"""Record what this tree writes on hosts: python -m tests.upgrade.record LAB [CASE...].

The lab has two hosts and no podnet. For each case of CASES it runs site.yml, writes all files that
came with it and the allocations file to recorded/VERSION/CASE.json, and runs reset.yml. Do this once
for each version that is released, before its tag is set; files of earlier versions stay as they are.
`unversioned` is what was written before hosts knew of versions.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import yaml
from podnet.core.version import VERSION

from lab import Lab
from tests.scenario.cluster import Cluster

from . import RECORDED

#: Case -> the inventory's variables. What is not the backend's makes podnet write more files.
CASES: dict[str, dict[str, Any]] = {
    "vxlan": {
        "podnet_backend": "vxlan",
        "podnet_cluster_cidr6": "fd00:10:244::/48",
        "podnet_repair_interval": "10min",
        "podnet_endpoints": [{"name": "web"}],
    },
    "host-gw": {"podnet_backend": "host-gw"},
    "wireguard": {"podnet_backend": "wireguard", "podnet_wireguard_userspace": True},
}

#: Prints files of a host, given as a JSON list of paths, as `Recorded.hosts` has them.
_READ = r"""
import json, os, sys
found = {}
for path in json.load(sys.stdin):
    if os.path.islink(path):
        found[path] = {"link": os.readlink(path)}
    elif os.path.isfile(path):
        mode = "%04o" % (os.lstat(path).st_mode & 0o7777)
        found[path] = {"mode": mode, "lines": open(path).read().split("\n")}
print(json.dumps(found))
"""


def files_since(cluster: Cluster, host: str, before: dict[str, str]) -> dict[str, Any]:
    """Return the files that are new on a host, or others than `before` (a snapshot's "files").

    Without those in /run, which do not outlive a reboot.
    """
    now = cluster.snapshot(host)["files"]
    paths = [
        path
        for path, said in sorted(now.items())
        if before.get(path) != said and not path.startswith("/run/")
    ]
    found: dict[str, Any] = json.loads(
        cluster.on(host, "python3", "-c", _READ, stdin=json.dumps(paths))
    )
    return found


def record(cluster: Cluster, variables: dict[str, Any]) -> dict[str, Any]:
    """Build a network, return what was written, and take the network away."""
    settings = cluster.inventory / "group_vars" / "podnet_nodes.yml"
    settings.parent.mkdir(exist_ok=True)
    settings.write_text(yaml.safe_dump(variables, explicit_start=True))
    allocations = cluster.inventory / "podnet_allocations.yml"
    allocations.unlink(missing_ok=True)
    before = {host: taken["files"] for host, taken in cluster.snapshots().items()}
    cluster.site()
    written = {host: files_since(cluster, host, before[host]) for host in cluster.hosts}
    text = allocations.read_text()
    cluster.reset()
    settings.unlink()
    allocations.unlink()
    return {
        "variables": variables,
        "allocations": text.split("\n"),
        "hosts": apart(written),
    }


def apart(written: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return host -> its own files, and under "all" those that are the same on all hosts."""
    first, *others = written.values()
    same = {path for path, one in first.items() if all(it.get(path) == one for it in others)}
    return {
        "all": {path: one for path, one in first.items() if path in same},
        **{
            host: {path: one for path, one in files.items() if path not in same}
            for host, files in written.items()
        },
    }


def main() -> int:
    """Record the cases that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.upgrade.record", description=__doc__)
    parser.add_argument("lab")
    parser.add_argument("case", nargs="*", help=f"of {', '.join(CASES)} (default: all)")
    parser.add_argument("--version", default=VERSION, help="default: this tree's, %(default)s")
    options = parser.parse_args()
    cluster = Cluster(Lab(options.lab))
    directory = RECORDED / options.version
    directory.mkdir(parents=True, exist_ok=True)
    for case in options.case or CASES:
        file = directory / f"{case}.json"
        file.write_text(json.dumps(record(cluster, CASES[case]), indent=1) + "\n")
        print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())

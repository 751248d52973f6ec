"""Everything on a host that a network tool could leave behind, as canonical JSON.

Runs on the host (`python3 - < snapshot.py`); two snapshots of one state are equal. What changes
by itself is left out: counters, lifetimes, learnt neighbours, indexes, logs, caches, and what the
kernel adds to each link when it has carrier: IPv6 link-local addresses, multicast.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

#: Where a tool like podnet, CNI, systemd or a container runtime writes.
TREES = ("/etc", "/opt", "/usr/local", "/usr/lib/systemd", "/usr/lib/cni", "/var/lib", "/run")

#: What the system itself writes all the time.
VOLATILE = re.compile(
    r"/run/(log|systemd/(?!system/)|udev|user|utmp|sshd|dbus|lock|credentials|host|blkid|mount"
    r"|containerd|initctl|motd)"
    r"|/var/lib/(systemd|apt|dpkg|dbus|containerd|private|logrotate|urandom|NetworkManager)"
    r"|/etc/(\.updated|mtab|ld\.so\.cache|resolv\.conf|\.pwd\.lock)"
    r"|/run/[^/]+\.(pid|sock|lock)"
    # Where host-local goes on: a counter.
    r"|/var/lib/cni/networks/[^/]+/last_reserved_ip"
    # Empty after the last namespace: `ip netns` mounts it once and for all. A lock that nobody
    # holds cannot be removed safely, and says nothing.
    r"|/run/netns\Z|/run/podnet\Z"
)

_LINK_KEYS = ("ifname", "mtu", "operstate", "link_type", "address", "master", "linkinfo", "flags")

# Timers that count down and a hash seed: the kernel's, not a setting.
_LINKINFO_VOLATILE = re.compile(r"(.*_timer|bridge_id|root_id|designated_|.*seed.*)\Z")

# A counter, tables that shrink and grow, values that nobody may read; and what the CNI plugin
# `bridge` sets with the first pod of a bridge.
_SYSCTL_VOLATILE = re.compile(
    r"(nf_conntrack_count|stable_secret|/flush|route/gc_|.*_count|ipv6/conf/cni\d/accept_ra)\Z"
)


def run(*argv: str) -> str:
    """Return what a command prints; a tool that is not there has nothing to say."""
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    except OSError:
        return ""
    return done.stdout.decode(errors="replace")


def listed(*argv: str) -> list[dict[str, Any]]:
    """Return the objects that `ip -json` or `bridge -json` prints."""
    return [one for one in json.loads(run(*argv) or "[]") if one]


def links() -> dict[str, Any]:
    """Return links by name."""
    result = {}
    for link in listed("ip", "-d", "-json", "link", "show"):
        kept = {key: link[key] for key in _LINK_KEYS if key in link}
        kept["flags"] = sorted(kept.get("flags", []))
        info = kept.get("linkinfo", {})
        if info.get("info_kind") == "bridge":
            # Whether somebody is attached just now; the kernel tells it up to a second late.
            kept["flags"] = [one for one in kept["flags"] if one not in ("NO-CARRIER", "LOWER_UP")]
            kept.pop("operstate", None)
        for part in ("info_data", "info_slave_data"):
            data = info.get(part, {})
            info[part] = {k: v for k, v in data.items() if not _LINKINFO_VOLATILE.match(k)}
        result[link["ifname"]] = kept
    return result


def addresses() -> list[str]:
    """Return addresses with their device and scope."""
    return sorted(
        f"{link['ifname']} {one['local']}/{one['prefixlen']} {one['scope']}"
        for link in listed("ip", "-json", "address", "show")
        for one in link.get("addr_info", [])
        if one["scope"] != "link" or one["family"] == "inet"
    )


def routes(family: str) -> list[str]:
    """Return routes of all tables."""
    lines = run("ip", "-d", family, "route", "show", "table", "all").splitlines()
    # Of no state: a lifetime, whether somebody is attached to a bridge just now.
    lines = [re.sub(r" (expires|error) \S+| linkdown", "", line).strip() for line in lines]
    kernels = ("fe80::", "ff00::/8", "multicast ", "anycast ")
    return sorted(line for line in lines if not any(word in line for word in kernels))


def neighbours() -> list[str]:
    """Return neighbours that somebody set; learnt ones come and go."""
    return sorted(
        f"{one['dev']} {one['dst']} {one.get('lladdr', '')}"
        for family in ("-4", "-6")
        for one in listed("ip", family, "-json", "neighbour", "show", "nud", "permanent")
    )


def fdb() -> list[str]:
    """Return FDB entries that somebody set, not the kernel's own for multicast."""
    return sorted(
        f"{one.get('ifname')} {one['mac']} {one.get('dst', '')} {one.get('master', '')} "
        f"{one.get('state', '')}"
        for one in listed("bridge", "-json", "fdb", "show")
        if one.get("state") in ("permanent", "static")
        and not one["mac"].startswith(("33:33:", "01:00:5e:"))
    )


def _sorted(found: re.Match[str]) -> str:
    return "\n".join(f"element {one}" for one in sorted(re.split(r"[,\s]+", found[1].strip())))


def rulesets() -> dict[str, Any]:
    """Return nft's tables, iptables-nft's among them, without counters, and routing rules."""
    nft = re.sub(r"counter packets \d+ bytes \d+", "counter", run("nft", "list", "ruleset"))
    # A set has no order, either: an element a line.
    nft = re.sub(r"elements = \{([^}]*)\}", _sorted, nft)
    # In no order: tables are independent, and listed as they were made.
    tables = re.split(r"^(table .*) \{$", nft, flags=re.MULTILINE)[1:]
    return {
        "nft": {
            # Hosts have Python 3.8 and later.
            name: text.splitlines()
            for name, text in zip(tables[::2], tables[1::2])  # noqa: B905
        },
        "rules": run("ip", "rule").splitlines() + run("ip", "-6", "rule").splitlines(),
    }


def sysctls() -> dict[str, str]:
    """Return all settings of the network."""
    result = {}
    for file in sorted(Path("/proc/sys/net").rglob("*")):
        if file.is_file() and not _SYSCTL_VOLATILE.search(str(file)):
            try:
                result[str(file)[len("/proc/sys/") :]] = file.read_text().strip()
            except OSError:
                continue
    return result


def files() -> dict[str, str]:
    """Return files, links and directories under TREES: type, mode, owner, and a hash."""
    result = {}
    for tree in TREES:
        for directory, names, plain in os.walk(tree):
            names[:] = [n for n in names if not VOLATILE.match(f"{directory}/{n}")]
            for name in [*names, *plain]:
                path = Path(directory, name)
                if not VOLATILE.match(str(path)):
                    result[str(path)] = _described(path)
    return result


def _described(path: Path) -> str:
    try:
        status = path.lstat()
        text = f"{status.st_mode:o} {status.st_uid}:{status.st_gid}"
        if path.is_symlink():
            return f"{text} -> {os.readlink(path)}"  # noqa: PTH115 - Path.readlink is of 3.9
        if path.is_file():
            return f"{text} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    except OSError as error:
        return type(error).__name__
    return text


def units() -> list[str]:
    """Return the unit files that have podnet in their name, and units that failed."""
    shown = run("systemctl", "list-unit-files", "--plain", "--no-legend", "podnet*")
    failed = run("systemctl", "list-units", "--failed", "--plain", "--no-legend")
    return sorted(" ".join(line.split()[:4]) for line in (shown + failed).splitlines())


def snapshot() -> dict[str, Any]:
    """Return the whole."""
    return {
        "links": links(),
        "addresses": addresses(),
        "routes": routes("-4"),
        "routes6": routes("-6"),
        "neighbours": neighbours(),
        "fdb": fdb(),
        "rulesets": rulesets(),
        "sysctls": sysctls(),
        "files": files(),
        "units": units(),
        "namespaces": sorted(line.split()[0] for line in run("ip", "netns").splitlines() if line),
    }


if __name__ == "__main__":
    print(json.dumps(snapshot(), sort_keys=True))

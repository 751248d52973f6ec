"""What doctor.yml asks of one host: what a run would change, and what will not last as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..cni import addresses
from ..core.errors import PodnetError
from ..core.model import Plan
from ..firewall import policy
from ..keep import files
from ..kernel import observe as eyes
from ..kernel import policy as rules
from ..kernel import services
from ..state import knowledge, sysctl_files
from ..state.desire import own_node
from ..state.phases import ALL
from . import attachments, rollback, target
from .look import Look, look


def health(plan: Plan, name: str, cni_install: str, cni_archive_dir: str = "") -> dict[str, Any]:
    """Return what is to be known of host `name` of the plan; nothing is changed.

    What prevents a run is not raised, but told as `refused`: then what comes of looking is missing.
    """
    node = own_node(plan, name)
    found: dict[str, Any] = {
        "refused": "",
        "armed": rollback.is_armed(plan.name),
        "unit": services.state(f"podnet@{plan.name}.service"),
        "addresses": [
            {"family": one.family, "size": one.size, "used": one.used, "percent": one.percent}
            for one in addresses.usage(plan.name)
            if addresses.crowded(name, [one])
        ],
        "machine_id": (files.read_text("/etc/machine-id") or "").strip(),
        "nics": _nics({node.ip, node.ip6} - {""}),
        "led_away": policy.tell(rules.read(plan, node))[0],
    }
    try:
        seen = look(plan, name)
        found.update(_looked(seen, cni_install, cni_archive_dir))
    except PodnetError as error:
        found["refused"] = str(error)
    return found


def _looked(seen: Look, cni_install: str, cni_archive_dir: str) -> dict[str, Any]:
    result = target.outcome(seen, ALL)
    mtu = seen.final.links[seen.plan.bridge].mtu
    attached = attachments.inspect(seen.plan, seen.node.name, mtu, cni_install, cni_archive_dir)
    sysctls = {key: val for key, val in seen.final.sysctls.items() if key not in seen.restored}
    return {
        "built": seen.record is not None,
        "drift": [
            {"tool": one.tool, "before": _short(one.before), "after": _short(one.after)}
            for one in result.changes
        ],
        "files": target.changed_files(result.changes),
        "attached": attached.commands[:_MOST],
        "warnings": [*result.warnings, *attached.warnings],
        "sysctls": [one._asdict() for one in sysctl_files.undoing(_sysctl_files(), sysctls)],
        "knowledge": knowledge.testify(seen.plan, seen.record),
    }


#: Changes of endpoints and CNI that are told; what they are is the same for all.
_MOST = 20


def _short(text: str) -> str:
    """Return the first line of an object's text: a file's has all of its content."""
    return text.split("\n", 1)[0]


def _nics(own: set[str]) -> list[dict[str, Any]]:
    """Return the devices that hold the node's addresses."""
    return [
        {
            "device": str(link["ifname"]),
            "mac": str(link.get("address", "")),
            "mtu": int(link["mtu"]),
            "address": f"{one['local']}/{one['prefixlen']}",
        }
        for link in eyes.read_links()
        for one in link.get("addr_info", ())
        if one.get("local") in own
    ]


def _sysctl_files() -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for directory in sysctl_files.DIRECTORIES:
        for one in Path(directory).glob("*.conf"):
            found.setdefault(one.name, str(one))
    texts = []
    for path in [*found.values(), sysctl_files.LAST]:
        try:
            texts.append((path, Path(path).read_text(errors="replace")))
        except OSError:
            continue
    return texts

"""The causes that hosts tell by themselves, and those that show when hosts are compared. Pure."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Callable, Iterable, Iterator, Mapping

from ..core.text import listed
from .doctor_cause import BROKEN, DEGRADED, Cause

#: First word of an object's text (state/diff.py) -> its sort, and what people call many of them.
SORTS = {
    "link": "device",
    "addr": "address",
    "neigh": "neighbour",
    "fdb": "entry",
    "peer": "entry",
    "route": "route",
    "sysctl": "sysctl",
    "table": "table",
}
_NAMES = {
    "device": "devices are",
    "address": "addresses are",
    "neighbour": "neighbours are",
    "entry": "entries for peers are",
    "route": "routes are",
    "sysctl": "sysctls are",
    "table": "podnet's nft table is",
    "accept": "rules that let pods' packets through others' chains are",
    "mtu": "MTUs are",
    "enabling": "units that rebuild the network at boot are",
    "files": "files that rebuild the network at boot are",
    "attached": "CNI configuration or endpoints are",
}
#: Kinds of causes that the check run finds.
DRIFT = tuple(_NAMES)

#: Kinds of causes, in the order in which they are told where nothing else says which is worse.
ORDER = (
    *("unreachable", "refused", "new", "not probed", "trace", "between", "allocations", *DRIFT),
    *("rules", "armed", "nic mtu", "same mac", "same machine-id", "unit", "sysctl file"),
    *("leases", "slow"),
)
_LASTING = ("file", "boot", "secret", "module")
_ENABLES = ".target.wants/podnet"
_MTU = re.compile(r"\bmtu \d+")


def causes(seen: Mapping[str, Any]) -> list[Cause]:
    """Return the causes; `seen` maps hosts to what podnet_info returned with their health."""
    found: list[Cause] = []
    health: dict[str, Mapping[str, Any]] = {}
    for host, result in seen.items():
        if isinstance(result, Mapping) and isinstance(result.get("health"), Mapping):
            health[host] = result["health"]
        else:
            found.append(_silent(host, result))
    found += _refused(health)
    mtus = _odd_mtus(health)
    new = [host for host, one in health.items() if one.get("built") is False]
    found += _new(new)
    found += _drift({host: one for host, one in health.items() if host not in new}, mtus)
    found += mtus
    found += _twins(health, "mac", _macs)
    found += _twins(health, "machine-id", lambda one: filter(None, [str(one["machine_id"])]))
    for host, one in health.items():
        found += _lasting(host, one)
    return found


def notes(seen: Mapping[str, Any]) -> list[str]:
    """Return hosts' warnings that are no cause, each once with the hosts that have it."""
    by_note: dict[str, list[str]] = {}
    for host, result in seen.items():
        health = (result or {}).get("health") or {}
        for note in health.get("warnings", ()):
            if note not in health["led_away"] and not _is_about_leases(note, health):
                by_note.setdefault(str(note), []).append(host)
    return [f"{note} [{listed(hosts)}]" for note, hosts in by_note.items()]


def _is_about_leases(note: str, health: Mapping[str, Any]) -> bool:
    return any(f"pods use {one['used']} of {one['size']} " in note for one in health["addresses"])


def _silent(host: str, result: Any) -> Cause:
    said = " ".join(str((result or {}).get("msg", "")).split())
    if isinstance(result, Mapping) and result.get("failed") and not result.get("unreachable"):
        return Cause("refused", BROKEN, [host], f"{host}: {said}", [], f"mend what {host} says")
    return Cause(
        "unreachable",
        BROKEN,
        [host],
        f"{host} does not answer Ansible",
        [said] if said else [],
        f"bring {host} back, or its way to the controller; if it is gone for good, "
        f"playbooks/remove_node.yml -e podnet_node={host}",
    )


def _refused(health: Mapping[str, Mapping[str, Any]]) -> list[Cause]:
    return [
        Cause(
            "refused",
            DEGRADED,
            [host],
            f"{host}: a run would be refused: {_one_line(str(one['refused']))}",
            [],
            "as it says",
            {"refused"},
        )
        for host, one in health.items()
        if one["refused"]
    ]


def _new(hosts: list[str]) -> list[Cause]:
    """Return the cause for hosts that lack all, and so differ in everything."""
    if not hosts:
        return []
    cure = "ansible-playbook playbooks/site.yml"
    told = f"podnet has built nothing on {listed(hosts)} yet"
    return [Cause("new", BROKEN, hosts, told, [], cure, {*SORTS.values(), "accept", "pod", "mtu"})]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _drift(health: Mapping[str, Mapping[str, Any]], odd: list[Cause]) -> list[Cause]:
    """Return a cause for each sort of objects that differ; with another MTU of a NIC, that one.

    A device that is missing or down takes what is on it along.
    """
    lines: dict[str, dict[str, list[str]]] = {}
    also: dict[str, set[str]] = {}
    for host, one in health.items():
        by_nic = next((it for it in odd if host in it.hosts), None)
        for sort, line, along in _sorted(one):
            if by_nic and sort in ("mtu", "files", "attached"):
                by_nic.evidence.append(f"{host}: {line}")
                continue
            lines.setdefault(sort, {}).setdefault(host, []).append(line)
            also.setdefault(sort, {sort}).add(along)
    found = []
    for sort, by_host in lines.items():
        told = [f"{host}: {line}" for host, those in by_host.items() for line in those]
        hosts = list(by_host)
        last = ": a reboot or a reload brings something else" if sort == "files" else ""
        found.append(
            Cause(
                sort,
                DEGRADED,
                hosts,
                f"{listed(hosts)}: {_NAMES[sort]} not as the plan wants them{last} ({told[0]})",
                told,
                f"ansible-playbook playbooks/site.yml --limit {','.join(hosts)}",
                also[sort],
            )
        )
    return found


def _sorted(one: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield (sort of the cause, line, sort of the object) for all that a run would change."""
    drift = one.get("drift", ())
    devices = {
        text.split()[1]
        for it in drift
        for text in [it["before"] or it["after"]]
        if text.startswith("link ") and " type " in text and _is_lost(it)
    }
    readdressed = {
        words[3]
        for it in drift
        for words in [(it["before"] or it["after"]).split()]
        if words[0] == "addr" and len(words) > 3
    }
    accepts = any(
        it["tool"] in ("nft", "iptables") and not text.startswith("table ")
        for it in drift
        for text in [it["before"] or it["after"]]
    )
    for it in drift:
        before, after = str(it["before"]), str(it["after"])
        text = after or before
        line = (
            f"-{before} +{after}" if before and after else f"-{before}" if before else f"+{after}"
        )
        sort = SORTS.get(text.partition(" ")[0], "accept")
        if it["tool"] == "boot" and text.startswith("file accepts ") and accepts:
            # It lists the rules that are to be added to others' chains.
            yield "accept", line, "accept"
        elif it["tool"] == "file" and _ENABLES in text:
            yield "enabling", line, "enabling"
        elif it["tool"] in _LASTING:
            yield "files", line, "files"
        elif sort == "device" and _is_other_mtu(before, after):
            yield "mtu", line, "mtu"
        elif sort != "device" and any(_is_on(text, device) for device in devices):
            yield "device", line, sort
        elif (
            sort == "route"
            and " proto kernel " in f"{text} "
            and any(_is_on(text, device) for device in readdressed)
        ):
            # The kernel makes it of the address.
            yield "address", line, sort
        else:
            yield sort, line, sort
    for command in one.get("attached", ()):
        yield "attached", str(command), "pod"


def _is_lost(change: Mapping[str, Any]) -> bool:
    before, after = str(change["before"]), str(change["after"])
    return not before or not after or (before.endswith(" down") and after.endswith(" up"))


def _is_other_mtu(before: str, after: str) -> bool:
    return before != after and bool(before) and _MTU.sub("", before) == _MTU.sub("", after)


def _is_on(text: str, device: str) -> bool:
    return f" dev {device} " in f"{text} " or f".{device.replace('.', '/')}." in text


def _odd_mtus(health: Mapping[str, Mapping[str, Any]]) -> list[Cause]:
    """Return a cause for each segment whose hosts' NICs have several MTUs."""
    segments: dict[str, dict[str, tuple[str, int]]] = {}
    for host, one in health.items():
        for nic in one["nics"]:
            segment = str(ipaddress.ip_interface(nic["address"]).network)
            segments.setdefault(segment, {})[host] = str(nic["device"]), int(nic["mtu"])
    found: dict[tuple[str, ...], Cause] = {}
    for segment, by_host in segments.items():
        sizes = [mtu for _device, mtu in by_host.values()]
        usual = max(sizes, key=lambda size: (sizes.count(size), size))
        odd = {host: it for host, it in by_host.items() if it[1] != usual}
        if not odd or tuple(odd) in found:
            continue
        each = [f"{device} of {host} has MTU {mtu}" for host, (device, mtu) in odd.items()]
        found[tuple(odd)] = Cause(
            "nic mtu",
            DEGRADED,
            list(odd),
            f"{', '.join(each)}, and other hosts of {segment} have {usual}",
            [],
            "; ".join(
                f"on {host}: ip link set {device} mtu {usual}, and where its network is configured"
                for host, (device, _mtu) in odd.items()
            ),
            {"mtu"},
        )
    return list(found.values())


def _macs(one: Mapping[str, Any]) -> Iterable[str]:
    return dict.fromkeys(str(nic["mac"]) for nic in one["nics"] if nic["mac"])


_TWINS = {
    "mac": (
        "switches and neighbours send packets for one to the other",
        "give one of them another MAC; clones of a virtual machine need their own",
    ),
    "machine-id": (
        "DHCP servers may give both one address, and systemd derives the same MACs for both",
        "on all but one: rm /etc/machine-id; systemd-machine-id-setup; reboot",
    ),
}


def _twins(
    health: Mapping[str, Mapping[str, Any]],
    what: str,
    values: Callable[[Mapping[str, Any]], Iterable[str]],
) -> list[Cause]:
    owners: dict[str, list[str]] = {}
    for host, one in health.items():
        for value in values(one):
            owners.setdefault(value, []).append(host)
    means, cure = _TWINS[what]
    return [
        Cause(
            f"same {what}",
            DEGRADED,
            hosts,
            f"{listed(hosts)} have one {what}, {value}: {means}",
            [],
            cure,
        )
        for value, hosts in owners.items()
        if len(hosts) > 1
    ]


def _lasting(host: str, one: Mapping[str, Any]) -> Iterator[Cause]:
    """Yield what works on a host now and will not last."""
    for text in one["led_away"]:
        what, _said, cure = str(text).partition(" The rule is not podnet's: ")
        yield Cause(
            "rules", DEGRADED, [host], f"{host}: {what}", [], f"on {host}: {cure}", {"rules"}
        )
    if one["armed"]:
        yield Cause(
            "armed",
            DEGRADED,
            [host],
            f"{host}: a change waits to be confirmed, and is undone by the host if nobody does",
            [],
            "wait for the run that made it to end, then run playbooks/site.yml",
        )
    unit = one["unit"]
    if unit["load"] == "masked" or unit["active"] == "failed":
        is_masked = unit["load"] == "masked"
        yield Cause(
            "unit",
            DEGRADED,
            [host],
            f"{host}: the unit that rebuilds the network at boot "
            + ("is masked" if is_masked else "has failed"),
            [],
            f"on {host}: systemctl unmask podnet@NAME"
            if is_masked
            else f"on {host}: journalctl -u 'podnet@*' says why; then systemctl restart it",
        )
    undone: dict[str, list[str]] = {}
    for it in one.get("sysctls", ()):
        undone.setdefault(str(it["file"]), []).append(
            f"{it['key']} = {it['value']} (needed: {it['wanted']})"
        )
    for file, keys in undone.items():
        yield Cause(
            "sysctl file",
            DEGRADED,
            [host],
            f"{host}: {file} sets {', '.join(keys)}: sysctl --system would break the network",
            [],
            f"on {host}: take that out of {file}",
        )
    for it in one["addresses"]:
        yield Cause(
            "leases",
            DEGRADED,
            [host],
            f"{host}: pods use {it['used']} of {it['size']} IPv{it['family']} addresses "
            f"({it['percent']} %); when none is free, no pod starts there",
            [],
            "free addresses of pods that are gone, or give the node a larger subnet: "
            "docs/addresses.md",
        )

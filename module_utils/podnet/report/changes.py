"""What changed between two reports, in sentences."""

from __future__ import annotations

from typing import Any, Iterator, Mapping

#: What of a host is compared, and what a sentence calls it.
_OF_HOST = {
    "ip": "address",
    "ip6": "IPv6 address",
    "subnet": "subnet",
    "subnet6": "IPv6 subnet",
    "segment": "segment",
    "mtu": "MTU of pods",
    "podnet": "podnet that changed it last",
    "state": "state",
}

#: What only the host itself can tell: it is not known of one that is silent.
_TOLD = ("mtu", "podnet")


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return ``{time, lines}``: when the last report was made, and what is different now.

    Returns None where `before` is no report of this network that this version can read.
    """
    same = all(before.get(key) == now[key] for key in ("schema", "kind", "network"))
    if not same:
        return None
    try:
        return {"time": int(before["time"]), "lines": list(_lines(before, now))}
    except (KeyError, TypeError, AttributeError, ValueError):
        # The file lies where people can edit it: a damaged one is not compared.
        return None


def _lines(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key, value in now["facts"].items():
        old = before["facts"].get(key, "")
        # Their numbers of hosts and states have lines of their own.
        if old != value:
            yield f"{key}: {old or 'not given'} -> {value or 'not given'}"
    then = {one["name"]: one for one in before["hosts"]}
    there = {one["name"]: one for one in now["hosts"]}
    for name, host in there.items():
        if name not in then:
            yield f"{name}: new host, {host['subnet'] or host['subnet6']}"
            continue
        for key, what in _OF_HOST.items():
            old, value = then[name][key], host[key]
            if key in _TOLD and not (old and value):
                continue
            if old != value and "left out" not in (old, value):
                yield f"{name}: {what}: {old or 'none'} -> {value or 'none'}"
    for name in then:
        if name not in there:
            yield f"{name}: not in the network any more"
    yield from _of_pairs(before["pairs"], now["pairs"], there)


def _of_pairs(
    before: Mapping[str, Any] | None, now: Mapping[str, Any] | None, there: Mapping[str, Any]
) -> Iterator[str]:
    if not before or not now:
        return
    old, new = (
        {(one["from"], one["to"]): one["word"] for one in pairs["failures"]}
        for pairs in (before, now)
    )
    for way, word in new.items():
        if way not in old:
            yield f"{way[0]} -> {way[1]}: fails now ({word})"
    silent = set(now["not_probed"])
    for (source, node), word in old.items():
        # What was not asked again is not mended.
        known = source in there and not silent & {source, node}
        peers = now["peers"]
        was_asked = not peers or node in peers.get(source, ()) or node not in there
        if (source, node) not in new and known and was_asked:
            yield f"{source} -> {node}: works again (was {word})"

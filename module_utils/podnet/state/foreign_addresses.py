"""Addresses on podnet's devices that are not podnet's."""

from __future__ import annotations

from typing import Any, Collection, Iterable, Mapping, Sequence

from ..core.model import is_inside


def addresses(
    links: Iterable[Mapping[str, Any]], ours: Collection[str], cidrs: Sequence[str]
) -> list[str]:
    """Return a warning, in a list, if devices `ours` have addresses that lie in none of `cidrs`.

    `links` are as `ip -j addr` prints them. Link-local addresses are the kernel's and do not count.
    """
    found = []
    for link in links:
        for one in link.get("addr_info", ()) if link.get("ifname") in ours else ():
            local = str(one.get("local", ""))
            single = f"{local}/{128 if ':' in local else 32}"
            if not local or local.startswith("fe80:"):
                continue
            if not any(is_inside(single, cidr) for cidr in cidrs):
                found.append(f"{local}/{one.get('prefixlen')} on {link['ifname']}")
    if not found:
        return []
    return [
        f"addresses that are not podnet's on its devices: {', '.join(found[:5])}. They stay, and "
        "pods' packets may leave with them; remove them if nothing needs them (ip addr del)"
    ]

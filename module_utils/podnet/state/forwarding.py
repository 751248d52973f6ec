"""Which devices forward: for IPv4 the kernel has a setting for each device.

An IPv4 packet is forwarded if the device that it comes in by forwards (IN_DEV_FORWARD in
ip_route_input_slow, net/ipv4/route.c), whatever ip_forward says. A change of ip_forward sets every
device and `default`, which later devices take (inet_forward_change, net/ipv4/devinet.c); after
that each may differ. For IPv6, net.ipv6.conf.all.forwarding alone decides (ip6_forward).
"""

from __future__ import annotations

from typing import Collection, Iterable, Mapping

IP_FORWARD = "net.ipv4.ip_forward"

_HEAD, _TAIL = "net.ipv4.conf.", ".forwarding"

#: Before a device's name, in the sysctls of its neighbours.
NEIGH_HEADS = ("net.ipv4.neigh.", "net.ipv6.neigh.")


def key(device: str) -> str:
    """Return a device's sysctl; "/" stands for "." in its name, as sysctl.d(5) has it."""
    return f"{_HEAD}{device.replace('.', '/')}{_TAIL}"


#: The sysctl whose value a new device takes.
DEFAULT = key("default")


def device(sysctl: str) -> str:
    """Return the device that `sysctl` is about, "" where it is not about a device's forwarding."""
    if not (sysctl.startswith(_HEAD) and sysctl.endswith(_TAIL)):
        return ""
    return sysctl[len(_HEAD) : -len(_TAIL)].replace("/", ".")


def owner(sysctl: str) -> str:
    """Return the device that a sysctl belongs to, "" for none; it exists with the device."""
    for head in (_HEAD, *NEIGH_HEADS):
        if sysctl.startswith(head):
            return sysctl[len(head) :].rpartition(".")[0].replace("/", ".")
    return ""


def wanted(devices: Iterable[str]) -> dict[str, str]:
    """Return sysctl -> "1" for `devices`, by which pods' packets come in."""
    return {key(one): "1" for one in sorted(set(devices) - {"", "lo"})}


def renamed(sysctls: Mapping[str, str], moves: Mapping[str, str]) -> dict[str, str]:
    """Return `sysctls` after devices are renamed by `moves`; a device keeps its setting."""
    return {
        key(moves[device(one)]) if device(one) in moves else one: value
        for one, value in sysctls.items()
    }


def of_itself(
    before: Mapping[str, str], after: Mapping[str, str], made: Collection[str]
) -> dict[str, str]:
    """Return the sysctls `before` as the kernel itself changes them on the way to `after`.

    A change of ip_forward sets all devices and the default, which devices that are `made` take.
    """
    have = dict(before)
    want = after.get(IP_FORWARD, have.get(IP_FORWARD))
    if want is not None and want != have.get(IP_FORWARD):
        have.update((one, want) for one in before if device(one))
        have[DEFAULT] = want
    first = have.get(DEFAULT, want)
    for one in made:
        have.pop(key(one), None)
        if first is not None:
            have[key(one)] = first
    return have


def lasting_originals(sysctls: Mapping[str, str], ours: Collection[str]) -> dict[str, str]:
    """Return the `sysctls` whose old value must be put back some day: not those of our devices."""
    return {one: value for one, value in sysctls.items() if owner(one) not in ours}


def ordered(sysctls: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return `sysctls` as they must be written: ip_forward, which sets every device, goes first."""
    return sorted(sysctls.items(), key=lambda item: (item[0] != IP_FORWARD, item[0]))

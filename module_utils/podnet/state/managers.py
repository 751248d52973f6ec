"""Drop-ins that keep other tools of a host from undoing what podnet made.

Each is a file of our own in the tool's drop-in directory, and is removed with the network. For
networkd it is written where that runs. For NetworkManager and firewalld it is written where they
are installed, because they may be started later and would then manage our devices.
"""

from __future__ import annotations

from typing import Collection, Iterable, Mapping

NETWORKD, NETWORK_MANAGER, FIREWALLD = "systemd-networkd", "NetworkManager", "firewalld"

#: Tool -> a path that exists on hosts that need its drop-in.
SIGNS = {
    NETWORKD: "/run/systemd/netif/state",
    NETWORK_MANAGER: "/etc/NetworkManager/conf.d",
    FIREWALLD: "/etc/firewalld/policies",
}

#: Global, so one for all networks of a host (networkd.conf(5)). Without it networkd removes routes
#: that it did not make whenever it configures a link.
NETWORKD_CONF = "/etc/systemd/networkd.conf.d/60-podnet.conf"

_NETWORKD_CONF = """\
# Made by podnet; podnet_manage_networkd: false removes it. Read when systemd-networkd starts.
[Network]
ManageForeignRoutes=no
ManageForeignRoutingPolicyRules=no
"""


def _network(name: str) -> str:
    # The first file that matches wins (systemd.network(5)); it must come before a catch-all.
    return f"/etc/systemd/network/05-podnet-{name}.network"


def _network_manager(name: str) -> str:
    return f"/etc/NetworkManager/conf.d/60-podnet-{name}.conf"


def _firewalld(name: str) -> str:
    # The name of a policy has 18 characters at most.
    return f"/etc/firewalld/policies/pn-{name}.xml"


def _sysctl(name: str) -> str:
    return f"/etc/sysctl.d/95-podnet-{name}.conf"


def _modules(name: str) -> str:
    return f"/etc/modules-load.d/podnet-{name}.conf"


def paths(name: str) -> list[str]:
    """Return every path that `drop_ins` may have."""
    return [
        NETWORKD_CONF,
        _network(name),
        _network_manager(name),
        _firewalld(name),
        _sysctl(name),
        _modules(name),
    ]


#: The host's ends of pods' and endpoints' veth pairs. NetworkManager leaves any veth alone by a
#: rule of udev (85-nm-unmanaged.rules); where udev does not run it would ask for an address by DHCP
#: on each new one, and take it off the bridge.
_ENDS = ("veth*", "ep-*")


def drop_ins(
    name: str,
    devices: Iterable[str],
    tools: Collection[str],
    sysctls: Mapping[str, str],
    cidrs: Iterable[str] = (),
    *,
    modules: Iterable[str] = (),
) -> dict[str, str]:
    """Return path -> content. `tools` are those of SIGNS that the host has.

    `devices` are those of network `name`, `cidrs` the ranges of its pods. `sysctls` are those that
    it always needs: `sysctl --system`, which installers like to call, reads all files anew and
    would turn forwarding off where another file says so. `modules` are the kernel's that it needs:
    they are loaded before sysctls are set (systemd-sysctl.service(8)).
    """
    result = {}
    listed = sorted(devices)
    if NETWORKD in tools:
        result[NETWORKD_CONF] = _NETWORKD_CONF
        result[_network(name)] = (
            f"# Made by podnet: the devices of pod network {name} are not systemd-networkd's.\n"
            f"[Match]\nName={' '.join(listed)}\n\n[Link]\nUnmanaged=yes\n"
        )
    if NETWORK_MANAGER in tools:
        names = ";".join(f"interface-name:{device}" for device in (*listed, *_ENDS))
        result[_network_manager(name)] = (
            f"# Made by podnet: the devices of pod network {name} are not NetworkManager's.\n"
            f"[keyfile]\nunmanaged-devices+=;{names}\n"
        )
    if FIREWALLD in tools:
        result[_firewalld(name)] = _policy(name, cidrs)
    if sysctls:
        lines = "".join(f"{key} = {value}\n" for key, value in sorted(sysctls.items()))
        result[_sysctl(name)] = f"# Made by podnet for pod network {name}.\n{lines}"
    if modules:
        lines = "".join(f"{one}\n" for one in sorted(modules))
        result[_modules(name)] = f"# Made by podnet for pod network {name}.\n{lines}"
    return result


def _policy(name: str, cidrs: Iterable[str]) -> str:
    """Return a firewalld.policy(5) that accepts pods' forwarded packets whatever the zones do."""
    rules = "".join(
        f'  <rule family="ipv{6 if ":" in cidr else 4}"><{end} address="{cidr}"/><accept/></rule>\n'
        for cidr in cidrs
        for end in ("source", "destination")
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        f"<!-- Made by podnet for pod network {name}. -->\n"
        '<policy target="CONTINUE">\n'
        '  <ingress-zone name="ANY"/>\n  <egress-zone name="ANY"/>\n'
        f"{rules}</policy>\n"
    )

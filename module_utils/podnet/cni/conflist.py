"""The CNI network configuration list of a node: pure, from the plan to the file's text.

CNI spec 1.0.0, section 1 (format); the options are those of containernetworking/plugins' `bridge`
and `host-local`. The plugins attach pods by themselves: that takes no daemon of podnet's, and no
file in /run, which a reboot would remove.
"""

from __future__ import annotations

import json
from typing import Any, Iterable, Mapping, Sequence

from ..core.errors import PodnetError
from ..core.model import Node, Plan, is_file_name, offset, split_cidr
from ..core.ranges import free

#: Spec versions that podnet can write, best first. 1.1.0 is left out on purpose: plugins that
#: speak it speak 1.0.0, too, it adds nothing that is needed here, and a runtime (containerd 1.x)
#: that does not know it refuses the file.
VERSIONS = ("1.0.0", "0.4.0", "0.3.1", "0.3.0")

#: Plugin -> the capabilities (values that it gets from the runtime) without which it is useless.
_CAPABILITIES = {"portmap": {"portMappings": True}, "bandwidth": {"bandwidth": True}}


def conflist(plan: Plan, node: Node, mtu: int, reserved: Iterable[str], cni_version: str) -> str:
    """Return the text of `node`'s conflist.

    `mtu` (bytes) is given to pods and their veth pairs. `reserved` are addresses, of any family,
    that host-local must not hand out, besides those that the plan reserves or declares for
    endpoints. Raises PodnetError when no address is left or an extra plugin is no plugin.
    """
    taken = {address for address in (*reserved, *node.reserved) if address}
    for endpoint in node.endpoints:
        taken.update(one for one in (endpoint.address, endpoint.address6) if one)
    sets: list[list[dict[str, str]]] = []
    for subnet in (node.subnet, node.subnet6):
        if not subnet:
            continue
        ranges = free_ranges(subnet, taken)
        if not ranges:
            raise PodnetError(
                f"{node.name}: no address of {subnet} is left for pods: the gateway, static "
                "endpoints and podnet_reserved hold them all; give the node a larger subnet, fewer "
                "endpoints, or reserve less"
            )
        gateway = offset(split_cidr(subnet)[0], 1)
        sets.append(
            [
                {"subnet": subnet, "rangeStart": first, "rangeEnd": last, "gateway": gateway}
                for first, last in ranges
            ]
        )
    if not sets:
        raise PodnetError(f"{node.name}: has no subnet in the plan; make it with podnet_plan")
    bridge: dict[str, Any] = {
        "type": "bridge",
        "bridge": plan.bridge,
        "mtu": mtu,
        "isGateway": True,
        # This gives pods their default route in each family. With a default route in host-local's
        # section as well, the plugin would fail with "file exists", so there is none.
        "isDefaultGateway": True,
        # podnet's own nft table masquerades: the plugin's rules would also catch pod to pod
        # across nodes.
        "ipMasq": False,
        # Lets a pod reach itself through a Service's address.
        "hairpinMode": True,
        # The bridge and its address are podnet_network's; a pod's start must never change them.
        "forceAddress": False,
        "ipam": {"type": "host-local", "ranges": sets},
    }
    plugins = [bridge, *extra_plugins(plan.cni.extra_plugins)]
    document = {"cniVersion": cni_version, "name": plan.name, "plugins": plugins}
    return json.dumps(document, indent=2) + "\n"


def extra_plugins(extras: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the chained plugins' configurations; a bare name gets its usual capabilities.

    Raises PodnetError for an entry that is neither a plugin's name nor a mapping with a ``type``.
    """
    plugins: list[dict[str, Any]] = []
    for extra in extras:
        if isinstance(extra, str):
            plugin: dict[str, Any] = {"type": extra}
            if extra in _CAPABILITIES:
                plugin["capabilities"] = dict(_CAPABILITIES[extra])
        elif isinstance(extra, Mapping):
            plugin = dict(extra)
        else:
            plugin = {}
        if not is_file_name(plugin.get("type")):
            raise PodnetError(
                f"podnet_cni_extra_plugins: {extra!r} is no plugin; give its name ('portmap') or "
                "its configuration with a 'type'"
            )
        plugins.append(plugin)
    return plugins


def plugin_types(plan: Plan) -> list[str]:
    """Return the names of the programs that the conflist needs, in the order of the chain."""
    extras = [str(plugin["type"]) for plugin in extra_plugins(plan.cni.extra_plugins)]
    return list(dict.fromkeys(["bridge", "host-local", *extras]))


def free_ranges(subnet: str, reserved: Iterable[str]) -> list[tuple[str, str]]:
    """Return the parts of `subnet` that host-local may hand out, as (first, last) addresses.

    That is all of it that `ranges.usable` has, but `reserved` (addresses and ranges; what lies
    outside of `subnet` is ignored). Raises ValueError for a `subnet` or a range that is not
    canonical.
    """
    return [one.ends() for one in free(subnet, reserved)]


def best_version(answers: Mapping[str, Sequence[str]]) -> str:
    """Return the newest spec version that all plugins and podnet speak.

    `answers` is plugin -> its versions. Raises PodnetError naming what each speaks if there is
    none.
    """
    for version in VERSIONS:
        if all(version in versions for versions in answers.values()):
            return version
    said = "; ".join(f"{path}: {', '.join(known)}" for path, known in sorted(answers.items()))
    raise PodnetError(
        f"CNI: the plugins share no spec version with podnet ({', '.join(VERSIONS)}): {said}; "
        "install plugins that belong together"
    )

"""Prove that a switch works: over the new routes before pods' packets use them, and again after.

At the end of `prepare` each host makes a probe pod (`probe.probe_pod`). Its packets alone take the
routes that the switch will install, from a table of their own (`kernel.source_route`). At the
beginning of `shift` every host probes the pods of all others over these routes; without an answer
the host stops before its own routes move. Otherwise they move, the table is removed, and the same
is probed once more. `commit` removes the pod.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Mapping, Sequence

from ..backends.base import peers
from ..core.errors import PodnetError, message
from ..core.model import Plan, is_inside
from ..core.state import State
from ..core.text import listed
from ..keep import leases
from ..keep.lock import DIRECTORY
from .look import Look

#: The fields of its pod (`probe_pod.Pod`) that a host returns, so that others can probe it.
TOLD = ("address", "address6", "mtu", "udp", "tcp")


def begin(seen: Look, after: State) -> dict[str, Any]:
    """Make this host's probe pod and its routes; return what others need in order to probe it.

    `after` is the state that `prepare` ended in. If there is no pod, the result is ``{"why":
    REASON}``; for a network of one host, which has nothing to prove, it is {}.
    """
    others = peers(seen.plan, seen.node)
    if not others:
        return {}
    # Imported here, because a host loads all imports in every call, and most need none of this.
    from ..kernel import source_route
    from ..probe import probe_pod

    families = [6 if ":" in one else 4 for one in (seen.node.subnet, seen.node.subnet6) if one]
    subnets = {one for peer in others for one in (peer.subnet, peer.subnet6) if one}
    # For IPv6, peers' VTEP addresses (the first of their subnets) have routes of their own.
    firsts = {f"{one.partition('/')[0]}/128" for one in subnets if ":" in one}
    wanted = subnets | firsts
    routes = {where: body for where, body in seen.final.routes.items() if where in wanted}
    try:
        table = source_route.free_table(families)
        text = _configuration(seen, after.links[seen.plan.bridge].mtu)
        made = probe_pod.missing_directory(seen.plan.name)
        pod = probe_pod.make(seen.plan, seen.node.name, text, table=table, made=made)
        source_route.add(table, [one for one in (pod.address, pod.address6) if one], routes)
    except PodnetError as error:
        end(seen.plan.name)
        return {"why": message(error)}
    except BaseException:
        end(seen.plan.name)
        raise
    return {key: getattr(pod, key) for key in TOLD}


def end(name: str) -> list[str]:
    """Remove the pod, its responder, rule and routes, even if a killed run made them.

    Returns warnings.
    """
    # A reboot takes the record in /run, and leaves the pod's leases.
    if not Path(DIRECTORY, name, "probe.json").exists() and not leases.of_probes(name):
        return []
    from ..probe import probe_pod

    return probe_pod.remove(name)


def _configuration(seen: Look, mtu: int) -> str:
    """Return the text of the node's CNI configuration, with `mtu` (bytes) instead of its own.

    Raises PodnetError if the configuration on the host is damaged.
    """
    from ..cni import configuration
    from ..keep import files

    path = f"{seen.plan.cni.conf_dir}/{seen.plan.cni.conf_name}"
    text = files.read_text(path)
    if text is None:
        # No configuration yet. If flannel is being adopted, pods hold leases of its network.
        held = [
            address
            for name in _lease_networks(leases.DIRECTORY)
            for address in leases.addresses(name)
        ]
        text = configuration.inspect(
            seen.plan, seen.node.name, mtu, reserved=_own(seen, held)
        ).content
    try:
        document = json.loads(text)
        for plugin in document["plugins"]:
            if plugin["type"] == "bridge":
                plugin["mtu"] = mtu
    except (ValueError, KeyError, TypeError) as error:
        raise PodnetError(f"{path}: not a CNI configuration list ({error})") from error
    return json.dumps(document)


def _lease_networks(top: str) -> list[str]:
    try:
        return sorted(one.name for one in Path(top).iterdir() if one.is_dir())
    except OSError:
        return []


def _own(seen: Look, addresses: Sequence[str]) -> list[str]:
    """Return those of `addresses` that lie in this node's subnets."""
    subnets = [one for one in (seen.node.subnet, seen.node.subnet6) if one]
    return [
        one
        for one in addresses
        if any(is_inside(f"{one}/{128 if ':' in one else 32}", subnet) for subnet in subnets)
    ]


class Proof:
    """Probes of the peers' pods, from this host's pod, in `shift`.

    `targets` is node -> what `begin` returned there. With `forced`, a pair of hosts that is not
    proven before the routes move is only a warning; pairs that are must still work afterwards.
    """

    def __init__(self, seen: Look, targets: Mapping[str, Any], forced: bool) -> None:
        """Take what `begin` returned on this host and on the peers; nothing is probed yet."""
        self.plan: Plan = seen.plan
        self.node = seen.node
        self.own: Mapping[str, Any] = targets.get(self.node.name) or {
            "why": "it has no pod to ask from"
        }
        self.targets = {one: told for one, told in targets.items() if one != self.node.name}
        self.forced = forced
        self.known: dict[tuple[str, str], str] = {}

    def new_way(self) -> list[str]:
        """Probe over the new routes, before pods' packets use them; return warnings.

        Raises PodnetError when a pair of hosts is not proven, unless `forced`.
        """
        others = [one.name for one in peers(self.plan, self.node)]
        if not others:
            return []
        absent = [name for name in others if name not in self.targets]
        notes = [f"not in this run, so not proven: {listed(absent, 5)}"] if absent else []
        told = {self.node.name: self.own, **self.targets}
        missing = [f"{name}: {one['why']}" for name, one in told.items() if "why" in one]
        self.known = self._ask()
        faults = [*missing, *_told(self.known)]
        if not faults:
            return [f"{self.node.name}: {note}" for note in notes]
        said = f"the new way ({self.plan.backend}) is not proven: {listed(faults, 5, '; ')}"
        if self.forced:
            return [
                f"{self.node.name}: {one}" for one in (*notes, f"{said} (podnet_force_unproven)")
            ]
        raise PodnetError(
            f"{self.node.name}: {said}. No route was moved on this host, and the old way still "
            "works. Mend what drops the packets (docs/troubleshooting.md says how to find it), or "
            "set podnet_force_unproven: true to switch without the proof"
        )

    def real_way(self) -> None:
        """Probe again after the routes moved, over those that all pods use from now on.

        Raises PodnetError naming the peers that answered before and do not now.
        """
        from ..probe import probe_pod

        probe_pod.rejoin(self.plan.name)
        found = self._ask()
        lost = {pair: fault for pair, fault in found.items() if pair not in self.known}
        if lost:
            raise PodnetError(
                f"{self.node.name}: after the routes moved, {listed(_told(lost), 5, '; ')}. "
                f"Packets of {self.plan.backend} may be dropped between the hosts"
            )

    def _ask(self) -> dict[tuple[str, str], str]:
        """Probe all peers' pods; return (node, "IPv4" or "IPv6") -> fault for those that fail."""
        from ..probe import probe_pod, questions

        if "why" in self.own:
            return {}
        own = probe_pod.read(self.plan.name)
        asked: list[tuple[tuple[str, str], Any]] = []
        for name, told in self.targets.items():
            if "why" in told:
                continue
            full = min(own.mtu, int(told["mtu"]))
            for label, mine, address in (
                ("IPv4", own.address, told["address"]),
                ("IPv6", own.address6, told["address6"]),
            ):
                if mine and address:
                    asked += [
                        ((name, label), one)
                        for one in questions.between("pod", address, full, told)
                    ]
        answers = questions.ask([one for _pair, one in asked], {"pod": own.netns})
        by_pair: dict[tuple[str, str], list[Any]] = {}
        for (pair, one), answer in zip(asked, answers):
            by_pair.setdefault(pair, []).append((one, answer))
        verdicts = {pair: questions.judged(those).fault for pair, those in by_pair.items()}
        return {pair: fault for pair, fault in verdicts.items() if fault}


def _told(faults: Mapping[tuple[str, str], str]) -> list[str]:
    """Return lines that name the faults, equal ones together: "n2, n3 (IPv4): no reply"."""
    alike: dict[tuple[str, str], list[str]] = {}
    for (name, family), fault in faults.items():
        alike.setdefault((family, fault), []).append(name)
    return [f"{listed(names, 5)} ({family}): {fault}" for (family, fault), names in alike.items()]

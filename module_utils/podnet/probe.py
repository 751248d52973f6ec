"""What one host probes in a proof of the network, and the short summary of what came of it.

From its own probe pod to every other host's pod, to its gateway and to an outside address; from
the host itself to every remote pod. Only what failed is returned: a thousand hosts with a thousand
targets each must not return a million lines.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from .errors import PodnetError
from .model import Plan, pack
from .probe_pod import Pod
from .prober import SMALL, Answer, Probe, run


@dataclass(frozen=True)
class Question:
    """A probe and what it is about: `kind` is pod, host, gateway or outside; `node` the target."""

    kind: str
    node: str
    full: bool
    probe: Probe


def questions(
    node_name: str, pod: Pod, targets: Mapping[str, Any], outside: Sequence[str]
) -> list[Question]:
    """Return all that this host asks.

    `targets` is node -> {address, address6, mtu} of the probe pods. Where two pods' MTUs differ,
    full size is the smaller one: that is what TCP agrees on.
    """
    asked: list[Question] = []

    def ask(kind: str, node: str, source: str, address: str, full: int) -> None:
        asked.append(Question(kind, node, False, Probe(source, address, SMALL)))
        if full > SMALL:
            asked.append(Question(kind, node, True, Probe(source, address, full)))

    for own, gateway in ((pod.address, pod.gateway), (pod.address6, pod.gateway6)):
        if own and gateway:
            ask("gateway", node_name, "pod", gateway, pod.mtu)
    for node, target in targets.items():
        if node == node_name:
            continue
        full = min(pod.mtu, int(target["mtu"]))
        for own, address in (
            (pod.address, target.get("address")),
            (pod.address6, target.get("address6")),
        ):
            if own and address:
                ask("pod", node, "pod", address, full)
                ask("host", node, "host", address, full)
    for address in outside:
        # The host asks, too: when it gets no answer either, nothing is said about pods.
        ask("outside", "", "pod", address, 0)
        ask("outside-host", "", "host", address, 0)
    return asked


def probe(
    node_name: str,
    pod: Pod,
    targets: Mapping[str, Any],
    outside: Sequence[str],
    chosen: Sequence[str],
) -> dict[str, Any]:
    """Ask everything at once; return ``{asked, failures, outside, notes}``.

    `failures` is a list of ``{kind, node, address, size, full, error, router}``. `chosen`
    are the outside addresses that the user named: silence from them is a failure even when this
    host itself gets none.
    """
    asked = questions(node_name, pod, targets, outside)
    answers = run([one.probe for one in asked], {"pod": pod.netns, "host": ""})
    silent = {
        one.probe.address
        for one, answer in zip(asked, answers)
        if one.kind == "outside-host" and not answer.ok
    }
    notes: list[str] = []
    failed: list[dict[str, Any]] = []
    judged: list[str] = []
    count = 0
    for one, answer in zip(asked, answers):
        if one.kind == "outside-host":
            continue
        if one.kind == "outside" and one.probe.address in silent and not answer.ok:
            if one.probe.address not in chosen:
                notes.append(
                    f"outside: the default gateway {one.probe.address} does not answer this host "
                    "either; not judged (podnet_probe_outside names an address that answers)"
                )
                continue
            answer.error += "; this host itself gets no answer from it either"
        if one.kind == "outside":
            judged.append(one.probe.address)
        count += 1
        if not answer.ok:
            failed.append(_failure(one, answer))
    return {"asked": count, "failures": failed, "outside": judged, "notes": notes}


def _failure(one: Question, answer: Answer) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "node": one.node,
        "address": one.probe.address,
        "size": one.probe.size,
        "full": one.full,
        "error": answer.error,
        "router": answer.router,
    }


def outside_addresses(plan: Plan, pod: Pod, chosen: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return (addresses to probe outside the network, notes on what is not probed).

    `chosen` are the user's; a family without any takes the default gateway of this host. Raises
    PodnetError for something in `chosen` that is no address.
    """
    notes: list[str] = []
    addresses: list[str] = []
    for address in chosen:
        try:
            pack(address)
        except ValueError as error:
            raise PodnetError(f"podnet_probe_outside: {error}") from error
    if not plan.masquerade:
        return [], ["outside: not probed, because podnet_masquerade is off"]
    for family, own in ((4, pod.address), (6, pod.address6)):
        if not own:
            continue
        mine = [one for one in chosen if (":" in one) == (family == 6)]
        if mine:
            addresses += mine
            continue
        gateway = _default_gateway(family)
        if not gateway:
            notes.append(f"outside: not probed over IPv{family}: this host has no default gateway")
        elif gateway.startswith("fe80:"):
            notes.append(
                f"outside: not probed over IPv{family}: the default gateway has a link-local "
                "address only"
            )
        else:
            addresses.append(gateway)
    return addresses, notes


def _default_gateway(family: int) -> str:
    """Return the gateway of this host's first default route, "" without one."""
    program = shutil.which("ip") or "/sbin/ip"
    try:
        done = subprocess.run(
            [program, "-json", f"-{family}", "route", "show", "default"],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=30,
        )
        routes = json.loads(done.stdout or "[]")
    except (OSError, subprocess.SubprocessError, ValueError):
        return ""
    for route in routes:
        if route.get("gateway"):
            return str(route["gateway"])
    return ""

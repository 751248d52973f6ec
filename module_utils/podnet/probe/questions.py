"""Which probes one host sends to prove the network, and a short summary of the results.

Its own probe pod probes every other host's pod, its gateway and an outside address; the host itself
probes every remote pod. Pods are probed by ICMP, UDP and TCP (`udp_tcp`); `core.verdict` says what
the answers mean. Only failures are returned one by one: a thousand hosts with a thousand targets
each must not return a million lines.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping, NamedTuple, Sequence

from ..core.errors import PodnetError
from ..core.model import Plan, pack
from ..core.text import listed
from ..core.verdict import OK, Asked, Verdict, judge
from ..kernel.netns import in_netns
from . import icmp, udp_tcp
from .icmp import SMALL, Answer, Probe, family_of
from .probe_pod import Pod

PROTOCOLS = ("icmp", "udp", "tcp")


@dataclass(frozen=True)
class Question:
    """A probe and what it is about.

    `kind` is pod or host (from there to the pod of `node`), gateway, or outside and outside-host
    (from the pod or the host to an outside address; `node` is "").
    """

    kind: str
    node: str
    probe: Probe


class Pair(NamedTuple):
    """The probes that get one verdict together: those of one kind, to one node, in one family.

    For kind outside, `node` is the outside address.
    """

    kind: str
    node: str
    family: int


def between(
    source: str, address: str, full: int, ports: Mapping[str, int], *, bulk: bool = False
) -> list[Probe]:
    """Return the probes of one pod: by three protocols, each at SMALL and at `full` size in bytes.

    `ports` has those of the pod's responder under "udp" and "tcp". `bulk`: also many bytes over
    TCP. They fill queues on the way, at the expense of whoever else sends there.
    """
    sizes = (SMALL, full) if full > SMALL else (SMALL,)
    probes = [
        Probe(source, address, size, protocol, ports.get(protocol, 0))
        for protocol in PROTOCOLS
        for size in sizes
    ]
    if bulk:
        probes.append(Probe(source, address, full, "tcp", ports.get("tcp", 0), udp_tcp.BULK))
    return probes


def asked_nodes(node_name: str, targets: Iterable[str], pairs: str) -> list[str]:
    """Return whom of `targets` this host asks, in their order.

    `pairs` is all; ring, the host before this one and the one after it in the order of `targets`,
    so that each pair of neighbours is asked from both ends; or a number of others, chosen anew by
    chance in each run. Raises PodnetError for anything else.
    """
    names = list(targets)
    others = [name for name in names if name != node_name]
    if pairs == "all":
        return others
    if pairs == "ring":
        if node_name not in names:
            return others[:2]
        place = names.index(node_name)
        around = {names[place - 1], names[(place + 1) % len(names)]}
        return [name for name in others if name in around]
    # int() takes more: blanks, a sign, digits of other scripts.
    if not re.fullmatch(r"[1-9][0-9]{0,5}", pairs):
        raise PodnetError(f"podnet_probe_pairs: {pairs!r} is neither all, ring nor a number from 1")
    chosen = set(random.sample(others, min(int(pairs), len(others))))
    return [name for name in others if name in chosen]


def questions(
    node_name: str, pod: Pod, targets: Mapping[str, Any], outside: Sequence[str]
) -> list[Question]:
    """Return all probes that this host sends.

    `targets` is node -> {address, address6, mtu, udp, tcp} of its probe pod. If two pods' MTUs
    differ, the full size is the smaller one, as for TCP, whose peers tell each other their MSS.
    """
    asked: list[Question] = []
    for own, gateway in ((pod.address, pod.gateway), (pod.address6, pod.gateway6)):
        if own and gateway:
            for size in sorted({SMALL, max(SMALL, pod.mtu)}):
                asked.append(Question("gateway", node_name, Probe("pod", gateway, size)))
    for node, target in targets.items():
        if node == node_name:
            continue
        full = min(pod.mtu, int(target["mtu"]))
        ports = {"udp": int(target["udp"]), "tcp": int(target["tcp"])}
        for own, address in (
            (pod.address, target.get("address")),
            (pod.address6, target.get("address6")),
        ):
            if own and address:
                for kind in ("pod", "host"):
                    asked += [
                        Question(kind, node, probe)
                        for probe in between(kind, address, full, ports, bulk=kind == "pod")
                    ]
    for address in outside:
        # The host probes it, too: if it gets no answer either, that is no fault of the pod network.
        asked.append(Question("outside", "", Probe("pod", address)))
        asked.append(Question("outside-host", "", Probe("host", address)))
    return asked


def ask(probes: Sequence[Probe], namespaces: Mapping[str, str]) -> list[Answer]:
    """Send all `probes` of all protocols at once; return the answers in the same order.

    `namespaces` is source -> path of its network namespace, "" for this process's own.
    """
    echo = [one for one in probes if one.protocol == "icmp"]
    rest = [one for one in probes if one.protocol != "icmp"]
    answers: dict[str, list[Answer]] = {}
    wrong: list[BaseException] = []

    def run_echo() -> None:
        try:
            answers["echo"] = icmp.run(echo, namespaces)
        except BaseException as error:
            wrong.append(error)

    # Each thread has a network namespace of its own, so both may change theirs (`in_netns`).
    thread = threading.Thread(target=run_echo)
    thread.start()
    try:
        answers["rest"] = udp_tcp.run(rest, namespaces)
    finally:
        thread.join()
    if wrong:
        raise wrong[0]
    by_kind = {kind: iter(found) for kind, found in answers.items()}
    return [next(by_kind["echo" if one.protocol == "icmp" else "rest"]) for one in probes]


def probe(
    node_name: str,
    pod: Pod,
    targets: Mapping[str, Any],
    outside: Sequence[str],
    chosen: Sequence[str],
) -> dict[str, Any]:
    """Send all probes of this host at once; return the `summary` of the answers."""
    asked = questions(node_name, pod, targets, outside)
    before = wrong_checksums("")
    answers = ask([one.probe for one in asked], {"pod": pod.netns, "host": ""})
    found = summary(asked, answers, chosen, lambda address: has_neighbour(pod.netns, address))
    # Nobody but the proof sends to the pod, so it began at 0.
    for who, where in (("the pod", pod.netns), ("the host", "")):
        count = wrong_checksums(where) - (0 if where else before)
        if count > 0:
            packets = "packet" if count == 1 else "packets"
            found["notes"].append(f"{who} received {count} {packets} with a wrong checksum")
    return found


def wrong_checksums(netns: str) -> int:
    """Return how many TCP and UDP packets with a wrong checksum a network namespace received.

    See InCsumErrors in /proc/net/snmp, and snmp6 for UDP over IPv6; "" is this process's own.
    """
    # /proc/net would be that of the process's first thread.
    counters = Path("/proc/thread-self/net")
    with in_netns(netns):
        four, six = ((counters / name).read_text() for name in ("snmp", "snmp6"))
    lines = [line.split() for line in four.splitlines()]
    found = [
        int(number)
        for names, numbers in zip(lines[::2], lines[1::2])
        for name, number in zip(names, numbers)
        if names[0] in ("Tcp:", "Udp:") and name == "InCsumErrors"
    ]
    found += [int(line.split()[1]) for line in six.splitlines() if line.startswith("Udp6InCsumE")]
    return sum(found)


def summary(
    asked: Sequence[Question],
    answers: Sequence[Answer],
    chosen: Sequence[str],
    resolves: Callable[[str], bool],
) -> dict[str, Any]:
    """Return ``{asked, answered, failures, outside, notes}``.

    `asked` and `answered` are numbers of probes. `failures` is a list of ``{kind, node, family,
    address, word, what}``. `outside` are the outside addresses that were judged, `notes` are
    messages on what was not. `chosen` are the outside addresses that the user named: no answer from
    them is a failure even if this host itself gets none either. `resolves` says whether the pod
    knows the MAC of an address on its own link.
    """
    grouped: dict[Pair, list[tuple[Probe, Answer]]] = {}
    silent: set[str] = set()
    for one, answer in zip(asked, answers):
        if one.kind == "outside-host":
            if not answer.ok:
                silent.add(one.probe.address)
            continue
        node = one.probe.address if one.kind == "outside" else one.node
        pair = Pair(one.kind, node, family_of(one.probe.address))
        grouped.setdefault(pair, []).append((one.probe, answer))
    verdicts = {pair: judged(those) for pair, those in grouped.items()}
    notes: dict[str, list[str]] = {}
    result: dict[str, Any] = {"asked": 0, "answered": 0, "failures": [], "outside": [], "notes": []}
    for pair, those in grouped.items():
        verdict, address = verdicts[pair], those[0][0].address
        answered = sum(answer.ok for _probe, answer in those)
        quiet = address in silent and address not in chosen
        note = _excused(pair, address, verdicts, quiet, resolves)
        if note:
            notes.setdefault(note, []).append(pair.node)
        if pair.kind == "outside" and not note:
            result["outside"].append(address)
        result["answered"] += answered
        result["asked"] += answered if note else len(those)
        if verdict.fault and not note:
            what = verdict.fault
            if pair.kind == "outside" and address in silent:
                what += "; this host itself gets no answer from it either"
            failed = {"address": address, "word": verdict.word, "what": what}
            node = "" if pair.kind == "outside" else pair.node
            result["failures"].append(
                {"kind": pair.kind, "node": node, "family": pair.family, **failed}
            )
    result["notes"] = [
        note.replace("{}", listed(dict.fromkeys(nodes))) for note, nodes in notes.items()
    ]
    return result


def judged(those: Iterable[tuple[Probe, Answer]]) -> Verdict:
    """Judge the answers of one direction between two ends in one family."""
    asked = []
    for one, answer in those:
        error = "" if answer.ok else answer.error
        sent = one.bulk, answer.segments, answer.again
        asked.append(Asked(one.protocol, one.full, one.size, error, answer.router, *sent))
    return judge(asked)


def _excused(
    pair: Pair,
    address: str,
    verdicts: Mapping[Pair, Verdict],
    quiet: bool,
    resolves: Callable[[str], bool],
) -> str:
    """Return why a missing answer is no fault of the pod network, as a note.

    Returns "" if it is a fault, or if no answer is missing. `quiet`: an outside address that does
    not answer the host either, and that the user has not named.
    """
    verdict = verdicts[pair]
    if verdict.muted:
        who = "pod" if pair.kind == "pod" else "host"
        return f"{who} -> {{}}: ICMP is not answered, TCP and UDP are"
    if verdict.word == OK:
        return ""
    if pair.kind == "host" and verdicts.get(pair._replace(kind="pod"), verdict).word == OK:
        return (
            f"host -> {{}}: {verdict.fault}, while pods get answers over the same way; chains of "
            "this host's own (input) may drop them"
        )
    if pair.kind == "gateway" and verdict.word == "no" and resolves(address):
        # A gateway must forward pods' packets, which the probes of other hosts' pods test. It need
        # not answer ping.
        return f"gateway {address}: its MAC is known and it does not answer ping"
    if pair.kind == "outside" and quiet:
        return (
            f"outside: the default gateway {address} does not answer this host "
            "either; not judged (podnet_probe_outside names an address that answers)"
        )
    return ""


def outside_addresses(plan: Plan, pod: Pod, chosen: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return (addresses to probe outside the network, notes on what is not probed).

    `chosen` are addresses that the user named; for a family without any, this host's default
    gateway is taken. Raises PodnetError for something in `chosen` that is no address.
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
    for route in _ip(f"-{family}", "route", "show", "default"):
        if route.get("gateway"):
            return str(route["gateway"])
    return ""


def has_neighbour(netns: str, address: str) -> bool:
    """Whether the namespace at `netns` knows the MAC of an address on its own link."""
    with in_netns(netns):
        found = _ip(f"-{family_of(address)}", "neigh", "show", "to", address)
    return any(one.get("lladdr") and "FAILED" not in one.get("state", ()) for one in found)


def _ip(*arguments: str) -> list[dict[str, Any]]:
    program = shutil.which("ip") or "/sbin/ip"
    try:
        done = subprocess.run(
            [program, "-json", *arguments],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=30,
        )
        return [one for one in json.loads(done.stdout or "[]") if isinstance(one, dict)]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []

"""Read on a host all that decides a packet's way there: what `trace` judges. Nothing is changed.

The facts are JSON types, so that a test can keep those of a real host in a file.
"""

from __future__ import annotations

import json
import re
import time
from typing import Any, Sequence

from ..backends.registry import BACKENDS, KINDS
from ..core import schema
from ..core.errors import PodnetError
from ..core.host_view import HostView
from ..core.model import Node, Plan
from ..core.plain_view import view_to_plain
from ..core.state import GUARD, State, guard_of
from ..firewall.passage import verdicts
from ..firewall.policy import Traffic, captures
from ..firewall.walk import Packet, addresses
from ..keep import record_file
from ..keep.files import read_text
from ..state import bridge_netfilter
from ..state.planned_way import planned_route, wanted
from . import forward
from . import observe as eyes
from . import policy as rules
from . import underlay as ways
from .find_pod import FoundPod
from .run import TOOLS, read_json, run


def read(plan: Plan, node: Node, pod: FoundPod, remote: str, role: str) -> dict[str, Any]:
    """Return what decides how packets go from `pod` to `remote` and back on this host.

    `role` is "from" on the host of the one who asks, "to" on that of the one who answers.
    """
    family = 6 if ":" in remote else 4
    links = eyes.read_links()
    by_name = {str(one["ifname"]): one for one in links}
    view, view_error = _view(plan, node, links)
    final = wanted(plan, node, view)
    planned = planned_route(final, remote)
    held = set(schema.held(*links))
    # What the host itself sends does not come in by a device.
    entering = "" if pod.address in held else f" iif {plan.bridge}"
    out = _lookup(family, f"route get {remote} from {pod.address}{entering}", remote)
    known = out["answer"] or {}
    carrier = planned.device or str(known.get("dev", ""))
    # What the kernel does, where it does anything; else what the plan wants.
    device = str(known.get("dev") or carrier)
    gateway = _gateway(known) or ("" if known else planned.gateway)
    to_host = remote in held
    entering = "" if to_host else f" iif {carrier}"
    back = f"route get {pod.address} from {remote}{entering}" if carrier else ""
    facts: dict[str, Any] = {
        "node": node.name,
        "role": role,
        "family": family,
        "local": pod.address,
        "remote": remote,
        "carrier": carrier,
        "own": pod.address in held,
        "to_host": to_host,
        "view": view_to_plain(view) if view else None,
        "view_error": view_error,
        "pod": _pod(pod, remote, family),
        "out": out,
        "in": _lookup(family, back, pod.address) if back else None,
        "reverse": {
            "out": _lookup(family, f"route get {pod.address}", pod.address),
            "in": _lookup(family, f"route get {remote}", remote),
        },
        "rules": _rules(plan, family, pod.address, remote, carrier),
        "neighbour": _neighbours(gateway or remote, device),
        "pod_neighbour": _neighbours(pod.address, plan.bridge),
    }
    facts["outer"] = _outer(
        plan, node, facts, final, links=by_name, device=device, gateway=gateway or remote
    )
    facts["ports"] = _bridge(["-d", "link", "show"], pod.host_end)
    mac = _mac(facts)
    facts["fdb"] = [
        one
        for one in _bridge(["fdb", "show", "br"], plan.bridge)
        if one.get("mac") == mac and one.get("state") != "permanent"
    ]
    named = {plan.bridge, carrier, device, pod.host_end, facts["outer"]["device"]}
    named |= set(final.links)
    facts["links"] = {name: by_name[name] for name in sorted(named) if name in by_name}
    facts["own_options"] = {
        name: KINDS[link.kind].own_options(name, TOOLS)
        for name, link in final.links.items()
        if link.kind in KINDS and name in by_name
    }
    facts["sysctls"] = _sysctls(family, facts["links"])
    facts["firewall"] = firewall(plan, facts, final)
    facts["probes"], facts["dropped"] = [], {}
    facts.update(own_filters(eyes.read_table(plan.name)))
    return facts


def own_filters(table: eyes.Table | None) -> dict[str, Any]:
    """Return ``{guard, masquerade}``: whom podnet's guard takes packets from, and other rules.

    `guard` is None where there is no guard.
    """
    chains = table.chains if table else ()
    return {
        "guard": sorted(table.members) if table and guard_of(chains) else None,
        "masquerade": [
            rule.text for chain in chains if chain.name != GUARD for rule in chain.rules
        ],
    }


def _view(plan: Plan, node: Node, links: Sequence[dict[str, Any]]) -> tuple[HostView | None, str]:
    known = record_file.load(plan.name)
    ours = eyes.owned_links(list(links), plan.name, known.devices if known else [])
    ours |= {one["ifname"] for one in links if str(one.get("ifalias", "")).startswith("podnet:")}
    try:
        view = ways.view(plan, node, links, ours)
        view.facts = dict(BACKENDS[plan.backend].facts(plan, node, TOOLS))
    except PodnetError as error:
        return None, str(error)
    return view, ""


def _lookup(family: int, question: str, address: str) -> dict[str, Any]:
    """Return ``{asked, answer, error, entry}``: the kernel's answer, and the entry that decided it.

    Where there is no answer, `entry` is that of table main with the longest prefix ("" for none).
    """
    argv = ["ip", "-j", f"-{family}", *question.split()]
    answer, error = _one(argv)
    words = question.split()
    entry = None
    if answer is not None:
        numbers = ["ip", "-j", "-N", f"-{family}", "route", "get", "fibmatch", *words[2:]]
        entry, _other = _one(numbers)
    text = ""
    table = ""
    if entry is None:
        shown = read_json(
            ["ip", "-j", "-N", f"-{family}", "route", "show", "table", "main", "match", address],
            schema.route,
            may_fail=True,
        )
        shown.sort(key=lambda one: _length(str(one.get("dst", ""))))
        entry = shown[-1] if shown else None
    if entry is not None:
        destination, body = eyes.parse_route(entry)
        text = f"{destination} {body}".strip()
        table = str(entry.get("table", ""))
    return {
        "asked": " ".join(["ip", f"-{family}", question]),
        "answer": answer,
        "error": error,
        "entry": text,
        "table": "" if table in ("", "254", "main") else table,
    }


def _one(argv: list[str]) -> tuple[dict[str, Any] | None, str]:
    result = run(argv)
    if result.code != 0:
        lines = [one for one in result.error.splitlines() if one.strip()]
        said = lines[0] if lines else f"exit {result.code}"
        return None, said.replace("RTNETLINK answers: ", "")
    try:
        shown = json.loads(result.output or "[]", strict=False)
        answers = [one for one in shown if one]
        for one in answers:
            schema.way(one)
    except (ValueError, RecursionError, TypeError) as error:
        raise PodnetError(
            f"{' '.join(argv)}: printed what podnet does not know ({error}); report the version of "
            "iproute2"
        ) from error
    return (answers[0], "") if answers else (None, "no answer")


def _length(destination: str) -> int:
    if destination == "default":
        return 0
    length = destination.partition("/")[2]
    return int(length) if length.isdigit() else 128


def _gateway(answer: dict[str, Any]) -> str:
    return str(answer.get("gateway") or answer.get("via", {}).get("host") or "")


def _neighbours(address: str, device: str) -> list[dict[str, Any]]:
    family = 6 if ":" in address else 4
    if not device:
        return []
    argv = ["ip", "-j", f"-{family}", "neigh", "show", address, "dev", device]
    return read_json(argv, schema.neighbour, may_fail=True)


def _pod(pod: FoundPod, remote: str, family: int) -> dict[str, Any]:
    """Return what a pod itself knows; "namespace" is "" where an address stands for a pod."""
    found: dict[str, Any] = {
        **pod._asdict(),
        "link": None,
        "answer": None,
        "error": "",
        "entry": "",
        "neighbour": [],
    }
    if not pod.namespace:
        return found
    inside = ["nsenter", f"--net={pod.namespace}", "ip", "-j"]
    links = read_json([*inside, "addr", "show"], schema.link)
    found["link"] = next((one for one in links if one["ifname"] == pod.device), None)
    asked = ["route", "get", remote, "from", pod.address]
    found["answer"], found["error"] = _one([*inside, f"-{family}", *asked])
    if found["answer"]:
        gateway = _gateway(found["answer"]) or remote
        entry, _error = _one([*inside, "-N", f"-{family}", "route", "get", "fibmatch", *asked[2:]])
        if entry:
            found["entry"] = " ".join(eyes.parse_route(entry)).strip()
        device = str(found["answer"].get("dev", ""))
        found["neighbour"] = read_json(
            [*inside, f"-{family}", "neigh", "show", gateway, "dev", device],
            schema.neighbour,
            may_fail=True,
        )
    return found


def _rules(
    plan: Plan, family: int, local: str, remote: str, carrier: str
) -> dict[str, list[list[Any]]]:
    shown = rules.listed(family, "rule", "show")
    ends = addresses(local), addresses(remote)
    ways_ = {
        "out": Traffic(ends[0], ends[1], plan.bridge),
        "in": Traffic(ends[1], ends[0], carrier),
    }
    return {
        key: [list(one) for one in captures(shown, way, lambda table: rules.table(family, table))]
        for key, way in ways_.items()
    }


def _outer(
    plan: Plan,
    node: Node,
    facts: dict[str, Any],
    final: State,
    *,
    links: dict[str, dict[str, Any]],
    device: str,
    gateway: str,
) -> dict[str, Any]:
    """Return what the packet is wrapped in on `device`, and how it goes on from there.

    Without an overlay, nothing is wrapped and the next node is the route's gateway.
    """
    found: dict[str, Any] = {
        "kind": "",
        "key": "",
        "entry": "",
        "planned": [],
        "session": ["", True],
        "remote": "",
        "planned_remote": "",
        "local": "",
        "lookup": None,
        "neighbour": [],
        "device": device,
    }
    link = links.get(device)
    kind = KINDS.get(link.get("linkinfo", {}).get("info_kind", "")) if link else None
    own = final.links.get(device)
    if own and own.kind in KINDS:
        kind = KINDS[own.kind]
    if kind is None:
        found["neighbour"] = facts["neighbour"]
        return found
    mac = next((str(one.get("lladdr", "")) for one in facts["neighbour"]), "")
    entries = kind.read(device, TOOLS) if link else {}
    key = kind.carrier(entries, device, mac, facts["remote"])
    found["kind"] = own.kind if own else link["linkinfo"]["info_kind"] if link else ""
    if key:
        found["key"], found["entry"] = key[1], entries[key]
        found["session"] = list(kind.session(key, TOOLS))
        found["remote"] = kind.remote(entries[key])
    want_mac = final.neighbours.get((device, gateway), "")
    want = kind.carrier(final.entries, device, want_mac, facts["remote"])
    if want:
        found["planned"] = [want[1], final.entries[want]]
        found["planned_remote"] = kind.remote(final.entries[want])
    family = plan.underlay
    local = node.ip if family == 4 else node.ip6
    found["local"] = local
    remote = found["remote"] or found["planned_remote"]
    if remote:
        found["lookup"] = _lookup(family, f"route get {remote} from {local}", remote)
        answer = found["lookup"]["answer"] or {}
        found["device"] = str(answer.get("dev", ""))
        if found["device"]:
            found["neighbour"] = _neighbours(_gateway(answer) or remote, found["device"])
    return found


def _mac(facts: dict[str, Any]) -> str:
    link = facts["pod"]["link"]
    return str(link.get("address", "")) if link else ""


def _bridge(what: list[str], name: str) -> list[dict[str, Any]]:
    if not name:
        return []
    argv = ["bridge", "-j", *what, *(["dev", name] if what[-1] == "show" else [name])]
    return [
        one for one in read_json(argv, lambda _one: None, may_fail=True) if isinstance(one, dict)
    ]


def _sysctls(family: int, links: Sequence[str] | dict[str, Any]) -> dict[str, str]:
    keys = ["net.ipv4.ip_forward", "net.ipv4.conf.all.rp_filter", "net.ipv6.conf.all.forwarding"]
    keys.append(bridge_netfilter.KEYS[family])
    for name in links:
        word = name.replace(".", "/")
        if family == 4:
            keys += [f"net.ipv4.conf.{word}.forwarding", f"net.ipv4.conf.{word}.rp_filter"]
        else:
            keys += [f"net.ipv6.conf.{word}.disable_ipv6"]
    return eyes.read_sysctls(keys)


def firewall(plan: Plan, facts: dict[str, Any], final: State) -> dict[str, list[dict[str, Any]]]:
    """Return what chains do to the packet (out, in), and to what wraps it (output, input)."""
    local, remote = addresses(facts["local"]), addresses(facts["remote"])
    cluster = addresses(plan.cluster_cidr if facts["family"] == 4 else plan.cluster_cidr6)
    carrier = str((facts["out"]["answer"] or {}).get("dev") or facts["carrier"])
    states = ("new", "established") if facts["role"] == "from" else ("established", "new")
    # Hook, and the packet's devices, of the way out and in; a host's own packets are not forwarded.
    hooks = {"out": "forward", "in": "forward"}
    if facts["own"]:
        hooks = {"out": "output", "in": "input"}
    if facts["to_host"]:
        hooks = {"out": "input", "in": "output"}
    found: dict[str, list[dict[str, Any]]] = {}
    bridged = bridge_netfilter.is_on(facts["sysctls"], facts["family"])
    near = "" if facts["own"] else plan.bridge
    for key, iif, oif, state in (
        ("out", near, "" if facts["to_host"] else carrier, states[0]),
        ("in", "" if facts["to_host"] else facts["carrier"], near, states[1]),
    ):
        if iif == oif and not bridged:
            # Pods of one bridge: their packets pass no chains of IP families.
            found[key] = []
            continue
        ends = (local, remote) if key == "out" else (remote, local)
        packet = Packet(iif, oif, ends[0], ends[1], "tcp", state, cluster)
        packets = [packet._replace(protocol=one) for one in ("tcp", "udp", "icmp")]
        found[key] = verdicts(forward.passed(plan.name, hooks[key]), packets)
    found["input"], found["output"] = [], []
    outer = facts["outer"]
    link = final.links.get(facts["carrier"])
    needs = KINDS[link.kind].needs(link) if link and link.kind in KINDS else None
    there = outer["remote"] or outer["planned_remote"]
    if needs and there and outer["local"]:
        ends = addresses(outer["local"]), addresses(there)
        packet = Packet("", "", ends[0], ends[1], "udp", "new", cluster, dport=needs.port)
        found["output"] = verdicts(
            forward.passed(plan.name, "output"), [packet._replace(oif=outer["device"])]
        )
        packet = packet._replace(iif=outer["device"], source=ends[1], destination=ends[0])
        found["input"] = verdicts(forward.passed(plan.name, "input"), [packet])
    return found


#: Seconds: the kernel first waits 5 for somebody else to confirm a neighbour, then asks 3 times
#: (delay_first_probe_time, ucast_solicit, retrans_time_ms in ip-sysctl).
_SETTLED = 10.0


def settle(device: str, address: str) -> None:
    """Wait until the kernel knows whether a neighbour is there, if it is about to find out."""
    deadline = time.monotonic() + _SETTLED
    while time.monotonic() < deadline:
        found = _neighbours(address, device)
        states = {str(state) for one in found for state in one.get("state", ())}
        if not states & {"DELAY", "PROBE", "INCOMPLETE"}:
            return
        time.sleep(0.5)


#: What the kernel counts when it drops an IP packet, as nstat(8) names it.
_DROPS = re.compile(
    r"(Ip6?(In|Out)(Discards|NoRoutes|AddrErrors|HdrErrors)|Ip6?FragFails|Ip6InTooBigErrors"
    r"|IpExtInNoRoutes|TcpExtIPReversePathFilter)\Z"
)


def counters(names: Sequence[str]) -> dict[str, int]:
    """Return how many packets devices and the host have dropped or refused: name -> number."""
    found = {}
    for link in read_json(["ip", "-j", "-s", "link", "show"], schema.link):
        if link["ifname"] in names:
            for way in ("rx", "tx"):
                told = link.get("stats64", {}).get(way, {})
                for what in ("dropped", "errors"):
                    if isinstance(told.get(what), int):
                        found[f"{link['ifname']} {way} {what}"] = told[what]
    for file in ("snmp", "netstat", "snmp6"):
        told = parse_counters(read_text(f"/proc/self/net/{file}") or "")
        found.update((name, number) for name, number in told.items() if _DROPS.match(name))
    return found


def parse_counters(text: str) -> dict[str, int]:
    """Return what a file like /proc/net/snmp counts, by nstat(8)'s names.

    A line of names is followed by one of numbers; in snmp6 each line has a name and a number.
    """
    found = {}
    names: list[str] = []
    for line in text.splitlines():
        first, *words = line.split() or [""]
        if not first.endswith(":"):
            found.update({first: int(words[0])} if words and words[0].isdigit() else {})
        elif not names:
            names = [first[:-1] + word for word in words]
        else:
            found.update(
                (name, int(word)) for name, word in zip(names, words) if word.lstrip("-").isdigit()
            )
            names = []
    return found

"""Ask the kernel over which routes of the underlay it sends to the peers."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, Sequence

from ..backends.registry import BACKENDS
from ..core import schema
from ..core.errors import PodnetError
from ..core.host_view import HostView, Underlay, Way, addressed_peers
from ..core.model import Node, Plan
from .run import run

_FAILED = re.compile(r"Command failed -:([0-9]+)")
#: Upper bound for the MTU of an address on a loopback device, which tells no MTU: Ethernet's.
_USUAL_MTU = 1500


class RouteQuery(NamedTuple):
    """A question: which route does a packet from `source` to `address` take?

    `interface` is the device that it must leave by, "" for any.
    """

    address: str
    source: str
    interface: str = ""

    def line(self, *, told: bool = True, route: bool = False) -> str:
        """Return the question as a line for `ip -batch`.

        Without `told` the kernel chooses the source address. With `route` it answers with the
        route in the table (fibmatch of ip-route(8)) instead of the result of the lookup.
        """
        words = f"route get {'fibmatch ' if route else ''}{self.address}"
        words += f" from {self.source}" if told else ""
        return words + (f" oif {self.interface}" if self.interface else "")


def view(plan: Plan, node: Node, links: Sequence[dict[str, Any]], ours: set[str]) -> HostView:
    """Return the underlay as the host sees it; `ours` are podnet's devices, no part of it.

    Raises PodnetError when the node's address or interface is not on the host.
    """
    by_name = {link["ifname"]: link for link in links}
    if node.interface and node.interface not in by_name:
        others = ", ".join(sorted(by_name.keys() - ours)[:10])
        raise PodnetError(
            f"{node.name}: podnet_interface {node.interface} does not exist on the host, which "
            f"has {others}"
        )
    host = HostView()
    holders: dict[str, str] = {}
    for link in links:
        if link["ifname"] in ours:
            continue
        for address in link.get("addr_info", ()):
            local = address.get("local")
            if local and not local.startswith("fe80"):
                holders.setdefault(local, link["ifname"])
    for family, address, variable in (
        (4, node.ip, "podnet_node_ip"),
        (6, node.ip6, "podnet_node_ip6"),
    ):
        if not address:
            continue
        if address not in holders:
            listed = ", ".join(f"{local} on {dev}" for local, dev in holders.items() if dev != "lo")
            raise PodnetError(
                f"{node.name}: {variable} {address} is on no interface of the host, which has "
                f"{listed or 'no address at all'}. Set {variable} to one of them"
            )
        device = node.interface or holders[address]
        mtu = int(by_name[device]["mtu"])
        holder = holders[address]
        if "LOOPBACK" in by_name[holder].get("flags", ()):
            holder = ""
            mtu = mtu if node.interface else min([_USUAL_MTU, *_mtus(links, ours)])
        host.underlay[family] = Underlay(address, device, mtu, holder)
    host.unlinked = tuple(
        link["ifname"]
        for link in links
        if link["ifname"] not in ours
        and "UP" in link.get("flags", ())
        and not any(one.get("local", "").startswith("fe80") for one in link.get("addr_info", ()))
    )
    mtus = {name: int(link["mtu"]) for name, link in by_name.items()}
    questions = [
        RouteQuery(address, own.address, node.interface)
        for family, own in host.underlay.items()
        for _other, address in addressed_peers(plan, node, family)
    ]
    # Routes to pods without an overlay leave the choice of the source address to the kernel.
    plain = BACKENDS[plan.backend].has_plain_routes(plan)
    host.ways = find(questions, mtus, node.name, sources=plain)
    return host


def _mtus(links: Sequence[dict[str, Any]], ours: set[str]) -> list[int]:
    """Return the MTUs of devices that are up and have an address, without loopback and podnet's."""
    return [
        int(link["mtu"])
        for link in links
        if link["ifname"] not in ours
        and link.get("addr_info")
        and "LOOPBACK" not in link.get("flags", ())
        and "UP" in link.get("flags", ())
    ]


def _ask_for(lines: Sequence[tuple[RouteQuery, str]]) -> dict[RouteQuery, dict[str, Any] | None]:
    return dict(zip((one for one, _other in lines), ask([line for _other, line in lines])))


def find(
    questions: Sequence[RouteQuery], mtus: dict[str, int], name: str, *, sources: bool = False
) -> dict[str, Way]:
    """Return address -> way, for the addresses in `questions` to which the kernel has a route.

    `mtus` maps devices to MTUs in bytes, `name` is this host's for messages. With `sources`,
    `Way.source` is asked for, too. Raises PodnetError if an address is this host's own.
    """
    told = ask([one.line() for one in questions])
    # Two answers need the route in the table as well. With `oif`, IPv4 takes an address without any
    # route for on-link (ip_route_output_key); and a path MTU that a router reported ("expires")
    # hides the route's own.
    routes = _ask_for(
        [
            (one, one.line(route=True))
            for one, answer in zip(questions, told)
            if answer and (one.interface or "expires" in answer)
        ]
    )
    free = _ask_for([(one, one.line(told=False)) for one in questions] if sources else [])
    alone = _ask_for(
        [(one, one._replace(interface="").line()) for one in questions if one.interface]
    )
    ways = {}
    for question, answer in zip(questions, told):
        if answer is None or (question in routes and routes[question] is None):
            continue
        if str(answer.get("type", "unicast")) in ("local", "2"):
            raise PodnetError(
                f"{name}: {question.address} of another node is an address of this host, too: "
                "every node needs its own"
            )
        way = parse(answer, free.get(question), routes.get(question), mtus)
        if way:
            back = alone.get(question, answer)
            way = way._replace(back=str((back or {}).get("dev", "")))
            ways[question.address] = way
    return ways


def parse(
    answer: dict[str, Any],
    free: dict[str, Any] | None,
    route: dict[str, Any] | None,
    mtus: dict[str, int],
) -> Way | None:
    """Return the way in the kernel's `answer`, None for one that leads nowhere.

    `free` is the answer to the question without a source, `route` the route in the table; each is
    None if it was not asked for. `mtus` maps devices to MTUs in bytes.
    """
    device = str(answer.get("dev", ""))
    if str(answer.get("type", "unicast")) not in ("unicast", "1") or device not in mtus:
        return None
    gateway = str(answer.get("gateway") or answer.get("via", {}).get("host") or "")
    said = _mtu(answer)
    own, learned = (_mtu(route or {}), said) if "expires" in answer else (said, 0)
    mtu = min(own or mtus[device], mtus[device])
    source = ""
    if free is not None and free.get("dev") == device:
        source = str(free.get("prefsrc", ""))
    return Way(device, mtu, gateway, source, learned if 0 < learned < mtu else 0)


def _mtu(entry: dict[str, Any]) -> int:
    found = [one["mtu"] for one in entry.get("metrics", ()) if isinstance(one.get("mtu"), int)]
    return int(found[0]) if found else 0


def ask(lines: Sequence[str]) -> list[dict[str, Any] | None]:
    """Return the kernel's answer to each line of `ip route get`, None where it has no route.

    One process answers all lines: `ip -force` goes on after a line that fails, and names it. Raises
    PodnetError for output that podnet does not know.
    """
    if not lines:
        return []
    argv = ["ip", "-j", "-force", "-batch", "-"]
    result = run(argv, stdin="\n".join(lines) + "\n")
    failed = {int(number) for number in _FAILED.findall(result.error)}
    try:
        # Each line prints a list of its own.
        lists = [line for line in result.output.split("\n") if line.strip()]
        printed = json.loads(f"[{','.join(lists)}]")
        answers = [one[0] for one in printed if one]
        for one in answers:
            schema.way(one)
    except (ValueError, RecursionError, TypeError, KeyError, IndexError) as error:
        raise PodnetError(
            f"{' '.join(argv)}: printed what podnet does not know ({error}); report the version "
            "of iproute2"
        ) from error
    if len(answers) + len(failed) != len(lines) or not failed <= {*range(1, len(lines) + 1)}:
        raise PodnetError(
            f"{' '.join(argv)}: {len(lines)} questions, {len(answers)} answers and {len(failed)} "
            f"failures ({result.error[:200] or 'without a word'})"
        )
    rest = iter(answers)
    return [None if number in failed else next(rest) for number in range(1, len(lines) + 1)]

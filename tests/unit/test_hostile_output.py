"""The tools print nonsense: one clear error, or nothing taken over, but no crash.

What the tools say of a good host is damaged at one place or several; then podnet looks at the host.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from podnet.core import schema
from podnet.core.errors import PodnetError
from podnet.core.model import Plan
from podnet.core.state import Port
from podnet.host import info
from podnet.host.look import look
from podnet.keep import files
from podnet.kernel import endpoints, pods
from podnet.kernel import run as edge

from tests.kernel.netns_hosts import plan_document
from tests.unit.test_plan_properties import hostile

LINKS = [
    {
        "ifname": "lo",
        "ifindex": 1,
        "mtu": 65536,
        "flags": ["LOOPBACK", "UP"],
        "addr_info": [{"family": "inet", "local": "127.0.0.1", "prefixlen": 8}],
    },
    {
        "ifname": "eth0",
        "ifindex": 2,
        "mtu": 1500,
        "flags": ["UP"],
        "address": "02:00:00:00:00:01",
        "addr_info": [
            {"local": "192.0.2.11", "prefixlen": 24},
            {"local": "fd00:2::11", "prefixlen": 64},
        ],
    },
    {
        "ifname": "cni0",
        "ifindex": 3,
        "mtu": 1450,
        "flags": ["UP"],
        "address": "0a:00:0a:f4:00:00",
        "ifalias": "podnet:podnet",
        "linkinfo": {"info_kind": "bridge", "info_data": {"forward_delay": 1}},
        "addr_info": [{"local": "10.244.0.1", "prefixlen": 24}],
    },
    {
        "ifname": "flannel.1",
        "ifindex": 4,
        "mtu": 1450,
        "flags": ["UP"],
        "address": "02:00:0a:f4:00:00",
        "ifalias": "podnet:podnet",
        "linkinfo": {
            "info_kind": "vxlan",
            "info_data": {"id": 1, "port": 8472, "local": "192.0.2.11", "learning": False},
        },
        "addr_info": [{"local": "10.244.0.0", "prefixlen": 32}],
    },
    {
        "ifname": "veth1",
        "ifindex": 5,
        "mtu": 1450,
        "flags": ["UP"],
        "master": "cni0",
        "link_index": 2,
        "link_netnsid": 0,
        "linkinfo": {"info_kind": "veth"},
    },
]
ROUTES = [
    {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0", "protocol": "3", "flags": []},
    {
        "dst": "10.244.1.0/24",
        "gateway": "10.244.1.0",
        "dev": "flannel.1",
        "protocol": "112",
        "flags": ["onlink"],
        "metrics": [{"mtu": 1400}],
    },
    {
        "dst": "10.244.2.0/24",
        "protocol": "112",
        "via": {"family": "inet6", "host": "fe80::1"},
        "nexthops": [{"gateway": "192.0.2.12", "dev": "eth0"}],
        "metric": 5,
        "type": "6",
    },
]
WAYS = [
    {"dst": "192.0.2.12", "from": "192.0.2.11", "dev": "eth0", "prefsrc": "192.0.2.11"},
    {
        "dst": "192.0.2.13",
        "dev": "eth0",
        "type": "unicast",
        "via": {"family": "inet6", "host": "fe80::1"},
        "expires": 599,
        "metrics": [{"mtu": 1400}],
    },
]
NEIGHBOURS = [{"dst": "10.244.1.0", "lladdr": "02:00:0a:f4:01:00", "state": ["PERMANENT"]}]
FDB = [{"mac": "02:00:0a:f4:01:00", "dst": "192.0.2.12", "state": "permanent"}]
TABLE = {
    "nftables": [
        {"metainfo": {"version": "1.0.6"}},
        {"table": {"family": "inet", "name": "podnet"}},
        {
            "chain": {
                "name": "postrouting",
                "type": "nat",
                "hook": "postrouting",
                "prio": 100,
                "policy": "accept",
            }
        },
        {"rule": {"chain": "postrouting", "comment": "podnet:1", "handle": 3, "expr": []}},
        {"set": {"name": "x"}},
    ]
}
CHAINS = {
    "nftables": [
        {
            "chain": {
                "family": "ip",
                "table": "other",
                "name": "fwd",
                "hook": "forward",
                "type": "filter",
                "policy": "drop",
            }
        }
    ]
}
CHAIN = {
    "nftables": [
        {
            "chain": {
                "family": "ip",
                "table": "other",
                "name": "fwd",
                "hook": "forward",
                "type": "filter",
                "policy": "drop",
            }
        },
        {"rule": {"handle": 4, "comment": "podnet:podnet", "expr": [{"accept": None}]}},
    ]
}
GOOD = {
    "links": LINKS,
    "routes": ROUTES,
    "ways": WAYS,
    "neighbours": NEIGHBOURS,
    "fdb": FDB,
    "table": TABLE,
    "chains": CHAINS,
    "chain": CHAIN,
}


def plan() -> Plan:
    document = plan_document(3, backend="vxlan")
    for number, node in enumerate(document["nodes"]):
        node.update(mac=f"02:00:0a:f4:{number:02x}:00", ip6=f"fd00:2::{11 + number}")
    return Plan.from_document(document)


def answers(said: dict[str, Any]) -> Any:
    """Return a stand-in for `run` that answers from `said`."""

    def text(argv: list[str]) -> str:
        words = set(argv)
        if "nft" in words:
            which = "table" if "table" in words else "chain" if "chain" in words else "chains"
        else:
            which = next(
                (
                    kind
                    for word, kind in (("fdb", "fdb"), ("neigh", "neighbours"), ("route", "routes"))
                    if word in words
                ),
                "links",
            )
        found = said[which]
        return found if isinstance(found, str) else json.dumps(found)

    def asked(argv: list[str], stdin: str) -> edge.Result:
        lines = stdin.splitlines()
        assert "-j" in argv and all(one.startswith("route get ") for one in lines), "it wrote"
        found = said["ways"]
        if isinstance(found, str):
            return edge.Result(0, found, "")
        entries = list(found) if isinstance(found, (list, dict)) and found else [found]
        text = "\n".join(json.dumps([entries[n % len(entries)]]) for n in range(len(lines)))
        return edge.Result(0, text, "")

    def run(argv: list[str], stdin: str | None = None) -> edge.Result:
        if argv[:2] == ["unshare", "--net"]:
            return edge.Result(0, "", "")  # what a kernel can do is tried where nobody is
        if argv[:2] == ["nft", "-c"]:
            return edge.Result(0, "", "")  # a check of what would be written
        if stdin is not None:
            return asked(argv, stdin)
        return edge.Result(0, text(list(argv)), "")

    return run


@pytest.fixture(scope="module", autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let podnet find all tools and no files."""
    directory = tmp_path_factory.mktemp("host")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "STATE", str(directory / "podnet"))
        patch.setattr(edge, "find", lambda tool: f"/sbin/{tool}")
        patch.setattr(os, "geteuid", lambda: 0)
        patch.setattr(pods, "_namespaces", lambda: ["/run/netns/pod"])
        patch.setattr(pods, "_namespace_number", lambda _path: 0)
        yield
    assert list(directory.iterdir()) == []


def everything(said: dict[str, Any]) -> None:
    """Look at a host in each way there is; PodnetError alone may come of it."""
    run = answers(said)
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("podnet.") and getattr(module, "run", None) is _REAL:
                patch.setattr(module, "run", run)
        attempts: list[Callable[[], object]] = [
            lambda: look(plan(), "n1"),
            lambda: info.observed("podnet"),
        ]
        if said["links"] != LINKS:
            attempts += [
                lambda: pods.with_inner_ends(
                    {"veth1": Port(1450)}, edge.read_json(["ip"], schema.link)
                ),
                lambda: endpoints.observe(["web"], edge.read_json(["ip"], schema.link)),
            ]
        for attempt in attempts:
            try:
                attempt()
            except PodnetError as error:
                assert "\n" not in str(error).strip()


_REAL = edge.run


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths to all parts of a JSON document."""
    found = [path]
    items = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document)
        if isinstance(document, list)
        else ()
    )
    for key, value in items:
        found += places(value, (*path, key))
    return found


PLACES = [(kind, path) for kind, document in GOOD.items() for path in places(document)]

REMOVED = object()


def damage(said: dict[str, Any], kind: str, path: tuple[Any, ...], value: Any) -> None:
    """Put `value` at a place, or take the place away."""
    holder: Any = said
    for key in (kind, *path)[:-1]:
        try:
            holder = holder[key]
        except (KeyError, IndexError, TypeError):
            return  # Damaged before.
    last = (kind, *path)[-1]
    try:
        if value is REMOVED and holder is not said:
            del holder[last]
        elif value is not REMOVED:
            holder[last] = value
    except (KeyError, IndexError, TypeError):
        return


def test_a_good_host_is_understood() -> None:
    everything(copy.deepcopy(GOOD))


@pytest.mark.parametrize(
    "value", [REMOVED, None, {}, "x y", -1, 10**30, [{}], "a\nb", "10.0.0.0/99"], ids=repr
)
def test_each_place_alone(value: Any) -> None:
    for kind, path in PLACES:
        said = copy.deepcopy(GOOD)
        damage(said, kind, path, value)
        everything(said)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@example([(("links", (4, "ifname")), "\x00")])
@example([(("links", (4, "ifname")), "\ud800")])
@given(st.lists(st.tuples(st.sampled_from(PLACES), hostile), min_size=1, max_size=4))
def test_several_places(damages: list[tuple[tuple[str, tuple[Any, ...]], Any]]) -> None:
    said = copy.deepcopy(GOOD)
    for (kind, path), value in damages:
        damage(said, kind, path, value)
    everything(said)


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "null",
        "[",
        "{}",
        "[" * 100_000,
        '"x"',
        "[[[]]]",
        "NaN",
        "1" * 10_000,
        '[{"ifname": "a\tb"}]',
        "Error: x",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_no_json_at_all(kind: str, text: str) -> None:
    everything({**GOOD, kind: text})

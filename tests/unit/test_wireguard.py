"""WireGuard on a host, as far as it needs no kernel: what is read, and what may not be right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from podnet.backends.base import HostTools
from podnet.backends.document import plan_from_text
from podnet.backends.registry import BACKENDS, KINDS
from podnet.backends.wireguard.device import Peer, commands, fingerprint, key_file
from podnet.core.errors import PodnetError
from podnet.core.model import Plan
from podnet.plan import plan_run
from podnet.plan.allocations_file import Allocations, parse, render

KEY = "Nt5eyZrDNLClijudCK9Z71MH7SBRzWwdPcicwhv5mmc="
PRIVATE = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
PSK = "HxwdHhsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA="
PEERS = ["2uFRT/s54fibGyK5QshyrOt8zDpETncTGGWpoYdVbwU=", "b" * 42 + "w="]
FILE = key_file("podnet", KEY)

DUMP = f"""\
{PRIVATE}\t{KEY}\t51820\toff
{PEERS[1]}\t(none)\t(none)\t(none)\t0\t0\t0\t25
{PEERS[0]}\t{PSK}\t[2001:db8::12]:51820\tfd00::/64,10.244.1.0/24\t1764000000\t1\t2\toff
"""


class FakeHost:
    """What a host's tools would say; `files` are path -> (text, mode)."""

    def __init__(
        self,
        files: dict[str, tuple[str, int]] | None = None,
        live: str = "",
        makes: bool = True,
        names: dict[str, list[str]] | None = None,
    ) -> None:
        self.files = files or {}
        self.live = live
        self.makes = makes
        self.names = names or {}
        self.ran: list[str] = []
        self.tools = HostTools(
            lambda _argv, _check: [],
            self._output,
            lambda path: self.files[path][0] if path in self.files else None,
            lambda path: self.files[path][1],
            lambda directory: [path[len(directory) + 1 :] for path in self.files],
            lambda name, _family: self.names.get(name, []),
        )

    def _output(self, argv: Sequence[str], stdin: str) -> str | None:
        line = " ".join(argv)
        self.ran.append(line)
        if line == "wg pubkey":
            return f"{KEY}\n" if stdin.strip() == PRIVATE else f"{PEERS[0]}\n"
        if line == "wg genkey":
            return f"{PRIVATE}\n"
        if line.endswith("private-key"):
            return self.live or None
        if line.endswith("dump"):
            return DUMP
        if "type wireguard" in line:
            return "" if self.makes else None
        return ""


def make_plan(**variables: object) -> Plan:
    hosts = [
        {
            "name": f"n{number}",
            "ansible_host": f"192.0.2.1{number}",
            "inventory_dir": "/nowhere",
            "podnet_backend": "wireguard",
            **variables,
        }
        for number in (1, 2)
    ]
    return plan_from_text(plan_run.run(hosts, write=False, keys={"n1": KEY})["document"])


@pytest.mark.parametrize("kind", ["wireguard", "tun"])
def test_a_device_is_read(kind: str) -> None:
    tools = FakeHost().tools
    assert KINDS[kind].own_options("flannel-wg", tools) == f"listen-port 51820 public-key {KEY}"
    found = KINDS[kind].read("flannel-wg", tools)
    assert {key: Peer.read(entry) for key, entry in found.items()} == {
        ("flannel-wg", PEERS[0]): Peer(
            ("10.244.1.0/24", "fd00::/64"), ("[2001:db8::12]:51820",), 0, fingerprint(PSK)
        ),
        ("flannel-wg", PEERS[1]): Peer((), (), 25),
    }
    assert KINDS[kind].remote(found["flannel-wg", PEERS[0]]) == "2001:db8::12"
    assert KINDS[kind].remote(found["flannel-wg", PEERS[1]]) == ""
    assert not any(secret in str(found) for secret in (PRIVATE, PSK))


@pytest.mark.parametrize(
    ("host", "key", "wrong"),
    [
        (FakeHost({FILE: (f"{PRIVATE}\n", 0o600)}), KEY, ""),
        (FakeHost({FILE: (f"{PRIVATE}\n", 0o644)}), "", "has mode 0644"),
        (FakeHost({FILE: ("no key\n", 0o600)}), "", "does not hold the private key"),
        (FakeHost({FILE: (f"{PEERS[0]}\n", 0o600)}), "", "does not hold the private key"),
        (FakeHost(), "", ""),
        (FakeHost(live=f"{PRIVATE}\n"), KEY, ""),
        (FakeHost(live="(none)\n"), "", ""),
    ],
)
def test_the_hosts_own_key(host: FakeHost, key: str, wrong: str) -> None:
    plan = make_plan()
    facts = BACKENDS["wireguard"].facts(plan, plan.nodes["n1"], host.tools)
    assert (facts["keys"] or facts["live"]) == key
    assert wrong in facts.get("wrong", "")
    assert bool(wrong) == ("wrong" in facts)
    assert PRIVATE not in str(facts)


def test_a_lost_file_comes_back_from_the_device() -> None:
    backend, plan = BACKENDS["wireguard"], make_plan()
    there = FakeHost({FILE: (f"{PRIVATE}\n", 0o600)}, live=f"{PEERS[0]}\n")
    assert backend.secret_contents(plan, there.tools, {}) == {
        key_file("podnet", PEERS[0]): f"{PEERS[0]}\n"
    }
    assert backend.secret_contents(plan, FakeHost(live=f"{PRIVATE}\n").tools, {}) == {
        FILE: f"{PRIVATE}\n"
    }


@pytest.mark.parametrize(
    ("userspace", "makes", "way"),
    [(False, False, "kernel"), (True, True, "kernel"), (True, False, "userspace")],
)
def test_a_process_serves_only_where_the_kernel_cannot(
    userspace: bool, makes: bool, way: str
) -> None:
    plan = make_plan(podnet_wireguard_userspace=userspace)
    host = FakeHost(makes=makes)
    facts = BACKENDS["wireguard"].facts(plan, plan.nodes["n1"], host.tools)
    assert facts["way"] == way
    assert ("wireguard-go --version" in host.ran) == (way == "userspace")


def test_names_of_peers_are_resolved_on_the_host() -> None:
    plan = make_plan(podnet_wireguard_endpoint="peer.example.com")
    host = FakeHost(names={"peer.example.com": ["192.0.2.1", "192.0.2.2"]})
    facts = BACKENDS["wireguard"].facts(plan, plan.nodes["n1"], host.tools)
    assert facts["at peer.example.com"] == "192.0.2.1|192.0.2.2"


def test_a_shared_key_is_the_plans() -> None:
    backend, plan = BACKENDS["wireguard"], make_plan(podnet_wireguard_psk=PSK)
    tools = FakeHost({FILE: (PRIVATE, 0o600)}).tools
    path = "/etc/podnet/podnet/wireguard.psk"
    assert backend.secret_contents(plan, tools, {"psk": PSK}) == {path: f"{PSK}\n"}
    with pytest.raises(PodnetError, match="not the key that the plan was made with"):
        backend.secret_contents(plan, tools, {"psk": PRIVATE})
    assert PSK not in str(plan.to_document())


def test_a_new_key_pair() -> None:
    made = BACKENDS["wireguard"].new_key("podnet", FakeHost().tools)
    assert made == (FILE, f"{PRIVATE}\n", KEY)


class Clock:
    """Time that passes where the code waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    monotonic = time

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("name", "peer", "expected"),
    [
        pytest.param("n1", (0.3, None), (True, 0.3, False), id="who is first begins"),
        pytest.param("n2", (0.3, None), (False, 0.3, False), id="the second one waits"),
        pytest.param("n2", (4.0, None), (True, 4.0, False), id="and begins where none comes"),
        pytest.param("n1", (99.0, None), (True, 11.0, True), id="nobody answers"),
        pytest.param("n1", (0.3, 30.0), (False, 0.0, False), id="a session that holds"),
        pytest.param("n1", (0.3, 150.0), (True, 0.3, False), id="an old session"),
        pytest.param("n1", (0.3, -1.0), (False, 0.0, False), id="no such peer or device"),
    ],
)
def test_one_of_two_begins(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    peer: tuple[float, float | None],
    expected: tuple[bool, float, bool],
) -> None:
    """`peer` is when it answers and how old its session is, None for none, negative for no peer.

    `expected` is whether the host begins, how long it takes, whether a peer is told as silent.
    """
    answers_at, age = peer
    begins, takes, late = expected
    clock = Clock()
    monkeypatch.setattr("podnet.backends.wireguard.host.time", clock)
    plan = make_plan()
    nodes = {
        one.name: one if one.name == name else replace(one, key=PEERS[0])
        for one in plan.nodes.values()
    }
    plan = replace(plan, nodes=nodes)
    last = 0.0 if age is None else clock.now - age
    ran: list[str] = []

    def output(argv: Sequence[str], _stdin: str) -> str:
        ran.append(" ".join(argv))
        if "latest-handshakes" not in argv or (age is not None and age < 0):
            return ""
        return f"{PEERS[0]}\t{clock.now if clock.now >= 1000 + answers_at else last}\n"

    tools = FakeHost().tools._replace(output=output)
    said = BACKENDS["wireguard"].warm_up(plan, plan.nodes[name], tools)
    assert takes <= clock.now - 1000 <= takes + 0.4
    sent = [line for line in ran if "persistent-keepalive 25" in line]
    assert len(sent) == begins
    assert bool(said) == late


def test_many_peers_take_few_commands() -> None:
    lines = ["set wg0 listen-port 1"] + [f"set wg0 peer {one} remove" for one in range(250)]
    lines += ["set wg1 peer x remove"]
    found = commands(lines)
    assert [argv[:3] for argv in found] == [["wg", "set", "wg0"]] * 4 + [["wg", "set", "wg1"]]
    assert sum(argv.count("peer") for argv in found) == 251


ALLOCATIONS = Allocations(
    "podnet",
    cluster_cidr="10.244.0.0/16",
    node_prefix=24,
    nodes={"n1": ("10.244.0.0/24", ""), "n2": ("10.244.1.0/24", "")},
    keys={"n1": KEY, "n2": PEERS[0]},
)


def test_keys_live_in_the_file_and_go_with_their_hosts(tmp_path: object) -> None:
    path = f"{tmp_path}/podnet_allocations.yml"
    hosts = [
        {"name": name, "ansible_host": f"192.0.2.{number}", "inventory_dir": str(tmp_path)}
        for number, name in ((11, "n1"), (12, "n2"))
    ]

    def keys() -> dict[str, str]:
        with open(path) as file:  # noqa: PTH123
            return parse(file.read(), path).keys

    with open(path, "w") as file:  # noqa: PTH123
        file.write(render(ALLOCATIONS))
    encrypted = [{**one, "podnet_backend": "wireguard"} for one in hosts]
    plan_run.run(encrypted)
    assert keys() == {"n1": KEY, "n2": PEERS[0]}
    assert plan_run.forget(hosts, ["n2"])["changed"]
    assert keys() == {"n1": KEY}
    assert not plan_run.forget(hosts, ["n2"])["changed"]
    assert plan_run.run(encrypted, write=False)["keyless"] == ["n2"]
    plan_run.run(encrypted, keys={"n2": PEERS[0]})
    assert keys() == {"n1": KEY, "n2": PEERS[0]}
    # Another backend has no keys, and hosts remove theirs.
    plan_run.run(hosts)
    assert keys() == {}


def test_two_hosts_with_one_key_pair_are_told(tmp_path: object) -> None:
    hosts = [
        {
            "name": name,
            "ansible_host": f"192.0.2.{number}",
            "inventory_dir": str(tmp_path),
            "podnet_backend": "wireguard",
        }
        for number, name in ((11, "n1"), (12, "n2"))
    ]
    with pytest.raises(PodnetError, match="n2: it has the key pair of n1, as a cloned machine has"):
        plan_run.run(hosts, keys={"n1": KEY, "n2": KEY})

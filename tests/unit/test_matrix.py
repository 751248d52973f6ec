from __future__ import annotations

from typing import Any

import pytest
from podnet.run import matrix

DOCUMENT = {
    "name": "podnet",
    "backend": "vxlan",
    "nodes": [{"name": f"n{number}"} for number in range(1, 61)],
}


def pod(number: int, six: bool = False) -> dict[str, Any]:
    return {
        "pod": {
            "address": f"10.244.{number}.5",
            "address6": f"fd00:{number}::5" if six else "",
            "mtu": 1450,
            "udp": 5000,
            "tcp": 5001,
        }
    }


def failure(kind: str, node: str, address: str, word: str, what: str = "nothing passes") -> Any:
    family = 6 if ":" in address else 4
    return {
        "kind": kind,
        "node": node,
        "family": family,
        "address": address,
        "word": word,
        "what": what,
    }


def asked(*failures: Any, notes: tuple[str, ...] = (), outside: tuple[str, ...] = ("x",)) -> Any:
    return {
        "asked": 8,
        "answered": 8 - len(failures),
        "failures": list(failures),
        "notes": list(notes),
        "outside": list(outside),
    }


def test_targets_leave_out_hosts_without_a_pod() -> None:
    made = {"n1": pod(1), "n2": None, "n3": {"failed": True}, "n4": {"unreachable": True}}
    assert matrix.pods(made) == {
        "n1": {"address": "10.244.1.5", "address6": "", "mtu": 1450, "udp": 5000, "tcp": 5001}
    }


def test_all_well() -> None:
    made = {f"n{number}": pod(number) for number in (1, 2)}
    found = matrix.report(DOCUMENT, made, {"n1": asked(), "n2": asked(notes=("a note",))})
    assert found.failures == []
    assert found.lines == [
        "Network podnet (vxlan), 2 hosts: probed by ICMP, UDP and TCP over IPv4 at 84 bytes (small) "
        "and at the pods' MTU (full: 1450), fragmentation forbidden",
        "Not in this run, so not probed: n3, n4, n5, n6, n7, n8, n9, n10, n11, n12 and 48 more "
        "(the plan has 60 hosts)",
        "from  to:   n1  n2  gateway  outside",
        "n1    pod   -   ok  ok       ok",
        "n1    host  -   ok  -        -",
        "n2    pod   ok  -   ok       ok",
        "n2    host  ok  -   -        -",
        "a note [n2]",
        "16 of 16 probes were answered.",
    ]


def test_single_node() -> None:
    found = matrix.report(dict(DOCUMENT, nodes=[{"name": "n1"}]), {"n1": pod(1)}, {"n1": asked()})
    assert found.failures == []
    assert found.lines[1:4] == [
        "from  to:   n1  gateway  outside",
        "n1    pod   -   ok       ok",
        "n1    host  -   -        -",
    ]


def test_failures_name_direction_and_size() -> None:
    made = {"n1": pod(1, six=True), "n2": pod(2, six=True)}
    small = "full size (1450 bytes): no reply; small is ok"
    probed = {
        "n1": asked(
            failure("pod", "n2", "10.244.2.5", "small", small),
            failure("pod", "n2", "fd00:2::5", "no-tcp", "TCP: no reply; UDP and ICMP pass"),
            failure("host", "n2", "10.244.2.5", "small", small),
        ),
        "n2": asked(
            failure("pod", "n1", "10.244.1.5", "no"),
            failure("pod", "n1", "fd00:1::5", "ping"),
            failure("gateway", "n2", "fd00:2::1", "no", "small and full size: no reply"),
            failure("outside", "", "192.0.2.1", "no", "no reply"),
        ),
    }
    found = matrix.report(DOCUMENT, made, probed)
    assert found.failures == [
        f"n1 -> n2 (pod IPv4, host IPv4): {small}",
        "n1 -> n2 (pod IPv6): TCP: no reply; UDP and ICMP pass",
        "n2 -> n1 (pod IPv4, pod IPv6): nothing passes",
        "n2 -> its own gateway (IPv6): small and full size: no reply",
        "n2 -> outside (IPv4 192.0.2.1): no reply",
        "Where small is ok and full size is not, the path carries less than the pods' MTU: lower "
        "podnet_mtu, or raise the MTU of the underlay.",
    ]
    assert found.lines[2:8] == [
        "from  to:   n1           n2                gateway    outside",
        "n1    pod   -            4:small 6:no-tcp  ok         ok",
        "n1    host  -            4:small 6:ok      -          -",
        "n2    pod   4:no 6:ping  -                 4:ok 6:no  no",
        "n2    host  ok           -                 -          -",
        "(ok: all arrives; small: only small packets pass; no: nothing passes; ping: ICMP passes, "
        "TCP and UDP do not; no-tcp: UDP passes, TCP does not; ?: not probed; -: not asked)",
    ]
    assert found.lines[-1] == "9 of 16 probes were answered."


def test_a_fault_of_one_direction_says_so() -> None:
    made = {"n1": pod(1), "n2": pod(2), "n3": None}
    probed = {
        "n1": asked(failure("pod", "n2", "10.244.2.5", "no")),
        "n2": asked(failure("pod", "n3", "10.244.3.5", "no")),
        "n3": None,
    }
    found = matrix.report(DOCUMENT, made, probed)
    assert found.failures[1:] == [
        "n1 -> n2 (pod IPv4): nothing passes; n2 -> n1 works",
        # What n3 would say is not known.
        "n2 -> n3 (pod IPv4): nothing passes",
    ]


def told(hosts: int, failing: set[tuple[int, int]], **peers: list[str]) -> list[str]:
    """Return what is said when these ways of `hosts` hosts fail, for pods and hosts alike."""
    made = {f"n{number}": pod(number) for number in range(1, hosts + 1)}
    probed = {}
    for source in range(1, hosts + 1):
        mine = [node for node in range(1, hosts + 1) if (source, node) in failing]
        probed[f"n{source}"] = asked(
            *(
                failure(kind, f"n{node}", f"10.244.{node}.5", "no")
                for node in mine
                for kind in ("pod", "host")
            )
        )
        if f"n{source}" in peers:
            probed[f"n{source}"]["peers"] = peers[f"n{source}"]
    return matrix.report(DOCUMENT, made, probed).failures


ALL_FOUR = {(one, other) for one in range(1, 5) for other in range(1, 5) if one != other}
WHO = "(pod IPv4, host IPv4): nothing passes"


@pytest.mark.parametrize(
    ("failing", "lines"),
    [
        (ALL_FOUR, [f"every host -> every other {WHO}"]),
        ({way for way in ALL_FOUR if 2 in way}, [f"n2 <-> every other host {WHO}"]),
        (
            {way for way in ALL_FOUR if way[1] == 2},
            [
                "n2 <- every other host (pod IPv4): nothing passes; the other direction works",
                "n2 <- every other host (host IPv4): nothing passes",
            ],
        ),
        (
            {way for way in ALL_FOUR if way[0] == 2},
            [
                "n2 -> every other host (pod IPv4): nothing passes; the other direction works",
                "n2 -> every other host (host IPv4): nothing passes",
            ],
        ),
        (
            {way for way in ALL_FOUR if 2 in way} | {(1, 3), (3, 1)},
            [f"n2 <-> every other host {WHO}", f"n1 -> n3 {WHO}", f"n3 -> n1 {WHO}"],
        ),
        # Two of three others: not all.
        (
            {(1, 2), (2, 1), (2, 3), (3, 2)},
            [f"n1 -> n2 {WHO}", f"n2 -> n1 {WHO}", f"n2 -> n3 {WHO}", f"n3 -> n2 {WHO}"],
        ),
    ],
)
def test_what_fails_alike_is_said_once(failing: set[tuple[int, int]], lines: list[str]) -> None:
    assert told(4, failing) == lines


def test_pairs_that_were_not_asked_prove_nothing() -> None:
    ring = {"n1": ["n2", "n4"], "n2": ["n1"], "n3": ["n4"], "n4": ["n1", "n3"]}
    assert told(4, {(1, 2)}, **ring) == [
        "n1 -> n2 (pod IPv4): nothing passes; n2 -> n1 works",
        "n1 -> n2 (host IPv4): nothing passes",
    ]
    # n3 was asked by nobody but n4.
    assert told(4, {(4, 3)}, **{**ring, "n3": []}) == [f"n4 -> n3 {WHO}"]
    made = {f"n{number}": pod(number) for number in range(1, 5)}
    probed = {name: {**asked(), "peers": peers} for name, peers in ring.items()}
    found = matrix.report(DOCUMENT, made, probed)
    assert found.failures == []
    assert found.lines[1] == "6 of 12 ways between hosts were asked (podnet_probe_pairs)"
    assert found.lines[3:6] == [
        "from  to:   n1  n2  n3  n4  gateway  outside",
        "n1    pod   -   ok  -   ok  ok       ok",
        "n1    host  -   ok  -   ok  -        -",
    ]


@pytest.mark.parametrize(
    ("word", "cure"),
    [("ping", True), ("no-tcp", True), ("bulk", True), ("no", False), ("small", False)],
)
def test_suspects_are_named_where_tcp_alone_fails(word: str, cure: bool) -> None:
    made = {"n1": pod(1), "n2": pod(2)}
    probed = {"n1": asked(failure("pod", "n2", "10.244.2.5", word)), "n2": asked()}
    found = matrix.report(DOCUMENT, made, probed, "Try this.")
    assert ("Try this." in found.failures) is cure


@pytest.mark.parametrize(
    ("made", "probed", "reason"),
    [
        (None, None, "it did not take part (unreachable, or an earlier step failed)"),
        ({"unreachable": True}, None, "unreachable"),
        ({"failed": True, "msg": "no bridge"}, {"skipped": True}, "no bridge"),
        (pod(2), {"failed": True, "msg": "gone"}, "gone"),
        (pod(2), {"unreachable": True}, "unreachable"),
        (pod(2), {"skipped": True}, "it gave no results"),
    ],
)
def test_hosts_without_results_are_failures(made: Any, probed: Any, reason: str) -> None:
    found = matrix.report(DOCUMENT, {"n1": pod(1), "n2": made}, {"n1": asked(), "n2": probed})
    assert found.failures == [f"n2: not probed: {reason}"]
    assert found.lines[5].startswith("n2    pod   ?")


def test_many_hosts_print_failing_pairs_only() -> None:
    names = [f"n{number}" for number in range(1, 61)]
    made = {name: pod(number) for number, name in enumerate(names)}
    probed = {
        name: asked(
            *(failure("pod", other, "10.244.9.5", "no", f"as {name} says") for other in names[:4])
        )
        for name in names
    }
    found = matrix.report(DOCUMENT, made, probed)
    assert len(found.lines) == 2
    assert len(found.failures) == matrix.MOST_LINES + 1
    assert found.failures[-1] == "... and 140 more"

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from podnet.core import endpoints
from podnet.core.endpoints import Entry, assign
from podnet.core.errors import PodnetError
from podnet.core.model import Cni, Endpoint, Node, Plan
from podnet.state import endpoint_diff
from podnet.state.endpoint_diff import HostEnd, InnerEnd, Seen


def planned(
    *those: Endpoint,
    subnet: str = "10.244.0.0/24",
    subnet6: str = "",
    reserved: tuple[str, ...] = (),
) -> Plan:
    node = Node(
        "n1", "192.0.2.11", subnet=subnet, subnet6=subnet6, endpoints=those, reserved=reserved
    )
    return Plan(
        "podnet", "10.244.0.0/16", "fd00:244::/48", "host-gw", {}, "cni0", "auto", True, 4, Cni(),
        {"n1": node},
    )  # fmt: skip


def entry(name: str = "web", address: str = "10.244.0.80", **fields: object) -> Entry:
    return Entry(name, "cni0", 1450, address, subnet="10.244.0.0/24", **fields)  # type: ignore[arg-type]


def found(
    plan: Plan, recorded: list[Entry] | None = None, leased: str = "", only: Endpoint | None = None
) -> dict[str, str]:
    known = {one.name: one for one in recorded or []}
    result = assign(plan, plan.nodes["n1"], 1450, known, leased.split(), only=only)
    return {
        name: " ".join(address for address, _ in one.legs) + ("" if one.declared else " by hand")
        for name, one in result.items()
    }


A, B = Endpoint("a"), Endpoint("b")


def test_declared_then_recorded_then_the_highest_free() -> None:
    assert found(planned(A, B)) == {"a": "10.244.0.254", "b": "10.244.0.253"}
    assert found(planned(A, B), leased="10.244.0.254") == {
        "a": "10.244.0.253",
        "b": "10.244.0.252",
    }
    # A newcomer that is listed first does not take what the older one has.
    assert found(planned(A, B), [entry("b", "10.244.0.254")]) == {
        "a": "10.244.0.253",
        "b": "10.244.0.254",
    }
    assert found(planned(A, Endpoint("b", "10.244.0.254"))) == {
        "a": "10.244.0.253",
        "b": "10.244.0.254",
    }
    # The node got another subnet.
    assert found(
        planned(A),
        [
            entry(
                "a",
                "10.9.0.7",
            )
        ],
    ) == {"a": "10.244.0.254"}


def test_what_is_reserved_is_for_those_who_ask_for_it() -> None:
    plan = planned(
        A, Endpoint("b", "10.244.0.250"), subnet6="fd00::/64",
        reserved=("10.244.0.200-10.244.0.254", "fd00::-fd00::ffff:ffff:ffff:fff0"),
    )  # fmt: skip
    assert found(plan) == {
        "a": "10.244.0.199 fd00::ffff:ffff:ffff:ffff",
        "b": "10.244.0.250 fd00::ffff:ffff:ffff:fffe",
    }
    # Who has one keeps it.
    plan = planned(A, reserved=("10.244.0.200-10.244.0.254",))
    assert found(plan, [entry("a", "10.244.0.253")]) == {"a": "10.244.0.253"}
    with pytest.raises(PodnetError, match=r"no address of 10\.244\.0\.0/24 is free"):
        found(planned(A, reserved=("10.244.0.0-10.244.0.255",)))


def test_dual_stack_and_six_only() -> None:
    both = planned(A, subnet6="fd00:244::/64")
    assert found(both) == {"a": "10.244.0.254 fd00:244::ffff:ffff:ffff:ffff"}
    # The second family is added later: the first stays.
    assert found(both, [entry("a")]) == {"a": "10.244.0.80 fd00:244::ffff:ffff:ffff:ffff"}
    six = planned(A, subnet="", subnet6="fd00:244::/64")
    assert found(six, [entry("a")]) == {"a": "fd00:244::ffff:ffff:ffff:ffff"}


def test_those_made_by_hand_stay_in_a_run_of_the_list() -> None:
    hand = entry("h", "10.244.0.90", declared=False)
    gone = entry("gone", "10.244.0.91")
    assert found(planned(A), [hand, gone]) == {"a": "10.244.0.254", "h": "10.244.0.90 by hand"}
    # The plan takes it up later.
    assert found(planned(Endpoint("h")), [hand]) == {"h": "10.244.0.90"}


def test_one_by_name_leaves_the_others_as_they_are() -> None:
    plan = planned(A, Endpoint("later", "10.244.0.254"))
    assert found(plan, [entry("a", "10.244.0.253")], only=Endpoint("h")) == {
        "a": "10.244.0.253",
        "h": "10.244.0.252 by hand",
    }
    assert found(plan, only=Endpoint("later")) == {"later": "10.244.0.254"}
    assert found(plan, [entry("h", "10.244.0.9", declared=False)], only=Endpoint("h")) == {
        "h": "10.244.0.9 by hand"
    }


@pytest.mark.parametrize(
    ("plan", "recorded", "leased", "only", "message"),
    [
        (planned(Endpoint("a", "10.244.0.9")), [], "10.244.0.9", None, "in use by a pod"),
        (planned(), [], "10.244.0.9", Endpoint("h", "10.244.0.9"), "in use by a pod"),
        (
            planned(Endpoint("a", "10.244.0.9"), Endpoint("b", "10.244.0.9")),
            [], "", None, "is that of endpoint a, too",
        ),
        (
            planned(Endpoint("a", "10.244.0.9")),
            [entry("h", "10.244.0.9", declared=False)], "", None, "is that of endpoint a, too",
        ),
        (
            planned(Endpoint("a", "10.244.0.9")), [], "",
            Endpoint("h", "10.244.0.9"), "is that of endpoint a, too",
        ),
        (planned(Endpoint("a", "10.244.0.9")), [], "", Endpoint("a", "10.244.0.8"), "the plan says"),
        (planned(), [], "", Endpoint("h", "10.244.1.9"), "not in the node's subnet 10.244.0.0/24"),
        (planned(), [], "", Endpoint("h", "10.244.0.0"), "is the subnet itself"),
        (planned(), [], "", Endpoint("h", "10.244.0.1"), "is the node.s gateway"),
        (planned(), [], "", Endpoint("h", "10.244.0.255"), "is the broadcast address"),
        (planned(), [], "", Endpoint("h", "", "fd00::9"), "a family that pods do not have"),
        (planned(A, B, subnet="10.244.0.0/30"), [], "", None, "no address of 10.244.0.0/30 is free"),
        (planned(Endpoint("much-too-long")), [], "", None, "1 to 12 letters"),
        (planned(Endpoint("a.b")), [], "", None, "1 to 12 letters"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_one_clear_error(
    plan: Plan, recorded: list[Entry], leased: str, only: Endpoint | None, message: str
) -> None:
    with pytest.raises(PodnetError, match=message) as caught:
        found(plan, recorded, leased, only)
    assert str(caught.value).startswith("n1: ")


@given(
    st.lists(st.integers(0, 15), unique=True, max_size=6),
    st.lists(st.integers(0, 15), unique=True, max_size=6),
    st.lists(st.integers(2, 14), unique=True, max_size=6),
)
def test_addresses_are_distinct_free_and_stable(
    names: list[int], old: list[int], leased: list[int]
) -> None:
    plan = planned(*(Endpoint(f"e{one}") for one in names), subnet="10.244.0.0/28")
    node = plan.nodes["n1"]
    busy = [f"10.244.0.{one}" for one in leased]
    recorded = {
        f"e{one}": entry(f"e{one}", f"10.244.0.{14 - place}") for place, one in enumerate(old)
    }
    busy = [one for one in busy if one not in {known.address for known in recorded.values()}]
    try:
        first = assign(plan, node, 1450, recorded, busy)
    except PodnetError as error:
        assert "is free" in str(error)
        return
    given_out = [one.address for one in first.values()]
    assert len(set(given_out)) == len(given_out)
    assert not set(given_out) & {*busy, "10.244.0.0", "10.244.0.1", "10.244.0.15"}
    assert all(first[name].address == recorded[name].address for name in first if name in recorded)
    assert assign(plan, node, 1450, first, busy) == first
    assert endpoints.parse(endpoints.dump(first), "x") == first


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"web": {"bridge": "cni0", "mtu": 1450}}',
        '{"web": {"bridge": "a b", "mtu": 1450, "address": "10.0.0.9", "subnet": "10.0.0.0/24"}}',
        '{"we b": {"bridge": "b", "mtu": 1450, "address": "10.0.0.9", "subnet": "10.0.0.0/24"}}',
        '{"web": {"bridge": "b", "mtu": "1", "address": "10.0.0.9", "subnet": "10.0.0.0/24"}}',
        '{"web": {"bridge": "b", "mtu": 1450, "address": "10.0.0.9 x", "subnet": "10.0.0.0/24"}}',
        '{"web": {"bridge": "b", "mtu": 1450, "address": "10.1.0.9", "subnet": "10.0.0.0/24"}}',
        '{"web": {"bridge": "b", "mtu": 1450, "address": "10.0.0.9", "subnet": "x"}}',
        '{"web": {"more": 1}}',
    ],
)
def test_a_damaged_record_is_one_error(text: str) -> None:
    with pytest.raises(PodnetError, match=r"endpoints\.json: damaged"):
        endpoints.parse(text, "endpoints.json")


def test_asked_addresses_become_canonical() -> None:
    assert endpoints.asked("a", None, "FD00:0::9") == Endpoint("a", "", "fd00::9")
    for bad in ("10.0.0", "10.0.0.9/24", "fd00::9", "10.0.0.9\n"):
        with pytest.raises(PodnetError, match="no IPv4 address"):
            endpoints.asked("a", bad, None)


def test_macs_are_local_unicast_and_stable() -> None:
    assert entry().mac == "0a:58:0a:f4:00:50"
    six = Entry("a", "cni0", 1450, address6="fd00:244::1:2", subnet6="fd00:244::/64")
    assert six.mac == "0e:00:00:01:00:02"


WEB = entry()
HOST = HostEnd(1450, "cni0", "podnet-endpoint:podnet:web", True)
INNER = InnerEnd(
    WEB.mac, 1450, True, ["10.244.0.80/24"], {(4, "default"): "via 10.244.0.1 dev eth0"}
)
GOOD = Seen("there", HOST, INNER, lo_up=True)


def lines(seen: Seen, one: Entry = WEB) -> list[str]:
    todo = endpoint_diff.changes("podnet", one, seen, ["10.244.0.0/16", ""])
    return [f"{change.tool}: {line}" for change in todo for line in change.lines]


def test_a_new_endpoint_from_nothing() -> None:
    assert lines(Seen()) == [
        "ip: netns add web",
        "ip: link add ep-web mtu 1450 type veth peer name eth0 address 0a:58:0a:f4:00:50 "
        "mtu 1450 netns web",
        "ip: link set dev ep-web alias podnet-endpoint:podnet:web",
        "ip: link set dev ep-web master cni0",
        "ip: link set dev ep-web up",
        "ip -n web: link set dev lo up",
        "ip -n web: link set dev eth0 address 0a:58:0a:f4:00:50 mtu 1450 up",
        "ip -n web: addr replace 10.244.0.80/24 dev eth0",
        "ip -n web: route replace default via 10.244.0.1 dev eth0 proto 112",
    ]


def test_nothing_to_do() -> None:
    assert lines(GOOD) == []
    other = InnerEnd(INNER.mac, 1450, True, [*INNER.addresses, "192.0.2.9/32"], INNER.routes)
    assert lines(Seen("there", HOST, other, lo_up=True)) == []


def test_a_pair_that_is_not_connected_is_made_anew_in_the_old_namespace() -> None:
    todo = lines(Seen("there", HOST, None, lo_up=True))
    assert todo[0] == "ip: link del dev ep-web"
    assert not any("netns add" in line or "lo up" in line for line in todo)
    assert lines(Seen("stale"))[:2] == ["ip: netns del web", "ip: netns add web"]


def test_an_address_that_goes_takes_its_neighbours_and_routes_so_they_are_set_again() -> None:
    old = InnerEnd(INNER.mac, 1450, True, ["10.244.0.7/24", "10.244.0.80/24"], INNER.routes)
    assert lines(Seen("there", HOST, old, lo_up=True)) == [
        "ip -n web: addr del 10.244.0.7/24 dev eth0",
        "ip -n web: addr replace 10.244.0.80/24 dev eth0",
        "ip -n web: route replace default via 10.244.0.1 dev eth0 proto 112",
    ]


def test_default_routes_of_others_go() -> None:
    routes = {
        **INNER.routes,
        (4, "default metric 9"): "type unreachable proto boot",
        (6, "default metric 9"): "dev eth0 proto boot",
    }
    inner = InnerEnd(INNER.mac, 1450, True, INNER.addresses, routes)
    assert lines(Seen("there", HOST, inner, lo_up=True)) == [
        "ip -4 -n web: route del unreachable default metric 9 proto boot",
        "ip -6 -n web: route del default metric 9 dev eth0 proto boot",
    ]


def test_only_what_differs_is_set() -> None:
    host = HOST._replace(mtu=1500, master="", up=False, alias="")
    inner = InnerEnd(INNER.mac, 1500, True, INNER.addresses, INNER.routes)
    assert lines(Seen("there", host, inner, lo_up=True)) == [
        "ip: link set dev ep-web alias podnet-endpoint:podnet:web",
        "ip: link set dev ep-web mtu 1450",
        "ip: link set dev ep-web master cni0",
        "ip: link set dev ep-web up",
        "ip -n web: link set dev eth0 address 0a:58:0a:f4:00:50 mtu 1450 up",
    ]


def test_removal_takes_the_pair_before_the_namespace() -> None:
    todo = endpoint_diff.removal("web", GOOD)
    assert [change.lines[0] for change in todo] == ["link del dev ep-web", "netns del web"]
    assert endpoint_diff.removal("web", Seen()) == []


def test_boot_files_do_not_depend_on_the_order() -> None:
    one, two = {"a": entry("a"), "b": entry("b")}, {"b": entry("b"), "a": entry("a")}
    assert endpoint_diff.boot_files("podnet", one) == endpoint_diff.boot_files("podnet", two)
    assert endpoint_diff.boot_files("podnet", {}) == {}
    made = endpoint_diff.boot_files("podnet", one)
    assert set(made) == set(endpoint_diff.BOOT_FILES)
    inside = made["endpoints-inside.batch"].splitlines()
    assert all(line.startswith(("netns exec a ip ", "netns exec b ip ")) for line in inside)
    assert "netns exec" not in made["endpoints.batch"]

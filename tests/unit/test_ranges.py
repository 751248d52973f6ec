"""Ranges of addresses: one spelling, and what they leave of a subnet."""

from __future__ import annotations

import ipaddress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from podnet.core.model import is_range, unpack
from podnet.core.ranges import Range, free, of_cidr, parse, usable
from podnet.plan.checks import cidrs, reserved


@pytest.mark.parametrize(
    "text",
    [
        "10.244.0.9",
        "10.244.0.9-10.244.0.20",
        "fd00::9",
        "fd00::9-fd00::1:0",
        "0.0.0.0-255.255.255.255",
    ],
)
def test_one_spelling(text: str) -> None:
    assert is_range(text)
    assert parse(text).text() == text


@pytest.mark.parametrize(
    "text",
    [
        "", "-", "10.244.0.9-", "-10.244.0.9", "10.244.0.20-10.244.0.9", "10.244.0.9-10.244.0.9",
        "10.244.0.9-fd00::9", "10.244.0.9 - 10.244.0.20", "10.244.0.0/24", "FD00::9", "fd00:0::9",
        "10.244.0.9-10.244.0.20-10.244.0.30", "010.244.0.9", "10.244.0.9\n", None, 9, ["10.244.0.9"],
    ],
)  # fmt: skip
def test_everything_else_is_refused(text: object) -> None:
    assert not is_range(text)
    with pytest.raises(ValueError, match="not a range of addresses"):
        parse(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cidr", "expected"),
    [
        ("10.244.0.0/24", ("10.244.0.2", "10.244.0.254")),
        ("10.244.0.4/30", ("10.244.0.6", "10.244.0.6")),
        ("fd00::/126", ("fd00::2", "fd00::3")),
        ("fd00::/64", ("fd00::2", "fd00::ffff:ffff:ffff:ffff")),
    ],
)
def test_what_is_usable(cidr: str, expected: tuple[str, str]) -> None:
    assert usable(cidr).ends() == expected
    assert of_cidr(cidr).cidr() == cidr


@st.composite
def situations(draw: st.DrawFn) -> tuple[str, list[Range]]:
    """Draw a small subnet, and ranges in it, over its edges and beside it."""
    size = draw(st.sampled_from([4, 16]))
    bits = draw(st.integers(2, 9))
    base = draw(st.integers(2, 2 ** (size * 8 - bits) - 3)) << bits
    ends = st.integers(-3, 2**bits + 2)
    pairs = draw(st.lists(st.tuples(ends, ends), max_size=8))
    taken = [Range(size, base + min(pair), base + max(pair)) for pair in pairs]
    return f"{unpack(base.to_bytes(size, 'big'))}/{size * 8 - bits}", taken


def numbers(spans: list[Range]) -> list[int]:
    return [one for span in spans for one in range(span.first, span.last + 1)]


@given(situations())
def test_free_and_taken_are_the_whole_subnet(drawn: tuple[str, list[Range]]) -> None:
    subnet, taken = drawn
    found = free(subnet, [one.text() for one in taken])
    handed = numbers(found)
    assert len(handed) == len(set(handed))
    assert handed == sorted(handed)
    network = ipaddress.ip_network(subnet)
    own = {int(network.network_address), int(network.network_address) + 1}
    if network.version == 4:
        own.add(int(network.broadcast_address))
    inside = set(numbers([of_cidr(subnet)]))
    held = set(numbers(taken)) & inside
    assert set(handed) | held | own == inside
    assert not set(handed) & (held | own)
    # Neighbours are one range: host-local goes through as few as there can be.
    assert all(one.last + 1 < other.first for one, other in pairwise(found))


def test_a_large_range_costs_nothing() -> None:
    left = free("fd00::/64", ["fd00::-fd00::ffff:ffff:ffff:fffe", "10.244.0.9"])
    assert [one.text() for one in left] == ["fd00::ffff:ffff:ffff:ffff"]


@given(situations())
def test_the_inventory_is_read_as_it_was_written(drawn: tuple[str, list[Range]]) -> None:
    texts = [one.text() for one in drawn[1]]
    assert reserved(texts) == list(dict.fromkeys(texts))
    assert reserved(", ".join(texts)) == list(dict.fromkeys(texts))
    assert reserved([drawn[0]]) == [of_cidr(drawn[0]).text()]


small = st.tuples(st.integers(0, 255), st.integers(24, 32)).map(
    lambda one: ipaddress.ip_network((f"10.0.0.{one[0]}", one[1]), strict=False)
)


@given(st.lists(small, max_size=8))
def test_cidrs_are_reduced_to_those_that_count(networks: list[ipaddress.IPv4Network]) -> None:
    given_ = [str(one) for one in networks]
    found = [ipaddress.ip_network(one) for one in cidrs(given_)]
    assert set(map(str, found)) <= set(given_)
    assert {one for net in networks for one in net} == {one for net in found for one in net}
    assert not any(one.overlaps(two) for one in found for two in found if one is not two)
    assert cidrs(given_[::-1]) == cidrs(given_)

"""Who has which address in a lab."""

import ipaddress

import pytest

from lab.addresses import Layout, check_lab_name, host_number, layout_for
from lab.errors import LabError


def test_one_segment() -> None:
    host = Layout().host("n3")
    assert host.interface == "192.0.2.13/24"
    assert host.interface6 == "2001:db8:1::13/64"
    assert host.segment.bridge == "seg1"
    assert host.segment.router == "192.0.2.1"
    assert host.segment.router6 == "2001:db8:1::1"


def test_two_segments_alternate() -> None:
    hosts = [Layout(segments=2).host(f"n{number}") for number in (1, 2, 3, 4)]
    assert [host.segment.bridge for host in hosts] == ["seg1", "seg2", "seg1", "seg2"]
    assert hosts[1].interface == "198.51.100.12/24"
    assert hosts[1].interface6 == "2001:db8:2::12/64"


@pytest.mark.parametrize(("hosts", "wide"), [(1, False), (240, False), (241, True), (4096, True)])
def test_all_addresses_are_in_their_segment_and_differ(hosts: int, wide: bool) -> None:
    layout = layout_for(hosts, segments=2)
    assert layout.wide is wide
    made = [layout.host(f"n{number}") for number in range(1, hosts + 1)]
    assert len({host.address for host in made} | {host.address6 for host in made}) == 2 * hosts
    for host in made:
        network = host.segment.network
        assert ipaddress.ip_address(host.address) in network
        assert host.address not in (host.segment.router, str(network.broadcast_address))
        assert ipaddress.ip_address(host.address6) in host.segment.network6


def test_a_narrow_lab_has_no_room_for_more() -> None:
    with pytest.raises(LabError, match=r"n241.*more than 240 hosts"):
        Layout().host("n241")


@pytest.mark.parametrize(("hosts", "segments"), [(0, 1), (-1, 1), (4097, 1), (3, 0), (3, 3)])
def test_what_no_lab_can_be(hosts: int, segments: int) -> None:
    with pytest.raises(LabError):
        layout_for(hosts, segments)


@pytest.mark.parametrize(
    "name", ["", "n0", "n01", "n", "N1", "m1", "n1\n", "n1/..", "n99999", "n-1"]
)
def test_what_no_host_is_called(name: str) -> None:
    with pytest.raises(LabError, match="named n1, n2"):
        host_number(name)


@pytest.mark.parametrize("name", ["", "Lab", "1lab", "lab/x", "lab x", "..", "l" * 21, "lab\n"])
def test_what_no_lab_is_called(name: str) -> None:
    with pytest.raises(LabError, match="lab's name"):
        check_lab_name(name)

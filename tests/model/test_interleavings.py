"""Every interleaving of a change on three hosts, and every fault at every step: nothing is lost."""

from __future__ import annotations

import pytest

from .cases import cases
from .explore import Explorer
from .machine import edge_replaced

CASES = cases()


@pytest.mark.parametrize("name", CASES)
def test_no_packet_is_lost_in_any_state_that_can_be_reached(name: str) -> None:
    with edge_replaced():
        figures = Explorer(CASES[name]).explore()
    print(figures)
    assert figures.states > 20
    assert figures.deliveries > 20

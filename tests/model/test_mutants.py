"""The exhaustive test can fail: each fault in the core gives a counterexample that tells a story."""

from __future__ import annotations

import pytest

from .alone import Counterexample
from .cases import cases
from .explore import Explorer
from .machine import edge_replaced
from .mutants import MUTANTS, planted

CASES = cases()


@pytest.mark.parametrize("name", MUTANTS)
def test_a_fault_in_the_core_is_found_and_told(name: str) -> None:
    mutant = MUTANTS[name]
    explorer = Explorer(CASES[mutant.case], barriers=mutant.barriers)
    with edge_replaced(), planted(mutant.patches), pytest.raises(Counterexample) as found:
        explorer.explore()
    story = str(found.value)
    print(f"{name}\n{story}\n")
    for words in mutant.story:
        assert words in story
    # Which change, who is where, and what became of the packet.
    assert story.startswith(f"{mutant.case}: ")
    if "a packet of" in story:
        lines = story.splitlines()
        assert lines[1].startswith("  n")
        assert lines[1].endswith(".")
        assert " is " in lines[1]
        assert "drops it: " in lines[-1]

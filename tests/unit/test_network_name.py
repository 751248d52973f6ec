"""podnet_name: names that nft could not give to a table are refused by the plan."""

from __future__ import annotations

from pathlib import Path

import pytest
from podnet.core.errors import PodnetError
from podnet.core.model import is_network_name
from podnet.core.nft_words import NFT_WORDS
from podnet.plan.checks import network_name
from podnet.plan.plan_run import run


@pytest.mark.parametrize("name", ["podnet", "blue", "ip-pods", "gateway1", "tables2", "gt-", "a"])
def test_names_that_are_no_words_are_taken(name: str) -> None:
    assert network_name(name) == name


# A word of all releases of nft, of 0.9.8 alone, of 1.1 alone, and one that only `list` refuses.
@pytest.mark.parametrize("name", ["gt", "ip", "fib", "auto-merge", "gateway", "destroy", "chains"])
def test_a_word_of_nfts_is_refused_with_its_name(tmp_path: Path, name: str) -> None:
    host = {"name": "n1", "ansible_host": "192.0.2.1", "inventory_dir": str(tmp_path)}
    with pytest.raises(PodnetError) as caught:
        run([{**host, "podnet_name": name}])
    assert f"podnet_name: '{name}' must not be a word of nft's own language" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_each_word_could_be_a_name_otherwise() -> None:
    assert [word for word in NFT_WORDS if not is_network_name(word)] == []

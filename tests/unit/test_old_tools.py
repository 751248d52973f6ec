"""Tools of a host that are older than podnet needs: the message says so, and what is needed."""

from __future__ import annotations

from pathlib import Path

import pytest
from podnet.core.errors import PodnetError
from podnet.kernel import observe, run

#: What such a tool prints and its exit status; what it is asked for -> words of the message.
IP_WITHOUT_JSON = 'echo \'Option "-j" is unknown, try "ip -help".\' >&2; exit 255'
NFT_WITHOUT_JSON = "echo 'Error: JSON support not compiled-in' >&2; exit 1"
NFT_OF_ANOTHER_FORM = "echo 'table inet podnet {'"


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(run, "find", lambda tool: str(tmp_path / tool))
    return tmp_path


def install(file: Path, text: str) -> None:
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (IP_WITHOUT_JSON, ['Option "-j" is unknown', "needs iproute2 4.18 or newer"]),
        ("echo '1: lo: <LOOPBACK>'", ["printed no JSON", "needs iproute2 4.18 or newer"]),
    ],
)
def test_an_old_ip_is_named(tools: Path, said: str, words: list[str]) -> None:
    install(tools / "ip", said)
    with pytest.raises(PodnetError) as caught:
        run.read_json(["ip", "-j", "addr", "show"], lambda _entry: None)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (NFT_WITHOUT_JSON, ["not compiled-in", "nftables 0.9.3 or newer, built with JSON"]),
        (NFT_OF_ANOTHER_FORM, ["nftables 0.9.3 or newer, built with JSON"]),
    ],
)
def test_an_old_nft_is_named(tools: Path, said: str, words: list[str]) -> None:
    install(tools / "nft", said)
    with pytest.raises(PodnetError) as caught:
        observe.read_table("podnet")
    assert [word for word in words if word not in str(caught.value)] == []

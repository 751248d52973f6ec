"""Which of the machine's apt sources the hosts' image is made from."""

import re

import pytest

from lab import image
from lab.image import Image
from lab.sources import deb822_sources, one_line_sources

ONE_LINE = """\
# deb http://commented.test/debian bookworm main
deb http://mirror.test/debian bookworm main contrib
deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian-security bookworm-security main
deb-src http://mirror.test/debian bookworm main
deb http://other.test/debian trixie main
deb http://tool.test/apt bookworm stable
deb http://tool.test/apt bookworm-pgdg main
"""

DEB822 = """\
Types: deb
# a comment in the middle
URIs: http://mirror.test/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://tool.test/
Suites: nodistro
Components: main

Enabled: no
Types: deb
URIs: http://mirror.test/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://mirror.test/debian
Suites: bookworm
Components: main
"""


def test_one_line_sources() -> None:
    assert [line.split(" ")[-3:] for line in one_line_sources(ONE_LINE, "bookworm")] == [
        ["bookworm", "main", "contrib"],
        ["http://mirror.test/debian-security", "bookworm-security", "main"],
    ]


def test_deb822_sources() -> None:
    (stanza,) = deb822_sources(DEB822, "bookworm")
    assert "Suites: bookworm bookworm-updates" in stanza
    assert "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg" in stanza


def test_a_changed_recipe_is_another_image(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Image().key()
    assert re.fullmatch(r"[0-9a-f]{16}", before)
    monkeypatch.setattr(image, "PACKAGES", [*image.PACKAGES, "vim"])
    assert Image().key() != before

"""The machine's own apt sources: what the hosts' images are made from, whatever Debian they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from .errors import LabError

#: Debian's releases that a host of a lab can be, the oldest first.
SUITES = ("bullseye", "bookworm", "trixie")

#: A mirror's parts of a suite; a third party's source has other names.
_PARTS = ("", "-updates", "-security")

_APT = Path("/etc/apt")


def machine_sources(suite: str, scratch: Path) -> list[Path]:
    """Copy the machine's own apt sources of Debian into `scratch`, for `suite`; return the files.

    The machine's mirror, its keyring and its options are thus the image's, whatever they are. Where
    the machine has no source of `suite`, the names in one of another suite are replaced.
    """
    texts: dict[str, list[str]] = {".list": [], ".sources": []}
    for file in [_APT / "sources.list", *sorted((_APT / "sources.list.d").glob("*"))]:
        if file.is_file() and file.suffix in texts:
            texts[file.suffix].append(file.read_text())
    for other in [suite, *(one for one in reversed(SUITES) if one != suite)]:
        found = {
            "lab.list": [one for text in texts[".list"] for one in one_line_sources(text, other)],
            "lab.sources": [
                one for text in texts[".sources"] for one in deb822_sources(text, other)
            ],
        }
        if any(found.values()):
            break
    else:
        raise LabError(
            f"no apt source in {_APT} offers Debian {suite} main, or that of another release; add"
            " one (sources.list(5)), the hosts' image is made from it"
        )
    result = []
    for name, between in (("lab.list", "\n"), ("lab.sources", "\n\n")):
        if found[name]:
            text = between.join(found[name]) + "\n"
            (scratch / name).write_text(text.replace(other, suite))
            result.append(scratch / name)
    return result


def one_line_sources(text: str, suite: str) -> list[str]:
    """Return the lines of a sources.list(5) file that offer a suite's main component."""
    pattern = re.compile(r"deb\s+(?:\[[^]]*\]\s+)?\S+\s+(?P<suite>\S+)\s+(?P<components>.+)")
    found = (pattern.fullmatch(line.strip()) for line in text.splitlines())
    return [
        match[0]
        for match in found
        if match and _offers(suite, [match["suite"]], match["components"].split())
    ]


def deb822_sources(text: str, suite: str) -> list[str]:
    """Return the stanzas of a .sources file (sources.list(5)) that offer a suite's main part."""
    result = []
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", text.strip()):
        fields = dict(_fields(stanza))
        wanted = _offers(
            suite, fields.get("suites", "").split(), fields.get("components", "").split()
        )
        enabled = fields.get("enabled", "yes").lower() not in {"no", "false", "0", "off"}
        if wanted and enabled and "deb" in fields.get("types", "").split():
            result.append(stanza)
    return result


def _fields(stanza: str) -> Iterator[tuple[str, str]]:
    for part in re.split(r"\n(?=\S)", stanza):
        name, _, value = part.partition(":")
        yield name.strip().lower(), value.strip()


def _offers(suite: str, suites: Sequence[str], components: Sequence[str]) -> bool:
    parts = {suite + part for part in _PARTS}
    return bool(parts & {one.rstrip("/") for one in suites}) and "main" in components

"""The network as a picture: SVG, on the page and by itself.

Hosts stand in the boxes of their segments: as tiles with their subnets where they are few, else as
small squares. Ways that fail are lines; where hosts are very few, so are those that work.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from typing import Any, Mapping, NamedTuple, Sequence

from .data import DIFFERS, LEFT_OUT, MOST_LISTED, OK, PROBLEM, UNREACHABLE, asked, by_way

#: All lengths are in the units of the picture, of which it is so many wide.
_WIDTH = 1120
_MARGIN, _PAD, _HEAD, _BETWEEN = 10, 16, 30, 44

#: Tile, gaps, tiles in a row; the same of the small squares.
_TILE = (168, 62, 10, 6)
_SQUARE = (16, 16, 4, 53)

#: Lines above tiles need room. All pairs are drawn of so many hosts, else at most so many failing.
_ROOM, _ALL_PAIRS, _MOST_LINES = 52, 6, 40

_STYLE = """
.pn-box{fill:#f6f8fa;stroke:#8c959f}.pn-tile{fill:#ffffff;stroke:#57606a}
.pn-text{fill:#1f2328;font:13px system-ui,sans-serif}.pn-name{font-weight:700}
.pn-small{font-size:12px}.pn-quiet{fill:#57606a}
.pn-ok{fill:#1a7f37}.pn-differs{fill:#9a6700}.pn-bad{fill:#b3261e}.pn-gone{fill:#6e7781}
.pn-way{fill:none;stroke-width:2}.pn-works{stroke:#1a7f37;opacity:.55}
.pn-fails{stroke:#b3261e;stroke-dasharray:7 4}.pn-unknown{stroke:#8c959f;stroke-dasharray:2 4}
@media screen and (prefers-color-scheme:dark){
.pn-box{fill:#1c2128;stroke:#768390}.pn-tile{fill:#22272e;stroke:#9aa4af}
.pn-text{fill:#e6edf3}.pn-quiet{fill:#a8b1ba}
.pn-ok{fill:#57c26f}.pn-differs{fill:#e3b341}.pn-bad{fill:#ff8a80}.pn-gone{fill:#a8b1ba}
.pn-works{stroke:#57c26f}.pn-fails{stroke:#ff8a80}.pn-unknown{stroke:#768390}}
"""

#: State of a host -> class, sign, words. A sign, too: colours alone tell some people nothing.
_SIGNS = {
    OK: ("ok", "\u2713", "as planned"),
    DIFFERS: ("differs", "\u2260", "differs from the plan"),
    PROBLEM: ("bad", "!", "stands in the way of a run"),
    UNREACHABLE: ("bad", "\u2717", "unreachable"),
    LEFT_OUT: ("gone", "?", "not in this run"),
}


class _Place(NamedTuple):
    """Where a host stands: the middle of its upper edge, and its lower edge."""

    x: float
    top: float
    bottom: float


def picture(found: Mapping[str, Any]) -> str:
    """Return the picture of the report's data as SVG."""
    few = len(found["hosts"]) <= MOST_LISTED
    ways = by_way(found["pairs"])
    hosts = {host["name"]: host for host in found["hosts"]}
    failed = [way for way in ways if way[0] in hosts and way[1] in hosts]
    counts = Counter(name for way in failed for name in way)
    lines = _lines(found, failed) if few else []
    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img"})
    ET.SubElement(root, "title").text = printable(_summary(found, failed))
    ET.SubElement(root, "style").text = _STYLE
    canvas = _Canvas(root, found, hosts, counts, bool(lines))
    y = float(_MARGIN)
    for number, segment in enumerate(found["segments"]):
        if number:
            between = f"\u2195 {found['ways']['between']}"
            _text(root, (_WIDTH / 2, y + 27), between, "pn-quiet", "middle")
            y += _BETWEEN
        y = canvas.segment(segment, y)
    for source, node, look in lines:
        _line(root, canvas.places[source], canvas.places[node], look, f"{source} - {node}")
    y = _legend(root, found, failed, lines, y)
    root.set("viewBox", f"0 0 {_WIDTH} {y:g}")
    root.set("width", str(_WIDTH))
    root.set("height", f"{y:g}")
    return ET.tostring(root, encoding="unicode")


def printable(text: str) -> str:
    """Return `text` without what XML 1.0 cannot hold."""
    return "".join(one if one.isprintable() else "?" for one in text)


def _summary(found: Mapping[str, Any], failed: Sequence[object]) -> str:
    hosts, segments = len(found["hosts"]), len(found["segments"])
    ways = "nothing was probed"
    if found["pairs"]:
        ways = f"{len(failed)} of {found['pairs']['asked']} ways between hosts fail"
    return (
        f"Network {found['network']} ({found['backend']}): {hosts} "
        f"{'host' if hosts == 1 else 'hosts'} in {segments} "
        f"{'segment' if segments == 1 else 'segments'}; {ways}"
    )


def _text(
    root: ET.Element, at: tuple[float, float], text: str, look: str = "", anchor: str = "start"
) -> None:
    x, y = at
    attributes = {"x": f"{x:g}", "y": f"{y:g}", "class": f"pn-text {look}".strip()}
    if anchor != "start":
        attributes["text-anchor"] = anchor
    ET.SubElement(root, "text", attributes).text = printable(text)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"


class _Canvas:
    """Where segments are drawn, one below the other; `places` are their hosts'.

    `counts` is host -> ways from it or to it that fail. `room`: lines need room between tiles.
    """

    def __init__(
        self,
        root: ET.Element,
        found: Mapping[str, Any],
        hosts: Mapping[str, Any],
        counts: Counter[str],
        room: bool,
    ) -> None:
        self.root = root
        # Boxes lie below all lines and tiles.
        self.below = ET.SubElement(root, "g")
        self.ways = found["ways"]
        self.hosts = hosts
        self.counts = counts
        self.room = room
        self.places: dict[str, _Place] = {}

    def segment(self, segment: Mapping[str, Any], y: float) -> float:
        """Draw a segment with its hosts from `y` on; return where it ends."""
        few = len(self.hosts) <= MOST_LISTED
        width, height, gap, columns = _TILE if few else _SQUARE
        top = y + _HEAD + (_ROOM if self.room else 0)
        for number, name in enumerate(segment["hosts"]):
            row, column = divmod(number, columns)
            left = _MARGIN + _PAD + column * (width + gap)
            upper = top + row * (height + gap + (24 if self.room else 0))
            self.places[name] = _Place(left + width / 2, upper, upper + height)
            draw = _tile if few else _square
            draw(self.root, self.hosts[name], left, upper, self.counts)
        end = self.places[segment["hosts"][-1]].bottom + _PAD
        box = {"x": _MARGIN, "y": y, "width": _WIDTH - 2 * _MARGIN, "height": end - y, "rx": 8}
        given = {key: f"{value:g}" for key, value in box.items()}
        ET.SubElement(self.below, "rect", {**given, "class": "pn-box"})
        self._head(segment, y + 21)
        return end

    def _head(self, segment: Mapping[str, Any], y: float) -> None:
        cidr, number = segment["cidr"], len(segment["hosts"])
        title = f"segment {cidr}" if cidr else "segment not given (prefix length)"
        title += f", {number} {'host' if number == 1 else 'hosts'}"
        _text(self.root, (_MARGIN + _PAD, y), title, "pn-name")
        if number > 1:
            way = f"between them: {self.ways['inside' if cidr else 'unknown']}"
            _text(self.root, (_WIDTH - _MARGIN - _PAD, y), way, "pn-quiet", "end")


def _sign(host: Mapping[str, Any], counts: Counter[str]) -> tuple[str, str, str]:
    look, sign, words = _SIGNS[host["state"]]
    failed = counts[host["name"]]
    if not failed:
        return look, sign, words
    number = f"{failed} {'way fails' if failed == 1 else 'ways fail'}"
    # Where one host fails with all others, that one is to be seen.
    worst = look == "bad" or 2 * failed >= max(counts.values())
    told = number if host["state"] == OK else f"{words}; {number}"
    return "bad" if worst else "differs", "\u2717", told


def _tile(
    root: ET.Element, host: Mapping[str, Any], x: float, y: float, counts: Counter[str]
) -> None:
    width, height = _TILE[:2]
    look, sign, words = _sign(host, counts)
    group = ET.SubElement(root, "g")
    told = " ".join(one for one in (host["name"], host["subnet"], host["subnet6"], words) if one)
    ET.SubElement(group, "title").text = printable(told)
    box = {"x": f"{x:g}", "y": f"{y:g}", "width": str(width), "height": str(height)}
    ET.SubElement(group, "rect", {**box, "rx": "5", "class": "pn-tile"})
    stripe = {**box, "width": "6", "rx": "3", "class": f"pn-{look}"}
    ET.SubElement(group, "rect", stripe)
    _text(group, (x + 14, y + 19), _short(host["name"], 17), "pn-name")
    _text(group, (x + width - 9, y + 19), sign, f"pn-name pn-{look}", "end")
    subnet = _short(host["subnet"] or host["subnet6"], 23)
    _text(group, (x + 14, y + 37), subnet, "pn-small")
    state = host["ip"] or host["ip6"] if look == "ok" else words
    tone = "quiet" if look == "ok" else look
    _text(group, (x + 14, y + 53), _short(state, 23), f"pn-small pn-{tone}")


def _square(
    root: ET.Element, host: Mapping[str, Any], x: float, y: float, counts: Counter[str]
) -> None:
    width, height = _SQUARE[:2]
    look, _sign_of, words = _sign(host, counts)
    box = {"x": f"{x:g}", "y": f"{y:g}", "width": str(width), "height": str(height), "rx": "2"}
    square = ET.SubElement(root, "rect", {**box, "class": f"pn-{look}"})
    told = f"{host['name']} {host['subnet'] or host['subnet6']} {words}"
    ET.SubElement(square, "title").text = printable(told)
    if look != "ok":
        # Seen without colours, too: what is not well has a hole.
        hole = {"x": f"{x + 5:g}", "y": f"{y + 5:g}", "width": "6", "height": "6"}
        ET.SubElement(root, "rect", {**hole, "class": "pn-box", "stroke-width": "0"})


def _lines(
    found: Mapping[str, Any], failed: Sequence[tuple[str, str]]
) -> list[tuple[str, str, str]]:
    """Return (host, host, look) for each line to draw."""
    pairs = found["pairs"]
    broken = {tuple(sorted(way)) for way in failed}
    if len(found["hosts"]) > _ALL_PAIRS or not pairs:
        few = len(broken) <= _MOST_LINES
        return [(one, other, "fails") for one, other in sorted(broken)] if few else []
    names = [host["name"] for host in found["hosts"]]
    lines = []
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            known = asked(pairs, one, other) or asked(pairs, other, one)
            bad = tuple(sorted((one, other))) in broken
            lines.append((one, other, "fails" if bad else "works" if known else "unknown"))
    return lines


def _line(root: ET.Element, one: _Place, other: _Place, look: str, title: str) -> None:
    if one.top > other.top:
        one, other = other, one
    if one.top == other.top:
        rise = min(92.0, 40 + abs(one.x - other.x) / 14)
        path = (
            f"M{one.x:g} {one.top:g}C{one.x:g} {one.top - rise * 0.72:g} "
            f"{other.x:g} {one.top - rise * 0.72:g} {other.x:g} {other.top:g}"
        )
    else:
        half = (one.bottom + other.top) / 2
        path = (
            f"M{one.x:g} {one.bottom:g}C{one.x:g} {half:g} {other.x:g} {half:g} "
            f"{other.x:g} {other.top:g}"
        )
    drawn = ET.SubElement(root, "path", {"d": path, "class": f"pn-way pn-{look}"})
    ET.SubElement(drawn, "title").text = printable(title)


def _legend(
    root: ET.Element,
    found: Mapping[str, Any],
    failed: Sequence[object],
    lines: Sequence[tuple[str, str, str]],
    y: float,
) -> float:
    """Say below the picture what is in it; return where that ends."""
    states = dict.fromkeys(host["state"] for host in found["hosts"])
    told = [f"{_SIGNS[state][1]} {_SIGNS[state][2]}" for state in _SIGNS if state in states]
    if failed:
        told.append("\u2717 ways fail")
    looks = {look for _one, _other, look in lines}
    words = {"works": "line: works", "fails": "dashed: fails", "unknown": "dotted: not asked"}
    told += [text for look, text in words.items() if look in looks]
    if failed and not lines and len(found["hosts"]) <= MOST_LISTED:
        told.append("too many ways fail to draw each")
    if len(found["hosts"]) > MOST_LISTED:
        told.append("a square is a host; what is not well has a hole")
    _text(root, (_MARGIN + _PAD, y + 22), " \u00b7 ".join(told), "pn-small pn-quiet")
    return y + 34

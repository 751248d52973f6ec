"""Ranges of addresses as text: "10.244.0.9", or "10.244.0.9-10.244.0.20". Pure."""

from __future__ import annotations

from typing import Iterable, NamedTuple

from .model import is_range, pack, split_cidr, unpack


class Range(NamedTuple):
    """The addresses from `first` to `last` as numbers; `size` is the bytes of an address."""

    size: int
    first: int
    last: int

    def ends(self) -> tuple[str, str]:
        """Return the first and the last address."""
        first, last = (unpack(one.to_bytes(self.size, "big")) for one in self[1:])
        return first, last

    def text(self) -> str:
        """Return the one spelling that `parse` reads."""
        first, last = self.ends()
        return first if first == last else f"{first}-{last}"

    def cidr(self) -> str:
        """Return the CIDR of a range that is one, as `of_cidr` makes it."""
        length = self.size * 8 - (self.last - self.first).bit_length()
        return f"{self.ends()[0]}/{length}"

    def is_inside(self, other: Range) -> bool:
        """Whether `other` holds all of this range."""
        return self.size == other.size and other.first <= self.first and self.last <= other.last


def parse(text: str) -> Range:
    """Read a range; raise ValueError for anything but the spelling of `Range.text`."""
    if not is_range(text):
        raise ValueError(f"not a range of addresses: {text!r}")
    ends = [pack(one) for one in text.split("-")]
    first, last = (int.from_bytes(ends[one], "big") for one in (0, -1))
    return Range(len(ends[0]), first, last)


def of_cidr(cidr: str) -> Range:
    """Return all addresses of a CIDR without host bits."""
    address, length = split_cidr(cidr)
    raw = pack(address)
    first = int.from_bytes(raw, "big")
    return Range(len(raw), first, first + (1 << (len(raw) * 8 - length)) - 1)


def usable(subnet: str) -> Range:
    """Return what pods and endpoints may have of a node's subnet.

    That is all of it but the network address (IPv6: the subnet-router anycast address, RFC 4291
    section 2.6.1; a tunnel's own where it has one), the gateway after it, and the IPv4 broadcast
    address. `first` is more than `last` where nothing is left.
    """
    size, first, last = of_cidr(subnet)
    return Range(size, first + 2, last - 1 if size == 4 else last)


def free(subnet: str, taken: Iterable[str]) -> list[Range]:
    """Return what is usable in `subnet` and not in `taken` (ranges), in order.

    What lies outside of `subnet` is ignored. Raises ValueError for a subnet or a range that is not
    in its one spelling.
    """
    size, first, last = usable(subnet)
    gaps: list[Range] = []
    for one in sorted(found for found in map(parse, taken) if found.size == size):
        if one.last < first or one.first > last:
            continue
        if first < one.first:
            gaps.append(Range(size, first, one.first - 1))
        first = one.last + 1
    return gaps + ([Range(size, first, last)] if first <= last else [])

"""Sends VXLAN packets as somebody would who is no node: a UDP datagram for a pod, wrapped by hand.

Runs on a host as `python3 - ARGUMENTS <tests/intruder.py`, with the standard library alone.
"""

from __future__ import annotations

import argparse
import socket
import struct

#: Where the datagram goes in the pod, and nobody listens.
PORT = 9999


def _checksum(header: bytes) -> int:
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


def inner(mac: str, source: str, target: str) -> bytes:
    """Return an Ethernet frame for `mac` with a UDP datagram between two pods' IPv4 addresses."""
    # IPv4 needs no checksum of UDP (RFC 768).
    datagram = struct.pack("!4H", 5000, PORT, 8 + 4, 0) + b"evil"
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(datagram), 1, 0, 64, 17, 0) + ends
    head = head[:10] + struct.pack("!H", _checksum(head)) + head[12:]
    ethernet = bytes.fromhex(mac.replace(":", "")) + bytes.fromhex("020000000bad") + b"\x08\x00"
    return ethernet + head + datagram


def vxlan(vni: int, frame: bytes) -> bytes:
    """Return a frame behind a VXLAN header (RFC 7348, section 5)."""
    return struct.pack("!II", 0x08000000, vni << 8) + frame


def main() -> None:
    """Send `--count` packets."""
    parser = argparse.ArgumentParser()
    for name in ("to", "mac", "source", "target"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--vni", type=int, default=1)
    parser.add_argument("--port", type=int, default=8472)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--own", default="", help="the address to send from")
    given = parser.parse_args()
    text = vxlan(given.vni, inner(given.mac, given.source, given.target))
    family = socket.AF_INET6 if ":" in given.to else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if given.own:
            one.bind((given.own, 0))
        for _number in range(given.count):
            one.sendto(text, (given.to, given.port))


if __name__ == "__main__":
    main()

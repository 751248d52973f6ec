"""Backends: how a packet gets to another node. Each is one file, and is listed here."""

from __future__ import annotations

from .base import Backend
from .host_gw import HostGateway
from .vxlan import Vxlan

BACKENDS: dict[str, Backend] = {"vxlan": Vxlan(), "host-gw": HostGateway()}

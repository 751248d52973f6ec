"""What every backend must answer."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ...core.model import Node, Plan
from ..host_view import HostView
from ..state import State


class Backend(ABC):
    """What a backend adds to a host: devices, objects for each peer, bytes on every packet."""

    #: The fields of a plan whose change alters how packets travel, so that all hosts must switch
    #: together. Fields that the backend does not use are left out: changing them is no switch.
    parameters: tuple[str, ...] = ("backend", "underlay", "mtu")

    @abstractmethod
    def overhead(self, plan: Plan) -> int:
        """Return the bytes that the backend adds to a pod's IP packet."""

    @abstractmethod
    def families(self, plan: Plan, node: Node) -> set[int]:
        """Return the families (4, 6) of the nodes' addresses that pods' packets are sent to."""

    @abstractmethod
    def devices(self, plan: Plan, node: Node, host: HostView, mtu: int, state: State) -> None:
        """Add the backend's own devices and their addresses to `state`; `mtu` is the pods'."""

    @abstractmethod
    def peer(self, plan: Plan, node: Node, host: HostView, peer: Node, state: State) -> None:
        """Add to `state` what it takes to reach `peer`; `problems` names peers out of reach."""

    @abstractmethod
    def problems(self, plan: Plan, node: Node, host: HostView) -> list[str]:
        """Return why this host cannot carry the backend, a sentence each."""


def peers(plan: Plan, node: Node) -> list[Node]:
    """Return all nodes of the plan but `node` itself."""
    return [peer for peer in plan.nodes.values() if peer.name != node.name]

"""What every backend answers."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ...core.model import Node, Plan
from ..host_view import HostView
from ..state import State


class Backend(ABC):
    """What a backend adds to a host: devices, one set of objects a peer, bytes on every packet."""

    #: The fields of a plan whose change moves packets to another way, so that all hosts must go
    #: through it in step. What a backend does not use may change without anybody's noticing.
    parameters: tuple[str, ...] = ("backend", "underlay", "mtu")

    @abstractmethod
    def overhead(self, plan: Plan) -> int:
        """Return the bytes that the backend adds to a pod's IP packet."""

    @abstractmethod
    def families(self, plan: Plan, node: Node) -> set[int]:
        """Return the families of nodes' addresses between which pods' packets travel."""

    @abstractmethod
    def devices(self, plan: Plan, node: Node, host: HostView, mtu: int, state: State) -> None:
        """Add the backend's own devices and their addresses to `state`; `mtu` is the pods'."""

    @abstractmethod
    def peer(self, plan: Plan, node: Node, host: HostView, peer: Node, state: State) -> None:
        """Add what reaches `peer` to `state`; what cannot be reached is told by `problems`."""

    @abstractmethod
    def problems(self, plan: Plan, node: Node, host: HostView) -> list[str]:
        """Return why this host cannot carry the backend, a sentence each."""


def peers(plan: Plan, node: Node) -> list[Node]:
    """Return all nodes of the plan but `node` itself."""
    return [peer for peer in plan.nodes.values() if peer.name != node.name]

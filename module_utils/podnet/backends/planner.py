"""What the controller asks a backend: its settings, its checks of the inventory, its words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Mapping, NamedTuple, Sequence

from ..core.model import Plan
from ..core.segments import Addressed, Segments


class Findings(NamedTuple):
    """Lines for the user: `problems` prevent the plan, `notes` are told."""

    problems: list[str]
    notes: list[str]


class Planner(ABC):
    """How a backend plans; `values` are the network's variables, named without ``podnet_``."""

    #: What a sentence calls the way to peers that need more than a plain route, "" for none.
    tunnel: str = ""

    #: What to try where ICMP passes between pods and TCP does not; {device} is the plan's.
    suspect: str = ""

    #: What a user may look for among the backend's variables and must not find there: the last word
    #: of such a variable -> why, and what to do. `prefixes` are beginnings of the names.
    no_variables: ClassVar[Mapping[str, str]] = {}
    prefixes: ClassVar[Sequence[str]] = ()

    def settings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the plan's settings (Backend.settings)."""
        return {}

    def node_settings(self, values: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
        """Return a node's settings (Backend.node_settings).

        `own` are its variables, named without ``podnet_``.
        """
        return {}

    def devices(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Return the devices that the backend would make: name -> what a sentence calls it."""
        return {}

    def detour(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a plan whose device can stand beside that of `settings`.

        Where neither a device of the same name can be made nor the old one renamed, hosts switch to
        these first, and then to those that are wanted.
        """
        port = settings["port"]
        other = port + 1 if port < 65535 else port - 1
        return {**settings, "device": "podnet-detour", "port": other}

    def value_problems(self, values: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with the backend's variables by themselves."""
        return []

    def host_findings(
        self, values: Mapping[str, Any], hosts: Sequence[Addressed], groups: Sequence[Segments]
    ) -> Findings:
        """Return what is to say of the hosts.

        `groups` has an entry for each family of addresses that plain routes could go through.
        """
        return Findings([], [])

    @abstractmethod
    def described(self, plan: Plan) -> str:
        """Return the backend with its settings, for a line of text."""

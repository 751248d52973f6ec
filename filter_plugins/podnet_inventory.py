"""Filter `podnet_inventory`: what `podnet_plan` needs to know of every host, and nothing else.

A loop in a playbook would template all variables of all hosts for every host. This touches the
few keys that podnet reads, once for each host, so its cost is linear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleError, AnsibleFilterError
from jinja2 import Undefined
from jinja2.exceptions import UndefinedError

_CAPTURED = "A captured exception marker was tripped: "

#: Read besides every variable that begins with podnet_.
_OTHER = ("ansible_host", "inventory_dir")


def podnet_inventory(hostvars: Any, hosts: Any) -> list[dict[str, Any]]:
    """Return for each of `hosts` its name, its podnet variables, and how it is reached.

    `hosts` is the group, in inventory order. A variable that cannot be templated is left out and
    named under "undefined" with the reason; `podnet_plan` reports it together with all else.
    """
    if not isinstance(hostvars, Mapping):
        raise AnsibleFilterError("podnet_inventory: apply it to hostvars")
    if isinstance(hosts, str) or not isinstance(hosts, Sequence):
        raise AnsibleFilterError("podnet_inventory: give it the group, groups['podnet_nodes']")
    return [_collect(str(name), hostvars[name]) for name in hosts]


def _collect(name: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name}
    undefined: dict[str, str] = {}
    for key in variables:
        if not key.startswith("podnet_") and key not in _OTHER:
            continue
        try:
            found[str(key)] = _resolved(variables[key])
        except (AnsibleError, UndefinedError) as error:
            undefined[str(key)] = str(getattr(error, "message", error)).removeprefix(_CAPTURED)
    if undefined:
        found["undefined"] = undefined
    return found


def _resolved(value: Any) -> Any:
    """Return a value with all that it contains templated, which Ansible may have put off.

    Raises the error that Ansible may have stored in place of a value.
    """
    if isinstance(value, Undefined):
        str(value)  # raises what went wrong
    if isinstance(value, Mapping):
        return {key: _resolved(value[key]) for key in value}
    if isinstance(value, list | tuple):
        return [_resolved(item) for item in value]
    return value


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"podnet_inventory": podnet_inventory}

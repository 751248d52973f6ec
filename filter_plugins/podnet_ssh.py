# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters for the roles' SSH connection variables: give up on a silent host after seconds.

When a host's cable is pulled in the middle of a call, TCP waits for a quarter of an hour. Options
that users have set come before those added here, and so win: ssh takes the first value of an option
(ssh_config(5)).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from ansible import constants, context
from ansible.plugins.loader import connection_loader

#: ssh asks a silent host every 5 seconds whether it is there, and gives up after 3 questions
#: without an answer: 15 to 20 seconds after the last one.
ALIVE = "-o ServerAliveInterval=5 -o ServerAliveCountMax=3"


def extra_args(hostvars: Mapping[str, Any], host: str) -> str:
    """Return `ansible_ssh_extra_args`: what the user has set for a host, and ALIVE."""
    return f"{_set_by_user(hostvars, host, 'ssh_extra_args')} {ALIVE}".strip()


def control_path(hostvars: Mapping[str, Any], host: str) -> str:
    """Return `ansible_control_path`: the user's, or a path of podnet's own.

    A shared connection (ControlMaster of ssh_config(5)) keeps the options that it was opened with,
    so podnet must not use one that was opened before without ALIVE.
    """
    mine = _set_by_user(hostvars, host, "control_path")
    if mine:
        return mine
    known = hostvars[host]
    where = [host, *(str(known.get(key, "")) for key in ("ansible_host", "inventory_dir"))]
    digest = hashlib.sha256("\n".join(where).encode()).hexdigest()[:10]
    return f"%(directory)s/podnet-{digest}-%%p-%%r"


def _set_by_user(hostvars: Mapping[str, Any], host: str, option: str) -> str:
    """Return an option of the ssh connection as inventory, command line or configuration set it."""
    known = hostvars[host].get(f"ansible_{option}")
    if known:
        return str(known)
    given = context.CLIARGS.get(option)
    if given:
        return str(given)
    # Ansible knows the options of the ssh plugin only after loading it.
    connection_loader.get("ssh", class_only=True)
    return str(
        constants.config.get_config_value(option, plugin_type="connection", plugin_name="ssh") or ""
    )


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"podnet_ssh_extra_args": extra_args, "podnet_control_path": control_path}

# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter `podnet_whole`: refuses --start-at-task; playbooks use it in `hosts` of their first play.

With that option Ansible skips all that comes before the named task, checks included, and ends with
status 0 if there is no such task. But it templates `hosts` of every play even then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible import context
from ansible.errors import AnsibleFilterError


def whole(pattern: str) -> str:
    """Return the host pattern as it is; raise AnsibleFilterError under --start-at-task."""
    title = context.CLIARGS.get("start_at_task")
    if title:
        raise AnsibleFilterError(
            f"--start-at-task {title!r}: nothing was done, because what comes before would be left "
            "out. Run without it: what is done already is not done again"
        )
    return pattern


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"podnet_whole": whole}

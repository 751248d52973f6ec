# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter `podnet_whole`: the hosts of a playbook's first play, where it is run from its beginning.

Ansible skips all that comes before the task that --start-at-task names, checks included, and ends
with status 0 where there is no such task. It does template the hosts of every play.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible import context
from ansible.errors import AnsibleFilterError


def whole(pattern: str) -> str:
    """Return `pattern`, or fail where the run is to start at a task."""
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

"""The one exception that podnet raises on purpose."""

from __future__ import annotations


class PodnetError(Exception):
    """A problem to show to the user as it is.

    The message names the object (host, variable, device, file), what is wrong with it, and the
    way out. Modules turn it into ``fail_json``; nothing else is caught.
    """

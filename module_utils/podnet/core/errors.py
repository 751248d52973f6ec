"""The one exception that podnet raises on purpose, and what to say of any other."""

from __future__ import annotations

import traceback
from typing import Callable


class PodnetError(Exception):
    """A problem to show to the user as it is.

    The message names the object (host, variable, device, file), what is wrong with it, and the
    way out. Modules turn it into ``fail_json``.
    """


def message(error: BaseException) -> str:
    """Return one line for the user about any error.

    Any error but PodnetError and MemoryError is taken for a bug: the line then names the place in
    the code.
    """
    if isinstance(error, PodnetError):
        return str(error)
    if isinstance(error, MemoryError):
        return "the host has no memory left; free some and run again"
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        place = f" at {frame.filename.rpartition('/')[2]}:{frame.lineno}"
    said = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    return f"unexpected error{place}: {said}; this is a bug in podnet, please report it"


def undone(error: BaseException, undo: Callable[[], None], what: str) -> PodnetError:
    """Undo changes after `error`; return what to raise, which says what became of them.

    `what` names the changes, as in "All of this run's changes on this host".
    """
    try:
        undo()
    except Exception as second:
        return PodnetError(
            f"{message(error)}. Undoing it failed, too: {message(second)}. The next run goes on "
            "from here"
        )
    return PodnetError(f"{message(error)}. {what} are undone")

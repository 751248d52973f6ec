"""Which edition of the allocations a plan was made from: what tells an old file from a new one.

The file has an id, made when it is first written, and a counter that grows with every change of
what it says. Each host notes both (state.record) with a digest of what the file said, so a
restored backup, a second copy or another network's file is known as such (state.knowledge).
"""

from __future__ import annotations

import re
from typing import NamedTuple

_HEX = re.compile(r"[0-9a-f]{16}\Z")


class Edition(NamedTuple):
    """One state of an allocations file; `digest` is that of what the file says, 16 hex digits.

    An empty `id` is a file from before editions were counted: such files still load, and get an id
    when they are next written.
    """

    id: str = ""
    generation: int = 0
    digest: str = ""

    def is_valid(self) -> bool:
        """Whether it is empty as a whole, or complete and in its canonical spelling."""
        if not isinstance(self.generation, int) or isinstance(self.generation, bool):
            return False
        if self.id == "" and self.digest == "":
            return self.generation == 0
        return (
            isinstance(self.id, str)
            and isinstance(self.digest, str)
            and _HEX.match(self.id) is not None
            and _HEX.match(self.digest) is not None
            and 1 <= self.generation < 10**9
        )


#: That of a file from before editions, and of a plan without a file.
NONE = Edition()

"""The edition of the allocations file that a plan was made from: it tells an old copy from a new.

The allocations file has an id, made when it is first written, and a generation that grows by one
with each change of its content. Each host keeps both in its record (state/record.py), with a digest
of the content. By these, a later run recognises a restored backup, a diverged copy or the file of
another network (state/knowledge.py, run/objections.py).
"""

from __future__ import annotations

import re
from typing import NamedTuple

_HEX = re.compile(r"[0-9a-f]{16}\Z")


class Edition(NamedTuple):
    """One version of an allocations file: `id` and `digest` (of its content) are 16 hex digits.

    `generation` counts from 1. With all fields empty there is no file, or one that was written
    before files had editions; such a file still loads, and gets an id when it is next written.
    """

    id: str = ""
    generation: int = 0
    digest: str = ""

    def is_valid(self) -> bool:
        """Whether all fields are empty, or all are set and well-formed."""
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


#: The edition of a plan without a file, and of a file that was written before files had editions.
NONE = Edition()

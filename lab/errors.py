"""The lab's one error."""

from __future__ import annotations


class LabError(Exception):
    """Something the person at the keyboard can act on: what is wrong and the way out."""

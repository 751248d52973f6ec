"""A lab of real hosts on one machine: systemd containers in a network namespace of their own.

`python -m lab --help` is the way in by hand, `lab.Lab` the one for tests; docs/lab.md tells more.
"""

from .errors import LabError
from .lab import Lab

__all__ = ["Lab", "LabError"]

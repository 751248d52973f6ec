"""podnet: plans a pod network, and makes it on hosts.

A package for each purpose says what belongs there, where it runs, which others it imports, and
what of the machine it touches. What runs on hosts uses the standard library alone and the syntax
of Python 3.8.
"""

from __future__ import annotations

from .keep.bytecode import install

install(__name__, getattr(__spec__, "loader", None))

"""A cause, as doctor.yml names it."""

from __future__ import annotations

from dataclasses import dataclass, field

#: All is well; it works now, but will not last; something does not work.
HEALTHY, DEGRADED, BROKEN = "healthy", "degraded", "broken"


@dataclass
class Cause:
    """What is wrong, where, what shows it and what mends it.

    `kind` is a word for programs. `sorts` are the sorts of objects that it is about, `faults` the
    faults of hops that are this cause, `ways` the hosts on the ways that it breaks, `pairs` how
    many failed probes it explains.
    """

    kind: str
    status: str
    hosts: list[str]
    what: str
    evidence: list[str]
    cure: str
    sorts: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    ways: list[set[str]] = field(default_factory=list)
    pairs: int = 0

"""What the scenarios' tests get; molecule/shared/verify.yml runs them."""

from __future__ import annotations

import os

import pytest

from lab import Lab
from tests.scenario.cluster import PROJECT, Cluster


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The scenario's hosts, with podnet on them; PODNET_INVENTORY is one beside the lab's own."""
    name = os.environ.get("PODNET_LAB", "")
    if not name:
        pytest.fail("run by molecule: molecule test -s SCENARIO")
    own = os.environ.get("PODNET_INVENTORY")
    return Cluster(Lab(name), PROJECT / own if own else None)

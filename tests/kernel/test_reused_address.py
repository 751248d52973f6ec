"""A pod that gets the address of one that has gone answers at once, with another MAC."""

from __future__ import annotations

import os

import pytest

from tests.kernel.netns_hosts import hosts
from tests.kernel.test_network import applied, document, pod

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]

ADDRESSES = ("10.244.0.9", "fd00:244:0:0::9")


def test_a_new_pod_with_an_old_address_is_reached() -> None:
    """In less than three seconds: left alone, the kernel believes the old MAC for eight."""
    with hosts(1, bare=True) as (host,):
        applied(host, document(1))
        # A bridge without ports forgets all neighbours.
        host.ip("link add other up type veth peer name other-end")
        host.ip("link set other master cni0")
        host.ip("link set other-end up")
        pod(host, 0)
        for address in ADDRESSES:
            host.run("ping", "-n", "-c1", "-W2", address)
        # Its namespace would take it away, but not at once.
        host.ip("link delete vethpod")
        host.ip("netns delete pod")
        pod(host, 0)
        for address in ADDRESSES:
            # As it becomes by itself, 45 seconds after the old pod's last answer at the latest.
            host.ip(f"neigh change {address} dev cni0 nud stale")
        for address in ADDRESSES:
            # Succeeds if one of them is answered. The first ones go to the old MAC.
            host.run("ping", "-n", "-c12", "-i0.25", "-W1", address)

"""Policy rules of others on real kernels: what is said of pods' packets is what becomes of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from tests.kernel.netns_hosts import Host, hosts
from tests.kernel.test_network import HEAD, applied, converge, document, ping, pod

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]


@pytest.fixture
def pair() -> Iterator[list[Host]]:
    with hosts(2, bare=True) as made:
        yield made


def warnings(host: Host, plan: str) -> str:
    code = f"""{HEAD}
print(json.dumps(converge.converge(plan_from_text({plan!r}), {host.name!r}, "all", True).warnings))
"""
    return json.dumps(host.python(code))


#: Rules and routes -> whether pods' packets take them.
RULES = {
    "ip rule add pref 5270 lookup 52; ip route add 10.0.0.0/8 dev lo table 52": True,
    "ip rule add pref 5270 lookup 52; ip route add 100.64.0.0/10 dev lo table 52": False,
    "ip rule add pref 100 from 192.0.2.99 lookup 9; ip route add blackhole default table 9": False,
    "ip rule add pref 100 iif cni0 lookup 9; ip route add blackhole default table 9": True,
    "ip rule add pref 100 not fwmark 7 lookup 9; ip rule add pref 99 lookup main "
    "suppress_prefixlength 0; ip route add blackhole default table 9": False,
    "ip rule add pref 100 to 10.244.0.0/16 prohibit": True,
}


def test_the_kernel_does_what_is_said_of_it(pair: list[Host]) -> None:
    plan = document(2, six=False)
    for number, host in enumerate(pair):
        applied(host, plan)
        pod(host, number)
    one = pair[0]
    for commands, taken in RULES.items():
        ping(one, "10.244.1.9", 100)
        one.run("sh", "-ec", commands)
        said = warnings(one, plan)
        if taken:
            with pytest.raises(AssertionError):
                ping(one, "10.244.1.9", 100)
            # A switch would move routes that no packet takes.
            refused = converge(one, document(2, six=False, backend="host-gw"), "prepare")
            assert "policy rule" in refused["error"]
        else:
            ping(one, "10.244.1.9", 100)
        assert ("takes packets between pods" in said) == taken, (commands, said)
        one.run("sh", "-c", "for p in 99 100 5270; do ip rule del pref $p; done; true")
        one.run("sh", "-c", "for t in 9 52; do ip route flush table $t; done; true")


def test_an_address_of_somebody_elses_on_the_bridge_is_named(pair: list[Host]) -> None:
    plan = document(2)
    applied(pair[0], plan)
    assert "198.51.100.77" not in warnings(pair[0], plan)
    pair[0].ip("addr add 198.51.100.77/32 dev cni0")
    assert "198.51.100.77/32 on cni0" in warnings(pair[0], plan)

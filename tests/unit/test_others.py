"""Drop-ins for other tools, and the units that repair: only what a host needs."""

from xml.etree import ElementTree

import pytest
from podnet.keep import boot, repair
from podnet.state import managers

NAMES = ["cni0", "flannel.1"]


def test_nothing_is_written_for_tools_that_are_not_there() -> None:
    assert managers.drop_ins("podnet", NAMES, (), {}) == {}
    # Drift stays for a check run to show, unless the user wants hosts to repair themselves.
    assert repair.unit_files("podnet", "", networkd=True) == {}


@pytest.mark.parametrize(
    "tools", [[], [managers.NETWORKD], [managers.NETWORK_MANAGER], managers.SIGNS]
)
def test_every_file_is_one_that_reset_knows(tools: list[str]) -> None:
    made = managers.drop_ins("podnet", NAMES, tools, {"net.ipv4.ip_forward": "1"})
    made |= repair.unit_files("podnet", "5min", networkd=managers.NETWORKD in tools)
    assert made.keys() <= set(boot.paths("podnet"))
    assert {path for path in made if "podnet" not in path} == set()


def test_the_drop_ins_name_the_networks_devices() -> None:
    made = managers.drop_ins("podnet", reversed(NAMES), managers.SIGNS, {})
    network = made["/etc/systemd/network/05-podnet-podnet.network"]
    assert "Name=cni0 flannel.1\n" in network
    manager = made["/etc/NetworkManager/conf.d/60-podnet-podnet.conf"]
    assert (
        "interface-name:cni0;interface-name:flannel.1;interface-name:veth*;interface-name:ep-*\n"
        in manager
    )


def test_firewalld_forwards_for_the_networks_pods_in_both_families() -> None:
    made = managers.drop_ins("podnet", NAMES, managers.SIGNS, {}, ["10.244.0.0/16", "fd00:1::/48"])
    policy = ElementTree.fromstring(made["/etc/firewalld/policies/pn-podnet.xml"])
    rules = [
        (rule.get("family"), rule[0].tag, rule[0].get("address")) for rule in policy.iter("rule")
    ]
    assert rules == [
        ("ipv4", "source", "10.244.0.0/16"),
        ("ipv4", "destination", "10.244.0.0/16"),
        ("ipv6", "source", "fd00:1::/48"),
        ("ipv6", "destination", "fd00:1::/48"),
    ]


def test_networks_share_no_file_but_the_global_ones() -> None:
    shared = set(boot.paths("one")) & set(boot.paths("two"))
    assert shared == set(boot.SHARED)


def test_a_timer_has_the_interval_and_is_enabled() -> None:
    made = repair.unit_files("podnet", "90s", networkd=False)
    (timer,) = [path for path, text in made.items() if "[Timer]" in text]
    assert "OnUnitInactiveSec=90s\n" in made[timer]
    assert f"-> {timer}" in made.values()
    assert not [path for path in made if path.endswith(".path")]

"""What podnet_podman writes for which Podman, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from podnet.backends.document import plan_from_text
from podnet.cni import cni_record, configuration, podman, podman_file
from podnet.cni.conflist import conflist
from podnet.cni.podman import Podman
from podnet.core.errors import PodnetError
from podnet.core.model import Plan
from podnet.keep import leases
from podnet.kernel import run
from podnet.plan.plan_run import run as plan_run

from tests.unit.cni_root import Root, done, made, removed

RANGE = "10.244.0.200-10.244.0.223"
RANGE6 = "fd00:244::f000-fd00:244::ffff"

BOOKWORM = Podman("podman version 4.3.1")
TRIXIE = Podman("podman version 5.4.2", "netavark 1.14.0")


def plan_of(
    root: Root, *ranges: str, name: str = "podnet", subnet6: str = "", mtu: str = "1450"
) -> Plan:
    plan = root.plan(name, mtu=mtu)
    node = replace(
        plan.nodes["n1"], podman=True, reserved=ranges, podman_range=ranges, subnet6=subnet6
    )
    return replace(plan, nodes={"n1": node}, cluster_cidr6="fd00::/16" if subnet6 else "")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    found = made(tmp_path, monkeypatch)
    found.plugins(found.bin)
    monkeypatch.setattr(podman_file, "DIRECTORY", str(tmp_path / "etc/containers"))
    monkeypatch.setattr(podman, "VENDOR", str(tmp_path / "usr/share/containers"))
    monkeypatch.setattr(podman, "STORE", str(tmp_path / "var/storage"))
    monkeypatch.setattr(podman, "HELPERS", (str(tmp_path / "old"), str(tmp_path / "helpers")))
    monkeypatch.setattr(run, "SEARCH", str(tmp_path / "programs"))
    return found


def program(root: Root, path: str, prints: str) -> None:
    file = root.top / path
    file.parent.mkdir(exist_ok=True)
    file.write_text(f'#!/bin/sh\n[ "$*" = --version ] && echo "{prints}"\n')
    file.chmod(0o755)


def install(root: Root, found: Podman) -> None:
    program(root, "programs/podman", found.version)
    if found.netavark:
        program(root, "helpers/netavark", found.netavark)


def asked(told: bool = False) -> Podman:
    return podman.ask(podman_file.path(podman_file.CNI, "podnet"), told)


BACKENDS = [
    ("podman version 4.0.0", "", "cni"),
    ("podman version 4.3.1", "", "cni"),
    ("podman version 4.3.1", "netavark 1.4.0", "cni"),
    ("podman version 4.9.4-rhel", "netavark 1.10.3", "cni"),
    ("podman version 5.4.0", "netavark 1.14.0", "netavark"),
    ("podman version 5.4.2", "netavark 1.14.1", "netavark"),
    ("podman version 6.0.0-dev", "netavark 2.0.0-dev", "netavark"),
]


@pytest.mark.parametrize(("version", "netavark", "backend"), BACKENDS)
def test_the_backend_of_a_version(root: Root, version: str, netavark: str, backend: str) -> None:
    plan = plan_of(root, RANGE)
    found = Podman(version, netavark)
    assert podman.backend(plan, plan.nodes["n1"], found, []) == backend


_BEFORE_1_14 = (
    "netavark before 1.14 removes the bridge with its last container; install Podman 5.4 and "
    "netavark 1.14 or newer, or set podnet_podman to false"
)
_NEEDS = "is not known to work; podnet needs Podman 4, or 5.4 with netavark 1.14; install that, "
_SETTING = {"network_backend": ("netavark", "/etc/containers/containers.conf")}

REFUSED = [
    (
        Podman("podman version 4.9.3", "netavark 1.4.0", no_cni=True),
        "'podman version 4.9.3' was built without CNI, and before 5.4 it has no other way; install "
        "Podman 5.4 and netavark 1.14 or newer, or set podnet_podman to false",
    ),
    (Podman(), "Podman is not on this host; install it, or set podnet_podman to false"),
    (Podman("podman version 3.0.1"), f"'podman version 3.0.1' {_NEEDS}"),
    (Podman("podman", "netavark 1.14.0"), f"'podman' {_NEEDS}"),
    (
        Podman("podman version 5.4.2"),
        f"this host has 'podman version 5.4.2' and 'no netavark'. {_BEFORE_1_14}",
    ),
    (
        Podman("podman version 5.0.3", "netavark 1.10.3"),
        f"this host has 'podman version 5.0.3' and 'netavark 1.10.3'. {_BEFORE_1_14}",
    ),
    (Podman("podman version 5.4.2", "netavark 1.13.1"), _BEFORE_1_14),
    (Podman("podman version 5.3.0", "netavark 1.14.0"), _BEFORE_1_14),
    (
        Podman("podman version 4.3.1", settings=_SETTING),
        "/etc/containers/containers.conf sets network_backend to 'netavark', and with that "
        "'podman version 4.3.1' removes the bridge with its last container; take that line out",
    ),
    (
        Podman("podman version 4.3.1", "netavark 1.4.0", containers=2),
        "Podman has 2 container(s) made with netavark, and they would lose their network when "
        "podnet sets network_backend to 'cni'; remove them (podman rm), or set podnet_podman",
    ),
    (
        TRIXIE._replace(settings={"network_config_dir": ("/srv/nets", "/etc/x.conf")}),
        "/etc/x.conf sets network_config_dir to '/srv/nets', so Podman does not look into ",
    ),
    (
        BOOKWORM._replace(settings={"network_config_dir": ("/srv/nets", "/etc/x.conf")}),
        "/etc/x.conf sets network_config_dir to '/srv/nets', so Podman does not look into ",
    ),
]


@pytest.mark.parametrize(("found", "message"), REFUSED)
def test_what_cannot_work_is_refused(root: Root, found: Podman, message: str) -> None:
    plan = plan_of(root, RANGE)
    with pytest.raises(PodnetError) as caught:
        podman.backend(plan, plan.nodes["n1"], found, [])
    assert str(caught.value).startswith("n1: podnet_podman: ")
    assert message in str(caught.value)


def test_a_name_that_podman_understands_otherwise_is_refused(root: Root) -> None:
    plan = plan_of(root, name="host")
    with pytest.raises(PodnetError, match="podnet_name is 'host', which means something else"):
        podman.backend(plan, plan.nodes["n1"], BOOKWORM, [])


def test_podman_4_is_told_to_use_cni(root: Root) -> None:
    install(root, BOOKWORM)
    path = root.top / "etc/containers/containers.conf.d/60-podnet-podnet.conf"
    plan = plan_of(root)
    before = root.tree()
    assert str(path) in [one.path for one in configuration.inspect(plan, "n1").changes]
    assert root.tree() == before, "looking changes nothing"
    done(plan)
    assert path.read_text() == (
        "# Made by podnet for pod network podnet; podnet_podman: false removes it.\n"
        "[network]\n"
        'network_backend = "cni"\n'
        f'cni_plugin_dirs = ["{root.bin}", "{root.distribution}"]\n'
        f'network_config_dir = "{root.conf}"\n'
    )
    assert not configuration.inspect(plan, "n1").changed
    assert removed(plan).warnings == []
    assert root.tree() == before


def test_the_directory_is_not_said_where_it_is_the_usual_one(root: Root) -> None:
    plan = plan_of(root)
    usual = replace(plan, cni=replace(plan.cni, conf_dir="/etc/cni/net.d"))
    text = podman_file.content(podman_file.CNI, usual, plan.nodes["n1"], 1450, ["/usr/lib/cni"])
    assert "network_config_dir" not in text


def test_podman_5_gets_a_network_with_a_range_of_its_own(root: Root) -> None:
    install(root, TRIXIE)
    path = root.top / "etc/containers/networks/podnet.json"
    plan = plan_of(root, RANGE, RANGE6, subnet6="fd00:244::/64")
    before = root.tree()
    done(plan)
    found = json.loads(path.read_text())
    assert len(found.pop("id")) == 64
    assert found == {
        "name": "podnet",
        "driver": "bridge",
        "network_interface": "cni0",
        "created": "2000-01-01T00:00:00Z",
        "subnets": [
            {
                "subnet": "10.244.0.0/24",
                "gateway": "10.244.0.1",
                "lease_range": {"start_ip": "10.244.0.200", "end_ip": "10.244.0.223"},
            },
            {
                "subnet": "fd00:244::/64",
                "gateway": "fd00:244::1",
                "lease_range": {"start_ip": "fd00:244::f000", "end_ip": "fd00:244::ffff"},
            },
        ],
        "ipv6_enabled": True,
        "internal": False,
        "dns_enabled": False,
        "labels": {"podnet": "podnet_podman: false removes this network"},
        "options": {"mode": "unmanaged", "mtu": "1450"},
        "ipam_options": {"driver": "host-local"},
    }
    conflist = json.loads((root.conf / "10-podnet.conflist").read_text())
    ends = [
        (one["rangeStart"], one["rangeEnd"])
        for ranges in conflist["plugins"][0]["ipam"]["ranges"]
        for one in ranges
    ]
    assert ends == [
        ("10.244.0.2", "10.244.0.8"),
        ("10.244.0.10", "10.244.0.199"),
        ("10.244.0.224", "10.244.0.254"),
        ("fd00:244::2", "fd00:244::efff"),
        ("fd00:244::1:0", "fd00:244::ffff:ffff:ffff:ffff"),
    ]
    assert not configuration.inspect(plan, "n1").changed
    # A switch of the backend changes the MTU.
    (change,) = [
        one
        for one in done(plan_of(root, RANGE, RANGE6, subnet6="fd00:244::/64", mtu="1500")).changes
        if one.path == str(path)
    ]
    assert '"mtu": "1500"' in change.diff()["after"]
    assert removed(plan).warnings == []
    assert root.tree() == before


@pytest.mark.parametrize(
    ("ranges", "subnet6", "example"),
    [
        ((), "", "10.244.0.0/24.*such as 10.244.0.128-10.244.0.191;"),
        ((RANGE6,), "fd00:244::/64", "10.244.0.0/24"),
        ((RANGE,), "fd00:244::/64", "fd00:244::/64.*such as fd00:244::8000-fd00:244::80ff;"),
    ],
)
def test_podman_5_without_a_range_is_refused(
    root: Root, ranges: tuple[str, ...], subnet6: str, example: str
) -> None:
    install(root, TRIXIE)
    with pytest.raises(PodnetError, match=f"^n1: podnet_podman_range: has no range of {example}"):
        configuration.inspect(plan_of(root, *ranges, subnet6=subnet6), "n1", demand_plugins=False)


def test_an_address_that_is_in_use_in_the_range_is_refused(root: Root) -> None:
    install(root, TRIXIE)
    plan = plan_of(root, RANGE)
    held = Path(leases.directory("podnet"))
    held.mkdir(parents=True)
    (held / "10.244.0.199").write_text("outside")
    configuration.inspect(plan, "n1")
    (held / "10.244.0.200").write_text("inside")
    with pytest.raises(PodnetError, match=rf"holds 10\.244\.0\.200, which a pod has \({held}/10"):
        configuration.inspect(plan, "n1")
    (held / "10.244.0.200").unlink()
    with pytest.raises(PodnetError, match=r"holds 10\.244\.0\.223, which an endpoint has; end"):
        configuration.inspect(plan, "n1", endpoints=["10.244.0.9", "10.244.0.223"])


entries = st.tuples(st.integers(2, 254), st.integers(2, 254))


@given(entries, st.lists(entries, max_size=4), st.sampled_from(["", "10.244.0.9"]))
def test_host_local_gives_out_nothing_of_podmans_range(
    podmans: tuple[int, int], reserved: list[tuple[int, int]], endpoint: str
) -> None:
    """The plan refuses what overlaps; else what both give out, and endpoints, is apart."""
    host: dict[str, Any] = {"name": "n1", "inventory_dir": "/nowhere"}
    host["podnet_node_ip"] = "192.0.2.1"
    host |= {"podnet_podman": True, "podnet_podman_range": [spelt(podmans)]}
    host |= {"podnet_reserved": [spelt(one) for one in reserved]}
    if endpoint:
        host["podnet_endpoints"] = [{"name": "web", "address": endpoint}]
    try:
        plan = plan_from_text(plan_run([host], write=False)["document"])
    except PodnetError as error:
        inside = endpoint and min(podmans) <= 9 <= max(podmans)
        assert inside or "leaves no address" in str(error)
        return
    node = plan.nodes["n1"]
    network = json.loads(podman_file.content(podman_file.NETAVARK, plan, node, 1450, ()))
    (lease,) = (one["lease_range"] for one in network["subnets"])
    own = numbers(lease["start_ip"], lease["end_ip"])
    assert own == set(range(min(podmans), max(podmans) + 1))
    ranges = json.loads(conflist(plan, node, 1450, (), "1.0.0"))["plugins"][0]["ipam"]["ranges"]
    pods = {at for one in ranges[0] for at in numbers(one["rangeStart"], one["rangeEnd"])}
    assert pods
    assert not own & pods
    assert 9 not in own | pods or not endpoint


def spelt(ends: tuple[int, int]) -> str:
    return f"10.244.0.{min(ends)}-10.244.0.{max(ends)}"


def numbers(first: str, last: str) -> set[int]:
    low, high = (int(one.rpartition(".")[2]) for one in (first, last))
    return set(range(low, high + 1))


def test_false_removes_what_was_written(root: Root) -> None:
    install(root, BOOKWORM)
    plan = plan_of(root)
    without = root.plan()
    done(without)
    before = root.tree()
    record = Path(cni_record.record_path("podnet"))
    recorded = record.read_text()
    done(plan)
    assert json.loads(record.read_text())["podman"].endswith("60-podnet-podnet.conf")
    done(without)
    # The directory goes with the network: others may have put something into it by then.
    assert [one for one in root.tree() if "containers" not in one] == before
    assert not list(root.top.glob("etc/containers/**/*.conf"))
    assert record.read_text() == recorded


def test_a_host_whose_podman_was_upgraded_has_the_new_file_alone(root: Root) -> None:
    install(root, BOOKWORM)
    done(plan_of(root, RANGE))
    install(root, TRIXIE)
    done(plan_of(root, RANGE))
    there = [one.name for one in (root.top / "etc/containers").rglob("*") if one.is_file()]
    assert there == ["podnet.json"]


@pytest.mark.parametrize("found", [BOOKWORM, TRIXIE])
@pytest.mark.parametrize("drift", ["gone", "changed", "mark", "mode", "record"])
def test_drift_is_repaired(root: Root, found: Podman, drift: str) -> None:
    install(root, found)
    plan = plan_of(root, RANGE)
    done(plan)
    (path,) = (one for one in (root.top / "etc/containers").rglob("*") if one.is_file())
    text = path.read_text()
    if drift == "gone":
        path.unlink()
    elif drift == "changed":
        path.write_text(text.replace("cni_plugin_dirs", "other").replace("1450", "1400"))
    elif drift == "mark":
        path.write_text("{}")
    elif drift == "mode":
        path.chmod(0o600)
    else:
        Path(cni_record.record_path("podnet")).unlink()
    assert done(plan).changed
    assert (path.read_text(), path.stat().st_mode & 0o777) == (text, 0o644)
    assert not configuration.inspect(plan, "n1").changed


@pytest.mark.parametrize("found", [BOOKWORM, TRIXIE])
def test_a_file_of_somebody_else_is_refused_and_never_removed(root: Root, found: Podman) -> None:
    install(root, found)
    plan = plan_of(root, RANGE)
    done(plan)
    (path,) = (one for one in (root.top / "etc/containers").rglob("*") if one.is_file())
    path.write_text("{}")
    told = removed(plan).warnings
    assert told == [f"{path}: is no longer what podnet wrote; it was left alone"]
    assert path.read_text() == "{}"
    with pytest.raises(PodnetError, match=f"{path}: podnet_podman needs this file, and podnet did"):
        configuration.inspect(plan, "n1", demand_plugins=False)
    done(root.plan())
    removed(root.plan())
    assert path.read_text() == "{}"


def test_the_host_is_asked(root: Root) -> None:
    assert asked() == Podman()
    install(root, TRIXIE)
    assert asked() == TRIXIE
    etc, vendor = root.top / "etc/containers", root.top / "usr/share/containers"
    (etc / "containers.conf.d").mkdir(parents=True)
    vendor.mkdir(parents=True)
    (vendor / "containers.conf").write_text('[network]\nnetwork_backend = "vendor"\n')
    (etc / "containers.conf").write_text('#network_backend = "no"\n network_config_dir="/srv/n"\n')
    (etc / "containers.conf.d/50-theirs.conf").write_text("network_backend = 'netavark'\n")
    (etc / "containers.conf.d/60-podnet-podnet.conf").write_text(
        '# Made by podnet\nnetwork_backend = "cni"\n'
    )
    assert asked().settings == {
        "network_backend": ("netavark", str(etc / "containers.conf.d/50-theirs.conf")),
        "network_config_dir": ("/srv/n", str(etc / "containers.conf")),
    }


@pytest.mark.parametrize(
    ("chosen", "listed", "count"),
    [
        ("netavark", '[{"id": "a"}, {"id": "b"}]', 2),
        ("netavark", "[]", 0),
        ("netavark", "damaged", 0),
        ("cni", '[{"id": "a"}]', 0),
        ("", '[{"id": "a"}]', 0),
    ],
)
def test_containers_of_netavark_are_counted(
    root: Root, chosen: str, listed: str, count: int
) -> None:
    install(root, BOOKWORM)
    store = root.top / "var/storage"
    (store / "overlay-containers").mkdir(parents=True)
    (store / "overlay-containers/containers.json").write_text(listed)
    if chosen:
        (store / "defaultNetworkBackend").write_text(chosen)
    assert asked().containers == count


def test_containers_made_since_podnet_chose_cni_are_no_obstacle(root: Root) -> None:
    """What the store says was chosen first stays there."""
    install(root, BOOKWORM)
    store = root.top / "var/storage"
    (store / "overlay-containers").mkdir(parents=True)
    (store / "defaultNetworkBackend").write_text("netavark")
    done(plan_of(root))
    (store / "overlay-containers/containers.json").write_text('[{"id": "a"}]')
    assert not configuration.inspect(plan_of(root), "n1").changed
    (drop_in,) = (root.top / "etc/containers/containers.conf.d").iterdir()
    drop_in.unlink()
    assert done(plan_of(root)).changed
    # Another network of podnet's has told Podman, too.
    other = plan_of(root, name="other")
    other = replace(other, cni=replace(other.cni, conf_name="11-other.conflist"))
    done(other)
    done(root.plan())
    done(plan_of(root))
    removed(plan_of(root))
    removed(other)
    with pytest.raises(PodnetError, match=r"Podman has 1 container\(s\) made with netavark"):
        configuration.inspect(plan_of(root), "n1")


def test_a_podman_that_was_built_without_cni(root: Root) -> None:
    install(root, BOOKWORM)
    assert not asked().no_cni
    with (root.top / "programs/podman").open("a") as file:
        file.write("# \0cni support is not enabled in this build, only netavark. Got\0\n")
    assert asked() == BOOKWORM._replace(no_cni=True)


def test_a_program_that_fails_or_talks_too_much(root: Root) -> None:
    file = root.top / "programs/podman"
    file.parent.mkdir()
    file.write_text("#!/bin/sh\nexit 125\n")
    file.chmod(0o755)
    assert asked() == Podman()
    program(root, "programs/podman", "x" * 5000)
    assert asked() == Podman("x" * 80)

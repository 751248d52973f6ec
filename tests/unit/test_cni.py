from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from podnet.cni import cni_record, configuration
from podnet.core.errors import PodnetError
from podnet.keep import files, leases

from tests.unit.cni_root import Root, done, made, names, removed


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    return made(tmp_path, monkeypatch)


def test_life_of_a_configuration(root: Root) -> None:
    root.plugins()
    before = root.tree()
    plan = root.plan()
    assert configuration.inspect(plan, "n1", install="package").changed
    assert root.tree() == before, "looking changes nothing"
    seen = done(plan, install="package")
    assert seen.changed
    assert seen.cni_version == "1.0.0"
    assert seen.warnings == []
    assert json.loads((root.conf / "10-podnet.conflist").read_text())["name"] == "podnet"
    assert str(Path(root.bin / "bridge").readlink()) == str(root.distribution / "bridge")
    assert names(root.bin) == ["bridge", "host-local", "loopback", "portmap"]
    again = configuration.inspect(plan, "n1", install="package")
    assert not again.changed
    assert again.diff == []

    # A link once made stays, whatever is said later.
    assert not configuration.inspect(plan, "n1").changed

    held = Path(leases.DIRECTORY) / "podnet"
    held.mkdir(parents=True)
    (held / "last_reserved_ip.0").write_text("10.244.0.2")
    (held.parent.parent / "results").mkdir()
    gone = removed(plan)
    assert gone.changed
    assert gone.warnings == []
    assert root.tree() == before
    assert not configuration.inspect_absent("podnet", plan).changed


@pytest.mark.parametrize("drift", ["gone", "changed", "mode", "record", "link"])
def test_drift_is_repaired(root: Root, drift: str) -> None:
    root.plugins()
    plan = root.plan()
    done(plan, install="package")
    path = root.conf / "10-podnet.conflist"
    if drift == "gone":
        path.unlink()
    elif drift == "changed":
        path.write_text("{")
    elif drift == "mode":
        path.chmod(0o600)
    elif drift == "record":
        Path(cni_record.record_path("podnet")).unlink()
    else:
        (root.bin / "bridge").unlink()
    seen = done(plan, install="package")
    if drift != "record":
        assert len(seen.diff) == 1
    assert seen.changed
    assert not configuration.inspect(plan, "n1", install="package").changed


def test_plugin_missing_is_an_error_before_anything_is_written(root: Root) -> None:
    for name in ("bridge", "host-local"):
        root.plugin(name)
    before = root.tree()
    with pytest.raises(PodnetError) as caught:
        configuration.inspect(root.plan(), "n1")
    assert str(caught.value) == (
        f"n1: CNI plugin portmap not found in {root.bin}, {root.distribution}; install the CNI "
        "plugins, or set podnet_cni_install to package or archive"
    )
    assert root.tree() == before
    assert configuration.inspect(root.plan(), "n1", demand_plugins=False).missing == ["portmap"]


def test_version_is_what_all_speak(root: Root) -> None:
    root.plugins()
    root.plugin("portmap", root.bin, ["0.3.0", "0.3.1"])
    seen = configuration.inspect(root.plan(), "n1")
    assert seen.cni_version == "0.3.1"
    assert seen.plugins["portmap"] == str(root.bin / "portmap")
    assert "bridge, host-local found in" in seen.warnings[0]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("#!/bin/sh\nexit 3\n", "VERSION failed: status 3"),
        ("#!/bin/sh\necho no\n", "is no JSON object"),
        ("#!/bin/sh\necho '{}'\n", "did not say which CNI versions"),
        ("\x7fELF", "cannot run it"),
    ],
)
def test_broken_plugin(root: Root, script: str, message: str) -> None:
    root.plugins()
    (root.distribution / "portmap").write_text(script)
    with pytest.raises(PodnetError, match=message):
        configuration.inspect(root.plan(), "n1")


def test_renamed_file_leaves_no_second_one(root: Root) -> None:
    root.plugins(root.bin)
    done(root.plan())
    seen = done(root.plan(conf_name="20-podnet.conflist"))
    assert seen.warnings == []
    assert names(root.conf) == ["20-podnet.conflist"]
    assert not configuration.inspect(root.plan(conf_name="20-podnet.conflist"), "n1").changed


def test_foreign_files(root: Root) -> None:
    root.plugins(root.bin)
    root.conf.mkdir(parents=True)
    calico = '{"name": "k8s-pod-network", "plugins": [{"type": "calico"}]}'
    (root.conf / "05-calico.conflist").write_text(calico)
    (root.conf / "06-broken.conf").write_text("{")
    (root.conf / "07-ours.json").write_text('{"name": "podnet"}')
    (root.conf / "01-readme.txt").write_text("")
    (root.conf / "99-loopback.conf").write_text('{"name": "lo", "type": "loopback"}')
    warnings = configuration.inspect(root.plan(), "n1").warnings
    assert len(warnings) == 2
    assert "07-ours.json: holds a network 'podnet', too" in warnings[0]
    assert "05-calico.conflist: sorts before 10-podnet.conflist" in warnings[1]
    assert "network 'k8s-pod-network' (calico)" in warnings[1]
    assert "06-broken.conf" in warnings[1]
    before = names(root.conf)
    done(root.plan())
    removed(root.plan())
    assert names(root.conf) == before


@pytest.mark.parametrize("content", ['{"name": "cbr0"}', "rubbish", "[]"])
def test_a_foreign_file_of_our_name_is_refused_and_kept(root: Root, content: str) -> None:
    root.plugins(root.bin)
    root.conf.mkdir(parents=True)
    path = root.conf / "10-podnet.conflist"
    path.write_text(content)
    with pytest.raises(PodnetError, match="podnet did not write it"):
        configuration.inspect(root.plan(), "n1")
    assert not configuration.inspect_absent("podnet", root.plan()).changed
    assert path.read_text() == content


def test_two_networks_share_links_and_directories(root: Root) -> None:
    root.plugins()
    before = root.tree()
    red, blue = root.plan("red", "11-red.conflist"), root.plan("blue", "12-blue.conflist")
    done(red, install="package")
    done(blue, install="package")
    removed(red)
    assert (root.bin / "bridge").exists()
    assert not configuration.inspect(blue, "n1", install="package").changed
    removed(blue)
    assert root.tree() == before


def test_leases_of_running_pods_stay(root: Root) -> None:
    root.plugins(root.bin)
    plan = root.plan()
    done(plan)
    held = Path(leases.DIRECTORY) / "podnet"
    held.mkdir(parents=True)
    (held / "10.244.0.3").write_text("pod\neth0")
    assert "pods still hold 1 address(es) (10.244.0.3)" in removed(plan).warnings[0]
    assert (held / "10.244.0.3").exists()


def test_recorded_endpoints_are_reserved(root: Root) -> None:
    root.plugins(root.bin)
    path = Path(files.STATE) / "podnet" / "endpoints.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"web": {"address": "10.244.0.254", "address6": ""}}')
    assert '"rangeEnd": "10.244.0.253"' in configuration.inspect(root.plan(), "n1").content
    for bad in ("[]", "{", '{"web": 1}', '{"web": {"address": "x"}}'):
        path.write_text(bad)
        with pytest.raises(PodnetError, match=r"endpoints\.json: damaged"):
            configuration.inspect(root.plan(), "n1")


def test_archive_moves_and_goes(root: Root) -> None:
    for number in ("1111", "2222"):
        root.plugins(Path(cni_record.ARCHIVES) / number)
    one, two = (f"{cni_record.ARCHIVES}/{number}" for number in ("1111", "2222"))
    done(root.plan(), install="archive", archive_dir=one)
    assert str(Path(root.bin / "bridge").readlink()) == one + "/bridge"
    done(root.plan(), install="archive", archive_dir=two)
    assert str(Path(root.bin / "bridge").readlink()) == two + "/bridge"
    assert names(cni_record.ARCHIVES) == ["2222"]
    assert not configuration.inspect(root.plan(), "n1", install="archive").changed
    removed(root.plan())
    assert not Path(cni_record.ARCHIVES).parent.exists()
    with pytest.raises(PodnetError, match="archive_dir"):
        configuration.inspect(root.plan(), "n1", install="archive", archive_dir="/etc")


def test_the_archive_that_was_asked_for_is_what_counts(root: Root) -> None:
    root.plugins()
    done(root.plan(), install="package")
    asked = f"{cni_record.ARCHIVES}/3333"
    options: dict[str, Any] = {"install": "archive", "archive_dir": asked}
    seen = configuration.inspect(root.plan(), "n1", demand_plugins=False, **options)
    assert seen.missing == ["bridge", "host-local", "portmap"]
    root.plugins(Path(asked))
    done(root.plan(), **options)
    assert str((root.bin / "bridge").readlink()) == asked + "/bridge"
    assert not configuration.inspect(root.plan(), "n1").changed


def test_a_record_is_no_order_to_delete_anything(root: Root) -> None:
    root.plugins(root.bin)
    path = Path(cni_record.record_path("podnet"))
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"path": "/etc/passwd", "archive_dir": "/etc", "links": []}))
    seen = configuration.inspect_absent("podnet")
    assert [change.path for change in seen.changes] == [str(path)]


def test_bad_arguments(root: Root) -> None:
    root.plugins(root.bin)
    with pytest.raises(PodnetError, match="n9: not in the plan"):
        configuration.inspect(root.plan(), "n9")
    with pytest.raises(PodnetError, match=r"does not end in \.conflist"):
        configuration.inspect(root.plan(conf_name="10-podnet.conf"), "n1")
    with pytest.raises(PodnetError, match="mtu: 100 is not between"):
        configuration.inspect(root.plan(), "n1", 100)
    with pytest.raises(PodnetError, match="reserved address"):
        configuration.inspect(root.plan(), "n1", reserved=["x"])


def test_mtu_without_a_bridge_is_what_the_network_would_have(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.plugins(root.bin)
    monkeypatch.setattr(configuration, "interface_mtu", lambda _bridge: None)
    plan = root.plan(mtu="auto")
    assert configuration.inspect(plan, "n1", predicted_mtu=lambda: 1430).mtu == 1430
    with pytest.raises(PodnetError, match="no bridge cni0 to take the MTU from"):
        configuration.inspect(plan, "n1")
    monkeypatch.setattr(configuration, "interface_mtu", lambda _bridge: 1400)
    assert configuration.inspect(plan, "n1", predicted_mtu=lambda: 1430).mtu == 1400
    assert configuration.inspect(plan, "n1", 1300).mtu == 1300

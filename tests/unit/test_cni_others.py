"""CNI configurations of others: which one wins, what is said, and podnet_cni_exclusive."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from podnet.cni import cni_record, configuration, others
from podnet.core.errors import PodnetError
from podnet.core.model import Plan
from podnet.keep import files

from tests.unit.cni_root import Root, done, made, names, removed


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    return made(tmp_path, monkeypatch)


def conflist(name: str, *kinds: str) -> str:
    plugins = [{"type": kind} for kind in kinds]
    return json.dumps({"cniVersion": "0.3.1", "name": name, "plugins": plugins})


def multus(**fields: Any) -> str:
    return json.dumps({"cniVersion": "0.3.1", "name": "multus-cni-network", **fields})


#: As these projects write them: file -> text.
FLANNEL = json.dumps(
    {
        "name": "cbr0",
        "cniVersion": "0.3.1",
        "plugins": [
            {"type": "flannel", "delegate": {"hairpinMode": True, "isDefaultGateway": True}},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }
)
THIN = multus(
    type="multus",
    capabilities={"portMappings": True},
    kubeconfig="/etc/cni/net.d/multus.d/multus.kubeconfig",
    delegates=[json.loads(FLANNEL)],
)
FILES = {
    "10-flannel.conflist": FLANNEL,
    "10-calico.conflist": conflist("k8s-pod-network", "calico", "bandwidth", "portmap"),
    "05-cilium.conflist": conflist("cilium", "cilium-cni"),
    "05-cilium.conf": '{"cniVersion": "0.3.1", "name": "cilium", "type": "cilium-cni"}',
    "10-containerd-net.conflist": conflist("containerd-net", "bridge", "portmap"),
    "10-canal.conflist": conflist("k8s-pod-network", "calico", "portmap"),
    "10-aws.conflist": conflist("aws-cni", "aws-cni", "egress-cni", "portmap"),
}
AFTER = {
    "10-weave.conflist": conflist("weave", "weave-net", "portmap"),
    "87-podman-bridge.conflist": conflist("podman", "bridge", "portmap", "firewall", "tuning"),
    "100-crio-bridge.conflist": conflist("crio", "bridge"),
    "99-loopback.conf": '{"cniVersion": "0.2.0", "type": "loopback"}',
}


def place(root: Root, those: dict[str, str]) -> None:
    root.plugins(root.bin)
    root.conf.mkdir(parents=True, exist_ok=True)
    for name, text in those.items():
        (root.conf / name).write_text(text)


def exclusive(plan: Plan) -> Plan:
    return replace(plan, cni=replace(plan.cni, exclusive=True))


def warnings(plan: Plan) -> list[str]:
    return configuration.inspect(plan, "n1").warnings


@pytest.mark.parametrize("name", FILES)
def test_what_a_runtime_takes_instead_is_named_with_the_ways_out(root: Root, name: str) -> None:
    place(root, {name: FILES[name]})
    found = json.loads(FILES[name])
    kinds = ", ".join(one["type"] for one in found.get("plugins", [found]))
    assert warnings(root.plan()) == [
        f"{root.conf}/{name}: sorts before 10-podnet.conflist, so container runtimes take it: "
        f"network '{found['name']}' ({kinds}). Not podnet's network 'podnet'. Ways out: "
        "podnet_cni_exclusive: true moves such files aside until reset.yml, podnet_cni_conf_name "
        "gives podnet's a name that sorts first, or remove them"
    ]
    assert warnings(root.plan(conf_name="00-podnet.conflist")) == []


def test_only_the_first_wins_and_the_rest_is_named(root: Root) -> None:
    place(root, FILES | AFTER)
    (said,) = warnings(root.plan())
    assert "05-cilium.conf: sorts before" in said
    assert "; 05-cilium.conflist (network 'cilium' (cilium-cni)), 10-aws.conflist (" in said
    assert "weave" not in said


def test_what_sorts_after_is_no_warning(root: Root) -> None:
    place(root, AFTER)
    assert warnings(root.plan()) == []


def test_a_broken_file_in_front_stops_containerd(root: Root) -> None:
    place(root, {"00-half.conflist": FLANNEL[:50]})
    (said,) = warnings(root.plan())
    assert "no network configuration that can be read (containerd then starts no pod" in said


@pytest.mark.parametrize("name", ["a.txt", "05-cilium.conflist.cilium_bak", "b.podnet-disabled"])
def test_what_no_runtime_reads_does_not_matter(root: Root, name: str) -> None:
    place(root, {name: FLANNEL})
    (root.conf / "00-directory.conf").mkdir()
    assert warnings(root.plan()) == []


# fmt: off
#: Multus in front of podnet's file -> what is said of it; "" for nothing.
MULTUS = {
    THIN: "hands pods to cbr0, not to podnet's network 'podnet'; name ",
    multus(type="multus-shim", clusterNetwork="/host/etc/cni/net.d/10-flannel.conflist"):
        "hands pods to /host/etc/cni/net.d/10-flannel.conflist, not",
    multus(type="multus-shim"): "does not say to which network it hands pods; podnet's is in /",
    multus(type="multus-shim", clusterNetwork="/host/etc/cni/net.d/10-podnet.conflist"): "",
    multus(type="multus", clusterNetwork="podnet"): "",
    multus(type="multus", clusterNetwork="10-podnet"): "",
    multus(type="multus", delegates=[{"name": "podnet", "plugins": []}]): "",
}
# fmt: on


@pytest.mark.parametrize("text", MULTUS)
@pytest.mark.parametrize("alone", [True, False])
def test_multus_may_be_first_and_is_asked_whom_it_hands_pods_to(
    root: Root, text: str, alone: bool
) -> None:
    place(root, {"00-multus.conf": text})
    plan = root.plan() if alone else exclusive(root.plan())
    said = warnings(plan)
    assert len(said) == bool(MULTUS[text])
    assert MULTUS[text] in "".join(said)
    done(plan)
    assert (root.conf / "00-multus.conf").read_text() == text


def test_exclusive_moves_the_others_aside_and_reset_puts_them_back(root: Root) -> None:
    place(root, FILES | AFTER | {"00-multus.conf": multus(type="multus", clusterNetwork="podnet")})
    (root.conf / "01-link.conf").symlink_to("10-flannel.conflist")
    before = root.tree()
    plan = exclusive(root.plan())
    seen = configuration.inspect(plan, "n1")
    assert root.tree() == before, "looking changes nothing"
    assert seen.warnings == []
    # Podnet's own is there before the first other one goes.
    paths = [change.path for change in seen.changes]
    assert paths[:2] == [cni_record.record_path("podnet"), seen.path]
    assert paths[2:] == [str(root.conf / name) for name in sorted([*FILES, *AFTER, "01-link.conf"])]
    assert {one["after_header"] for one in seen.diff[2:]} == {
        f"{p}.podnet-disabled" for p in paths[2:]
    }
    configuration.apply(seen, "podnet")
    read = [one for one in names(root.conf) if one.endswith(others.EXTENSIONS)]
    assert read == ["00-multus.conf", "10-podnet.conflist"]
    assert not configuration.inspect(plan, "n1").changed
    gone = removed(plan)
    assert gone.warnings == []
    # The way back: theirs first.
    assert gone.changes[-2].path == seen.path
    assert root.tree() == before


def test_turning_it_off_puts_them_back(root: Root) -> None:
    place(root, FILES)
    done(exclusive(root.plan()))
    seen = done(root.plan())
    assert "05-cilium.conf: sorts before" in seen.warnings[0]
    assert names(root.conf) == sorted([*FILES, "10-podnet.conflist"])
    assert not configuration.inspect(root.plan(), "n1").changed


def test_another_directory_gets_its_files_back(root: Root) -> None:
    place(root, {"05-cilium.conflist": FILES["05-cilium.conflist"]})
    done(exclusive(root.plan()))
    other = root.top / "etc" / "other"
    plan = root.plan()
    done(replace(plan, cni=replace(plan.cni, exclusive=True, conf_dir=str(other))))
    assert names(root.conf) == ["05-cilium.conflist"]
    assert names(other) == ["10-podnet.conflist"]


def test_a_file_that_comes_later_is_drift(root: Root) -> None:
    place(root, {"10-flannel.conflist": FLANNEL})
    plan = exclusive(root.plan())
    done(plan)
    place(root, {"10-flannel.conflist": FLANNEL + " ", "05-cilium.conf": FILES["05-cilium.conf"]})
    seen = done(plan)
    assert len(seen.changes) == 2
    aside = ["05-cilium.conf.podnet-disabled", "10-flannel.conflist.podnet-disabled"]
    assert names(root.conf) == [aside[0], aside[1], "10-podnet.conflist"]
    # What its owner wrote last is what comes back.
    removed(plan)
    assert (root.conf / "10-flannel.conflist").read_text() == FLANNEL + " "


def test_what_was_written_anew_meanwhile_is_not_overwritten(root: Root) -> None:
    place(root, {"10-flannel.conflist": FLANNEL, "05-cilium.conf": FILES["05-cilium.conf"]})
    plan = exclusive(root.plan())
    done(plan)
    place(root, {"10-flannel.conflist": "new", "05-cilium.conf": FILES["05-cilium.conf"]})
    gone = removed(plan)
    assert "10-flannel.conflist.podnet-disabled: podnet moved it aside, and" in gone.warnings[0]
    left = ["05-cilium.conf", "10-flannel.conflist", "10-flannel.conflist.podnet-disabled"]
    assert names(root.conf) == left
    assert (root.conf / "10-flannel.conflist").read_text() == "new"


def test_somebody_elses_file_of_that_name_is_refused_before_anything_changes(root: Root) -> None:
    place(root, {"05-cilium.conf": "{}", "05-cilium.conf.podnet-disabled": "mine"})
    before = root.tree()
    with pytest.raises(PodnetError, match=r"podnet-disabled: is in the way of podnet_cni_exclus"):
        configuration.inspect(exclusive(root.plan()), "n1")
    assert root.tree() == before
    (root.conf / "05-cilium.conf.podnet-disabled").write_text("{}")
    done(exclusive(root.plan()))
    assert names(root.conf) == ["05-cilium.conf.podnet-disabled", "10-podnet.conflist"]


def test_a_lost_record_does_not_lose_them(root: Root) -> None:
    place(root, {"05-cilium.conf": "{}"})
    plan = exclusive(root.plan())
    done(plan)
    Path(cni_record.record_path("podnet")).unlink()
    removed(plan)
    assert names(root.conf) == ["05-cilium.conf"]


def test_files_of_other_podnet_networks_stay(root: Root) -> None:
    place(root, {"05-cilium.conf": "{}"})
    red, blue = root.plan("red", "11-red.conflist"), root.plan("blue", "12-blue.conflist")
    done(red)
    done(exclusive(blue))
    kept = ["05-cilium.conf.podnet-disabled", "11-red.conflist", "12-blue.conflist"]
    assert names(root.conf) == kept
    assert "another podnet network of this host" in warnings(exclusive(blue))[0]
    # Whoever leaves, the one that stays keeps them aside; the last puts them back.
    done(exclusive(red))
    for one in (red, blue):
        assert not configuration.inspect(exclusive(one), "n1").changed
    done(blue)
    assert names(root.conf) == kept
    removed(red)
    assert names(root.conf) == ["05-cilium.conf", "12-blue.conflist"]


def test_flannels_file_is_removed_by_adoption_also_from_aside(root: Root) -> None:
    place(root, {"10-flannel.conflist": FLANNEL, "05-cilium.conf": FILES["05-cilium.conf"]})
    plan = exclusive(root.plan())
    done(plan)
    adopting = replace(plan, nodes={"n1": replace(plan.nodes["n1"], adopt=True)})
    done(adopting)
    assert names(root.conf) == ["05-cilium.conf.podnet-disabled", "10-podnet.conflist"]
    assert not configuration.inspect(adopting, "n1").changed
    removed(adopting)
    assert names(root.conf) == ["05-cilium.conf"]


def test_a_run_that_fails_half_way_is_undone(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    place(root, {"05-cilium.conf": "{}", "06-fixed.conf": "{}"})
    before = root.tree()
    seen = configuration.inspect(exclusive(root.plan()), "n1")
    apply = files.MoveChange.apply

    def refuse(change: files.MoveChange) -> None:
        if "06-fixed" in change.path:
            raise PodnetError("06-fixed.conf: cannot rename it (Operation not permitted)")
        apply(change)

    monkeypatch.setattr(files.MoveChange, "apply", refuse)
    with pytest.raises(
        PodnetError, match=r"06-fixed.*\. All changes of the CNI configuration .* are undone"
    ):
        configuration.apply(seen, "podnet")
    files.prune_directories([f"{files.STATE}/podnet"])
    assert [one for one in root.tree() if "cni/net.d" in one] == [
        one for one in before if "cni/net.d" in one
    ]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["name", "type", "plugins", "delegates", "clusterNetwork"]), inner
        )
    ),
)


@given(_JSON.map(json.dumps) | st.text())
def test_whatever_a_file_holds_it_is_described(text: str) -> None:
    found = others.parse("/etc/cni/net.d/00-x.conf", text)
    assert found.what()
    assert all(found.hands_to)
    others.judge("podnet", "/etc/cni/net.d/10-podnet.conflist", [found], [])

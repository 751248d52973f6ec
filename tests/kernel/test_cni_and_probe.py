"""The rendered configuration run by the real plugins, and the proof on real paths."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.netns_hosts import Host, ansible, plan_document

pytestmark = pytest.mark.kernel

_PRELUDE = """
import json, sys
from podnet.cni import configuration
from podnet.keep import files
from podnet.kernel import netns
from podnet.probe import questions, probe_pod, icmp
from podnet.cni.chain import Attachment, PluginChain
from podnet.core.model import Plan
plan = Plan.from_document(json.loads({document!r}))
def configure(**options):
    seen = configuration.inspect(plan, {node!r}, **options)
    configuration.apply(seen, plan.name)
    return seen
"""


def python(host: Host, code: str, document: dict[str, Any]) -> Any:
    prelude = _PRELUDE.format(document=json.dumps(document), node=host.name)
    return host.python(prelude + code)


def left_behind(host: Host) -> str:
    return host.run("ip", "netns") + host.run("ip", "-br", "link", "show", "master", "cni0")


@pytest.mark.parametrize("bits", [29, 28])
def test_host_local_hands_out_exactly_the_free_addresses(three: list[Host], bits: int) -> None:
    document = plan_document(3, six=False)
    document["nodes"][0]["subnet"] = f"10.244.0.0/{bits}"
    document["nodes"][0]["endpoints"] = [{"name": "web", "address": "10.244.0.4"}]
    document["nodes"][0]["reserved"] = ["10.244.0.2-10.244.0.3"]
    code = """
text = configuration.conflist(plan, plan.nodes["n1"], 1450, ["10.244.0.6"], "1.0.0")
ipam = json.loads(text)["plugins"][0]["ipam"]
one = json.dumps({"cniVersion": "1.0.0", "name": "exhaust", "plugins": [{"type": "host-local",
                  "ipam": ipam}]})
chain = PluginChain.from_text(one, ["/usr/lib/cni"])
handed = []
try:
    while len(handed) < 40:
        result = chain.add(Attachment(f"c{len(handed)}", "/nowhere"))
        handed.append(result["ips"][0]["address"].split("/")[0])
except Exception as error:
    refused = str(error)
for number in range(len(handed)):
    chain.delete(Attachment(f"c{number}", "/nowhere"))
print(json.dumps([handed, refused]))
"""
    handed, refused = python(three[0], code, document)
    last = 2 ** (32 - bits) - 2
    free = {f"10.244.0.{place}" for place in range(4, last + 1)} - {"10.244.0.4", "10.244.0.6"}
    assert len(handed) == len(set(handed))
    assert set(handed) == free
    assert "no IP addresses available" in refused


def test_used_and_free_addresses_are_what_the_plugin_has_and_says(three: list[Host]) -> None:
    document = plan_document(3)
    document["nodes"][0]["subnet"] = "10.244.0.0/28"
    document["nodes"][0]["reserved"] = ["10.244.0.5-10.244.0.7"]
    code = """
from podnet.cni import addresses
from podnet.host import info
import os
configure(mtu=1500, endpoints=["10.244.0.14"])
text = open("/etc/cni/net.d/10-podnet.conflist").read()
bridge = json.loads(text)["plugins"][0]
one = dict(json.loads(text), plugins=[{"type": "host-local", "ipam": bridge["ipam"]}])
chain = PluginChain.from_text(json.dumps(one), ["/usr/lib/cni"])
told = []
for number in range(9):
    chain.add(Attachment(f"c{number}", "/nowhere"))
    told.append(len(addresses.crowded("n1", addresses.usage("podnet"))))
try:
    chain.add(Attachment("more", "/nowhere"))
except Exception as error:
    refused = str(error)
found = info.cni("podnet")
for number in range(9):
    chain.delete(Attachment(f"c{number}", "/nowhere"))
print(json.dumps([found, told, refused, info.cni("podnet")["addresses"]["ipv4"]]))
"""
    found, told, refused, after = python(three[0], code, document)
    path = "/etc/cni/net.d/10-podnet.conflist"
    assert (found["path"], found["first"], found["others"], found["aside"]) == (path, path, [], [])
    assert found["addresses"]["ipv4"] == {"size": 9, "used": 9, "free": 0}
    assert found["addresses"]["ipv6"] == {"size": 2**64 - 2, "used": 9, "free": 2**64 - 11}
    # From the ninth of nine on; eight are 88 %.
    assert told == [0] * 8 + [1]
    assert "failed to allocate for range 0: no IP addresses available in range set: 10." in refused
    assert after == {"size": 9, "used": 0, "free": 9}


def test_a_pod_keeps_an_address_that_is_reserved_under_it(three: list[Host]) -> None:
    """Its removal frees the address, and no pod gets it after that."""
    code = """
from dataclasses import replace
import os
def chain(*reserved):
    node = replace(plan.nodes["n1"], reserved=reserved)
    ipam = json.loads(configuration.conflist(plan, node, 1450, [], "1.0.0"))["plugins"][0]["ipam"]
    plugins = [{"type": "host-local", "ipam": ipam}]
    one = {"cniVersion": "1.0.0", "name": "kept", "plugins": plugins}
    return PluginChain.from_text(json.dumps(one), ["/usr/lib/cni"])
def add(those, name):
    return those.add(Attachment(name, "/nowhere"))["ips"][0]["address"].split("/")[0]
old, new = chain(), chain("10.244.0.2-10.244.0.9")
first = add(old, "a")
new.check(Attachment("a", "/nowhere"), {"cniVersion": "1.0.0", "ips": [{"address": first + "/24"}]})
second = add(new, "b")
held = os.path.exists("/var/lib/cni/networks/kept/" + first)
for name in "ab":
    new.delete(Attachment(name, "/nowhere"))
third = add(new, "c")
new.delete(Attachment("c", "/nowhere"))
left = [one for one in os.listdir("/var/lib/cni/networks/kept") if one.startswith("10.")]
print(json.dumps([first, second, held, third, left]))
"""
    first, second, held, third, left = python(three[0], code, plan_document(3, six=False))
    assert first == "10.244.0.2"
    assert second == "10.244.0.10"
    assert held
    assert int(third.split(".")[3]) >= 10
    assert left == []


def test_pod_is_what_the_configuration_says_and_goes_without_trace(three: list[Host]) -> None:
    code = """
configure(mtu=1400)
pod = probe_pod.make(plan, "n1")
record = json.loads(open("/run/podnet/podnet/probe.json").read())
chain = PluginChain.from_text(record["conflist"], record["directories"])
chain.check(Attachment(record["netns"], pod.netns), record["result"])
probe_pod.make(plan, "n1")  # takes the place of the first
warnings = probe_pod.remove("podnet")
import os
print(json.dumps([vars(pod), warnings, probe_pod.exists("podnet"), os.path.exists("/run/podnet"),
      sorted(os.listdir("/var/lib/cni/networks/podnet"))]))
"""
    pod, warnings, exists, directory, leases = python(three[0], code, plan_document(3))
    assert pod["mtu"] == 1400
    assert pod["address"].startswith("10.244.0.")
    assert pod["address6"].startswith("fd00:244::")
    assert (pod["gateway"], pod["gateway6"]) == ("10.244.0.1", "fd00:244::1")
    assert warnings == []
    assert not exists
    assert not directory
    assert leases == ["last_reserved_ip.0", "last_reserved_ip.1", "lock"]
    assert left_behind(three[0]) == ""


def test_six_only(three: list[Host]) -> None:
    document = plan_document(3, cluster_cidr="")
    for node in document["nodes"]:
        del node["subnet"]
    code = """
configure(mtu=1500)
pod = probe_pod.make(plan, "n1")
found = questions.probe("n1", pod, {}, [], [])
probe_pod.remove("podnet")
print(json.dumps([vars(pod), found]))
"""
    pod, found = python(three[0], code, document)
    assert (pod["address"], pod["gateway"]) == ("", "")
    assert found == {"asked": 2, "answered": 2, "failures": [], "outside": [], "notes": []}


def test_remnants_are_cleared_even_without_plugins(three: list[Host]) -> None:
    code = """
configure(mtu=1500)
pod = probe_pod.make(plan, "n1")
record = json.loads(open("/run/podnet/podnet/probe.json").read())
record["directories"] = ["/nowhere"]
open("/run/podnet/podnet/probe.json", "w").write(json.dumps(record))
warnings = probe_pod.remove("podnet")
again = probe_pod.remove("podnet")
import os
print(json.dumps([warnings, again, sorted(os.listdir("/var/lib/cni/networks/podnet"))]))
"""
    warnings, again, leases = python(three[0], code, plan_document(3))
    assert "not found in /nowhere" in warnings[0]
    assert again == []
    assert "lock" in leases
    assert not [one for one in leases if one.startswith(("10.", "fd"))]
    assert left_behind(three[0]) == ""


def test_failed_attachment_leaves_nothing(three: list[Host]) -> None:
    code = """
configure(mtu=1500)
text = open("/etc/cni/net.d/10-podnet.conflist").read()
open("/etc/cni/net.d/10-podnet.conflist", "w").write(text.replace('"cni0"', '"eth0"'))
try:
    probe_pod.make(plan, "n1")
    said = ""
except Exception as error:
    said = f"{type(error).__name__}: {error}"
configure(mtu=1500)
print(json.dumps([said, probe_pod.exists("podnet")]))
"""
    said, exists = python(three[0], code, plan_document(3))
    assert said.startswith("PodnetError: ")
    assert "ADD failed" in said
    assert not exists
    assert left_behind(three[0]) == ""


def test_reasons(three: list[Host]) -> None:
    code = """
P = icmp.Probe
found = icmp.run([P("h", "10.244.0.1"), P("h", "10.244.0.1", 1500), P("h", "192.0.2.1"),
    P("h", "192.0.2.1", 1501), P("h", "198.18.0.1"), P("h", "192.0.2.77"), P("h", "fd00:244::1"),
    P("h", "2001:db8::1"), P("h", "fd00:2::12", 1500), P("h", "fd00:2::12", 1501)], {"h": ""})
print(json.dumps([one.error for one in found]))
"""
    document = plan_document(3)
    three[0].ip("route add unreachable 198.18.0.0/15")
    try:
        assert python(three[0], code, document) == [
            "",
            "",
            "",
            "message too long: the device here has a smaller MTU",
            "host unreachable",
            "no reply",
            "",
            "no route to it",
            "",
            "message too long: the device here has a smaller MTU",
        ]
    finally:
        three[0].ip("route del unreachable 198.18.0.0/15")


def test_a_thousand_targets_in_the_time_of_one(three: list[Host]) -> None:
    three[1].ip("route add local 10.99.0.0/22 dev lo")
    three[0].ip("route add 10.99.0.0/22 via 192.0.2.12")
    code = """
import time
probes = [icmp.Probe("h", f"10.99.{n // 250}.{n % 250 + 1}", size) for n in range(1000)
          for size in (84, 1500)]
start = time.monotonic()
found = icmp.run(probes, {"h": ""})
print(json.dumps([sum(one.ok for one in found), time.monotonic() - start]))
"""
    answered, seconds = python(three[0], code, plan_document(3))
    assert answered == 2000
    assert seconds < 2


PLAY = """
- hosts: podnet_nodes
  gather_facts: false
  vars:
    _podnet_plan: {document: "{{ lookup('file', document) }}"}
  roles: [podnet_cni, podnet_verify]
"""


def prove(
    directory: Path, those: list[Host], document: dict[str, Any], *arguments: str
) -> tuple[int, str]:
    (directory / "play.yml").write_text(PLAY)
    (directory / "plan.json").write_text(json.dumps(document))
    done = ansible(
        directory,
        those,
        str(directory / "play.yml"),
        "-e",
        f"document={directory / 'plan.json'}",
        *arguments,
    )
    return done.returncode, done.stdout + done.stderr


def test_proof_of_a_network_that_works(three: list[Host], tmp_path: Path) -> None:
    for host in three:
        host.run("rm", "-rf", "/etc/cni", "/etc/podnet")
    status, said = prove(tmp_path, three, plan_document(3), "--check", "--diff")
    assert status == 0, said
    assert '+  "cniVersion": "1.0.0",' in said
    assert three[0].run("find", "/etc", "-name", "*.conflist") == ""

    install = ["-e", "podnet_cni_install=package"]
    status, said = prove(tmp_path, three, plan_document(3), *install)
    assert status == 0, said
    for line in (
        "n1    pod   -   ok  ok  ok       ok",
        "n3    host  ok  ok  -   -        -",
        "171 of 171 probes were answered.",
    ):
        assert line in said
    for host in three:
        assert left_behind(host) == ""

    status, said = prove(tmp_path, three, plan_document(3), *install)
    assert status == 0
    assert said.count("changed=0 ") == 3


def test_proof_names_what_fails(three: list[Host], tmp_path: Path) -> None:
    three[0].ip("route del 10.244.1.0/24")
    three[2].ip("link set eth0 mtu 1400")
    try:
        status, said = prove(tmp_path, three, plan_document(4))
    finally:
        three[0].ip("route add 10.244.1.0/24 via 192.0.2.12")
        three[2].ip("link set eth0 mtu 1500")
    assert status == 2
    for line in (
        "Not in this run, so not probed: n4",
        "n1 -> n2 (pod IPv4, host IPv4): small and full size: no reply",
        "n2 -> n1 (pod IPv4): small and full size: no reply",
        "n3 -> every other host (pod IPv4): full size (1500 bytes): message too long: path MTU "
        "1400 (said by 10.244.2.1); small is ok",
        "Where small is ok and full size is not",
    ):
        assert line in said, said
    assert "n2 -> n1 (host" not in said
    for host in three:
        assert left_behind(host) == ""


def test_a_host_that_fails_is_named_and_the_others_are_probed(
    three: list[Host], tmp_path: Path
) -> None:
    three[1].ip("link set cni0 name away0")
    three[1].ip("link add name cni0 mtu 1500 type veth peer name cni1")
    try:
        status, said = prove(tmp_path, three, plan_document(3))
    finally:
        three[1].ip("link del cni0")
        three[1].ip("link set away0 name cni0 up")
    assert status == 2
    assert "n2: not probed: /usr/lib/cni/bridge: ADD failed" in said or (
        "n2: not probed: /opt/cni/bin/bridge: ADD failed" in said
    ), said
    assert "n1    pod   -   ?   ok  ok       ok" in said
    for host in three:
        assert left_behind(host) == ""


def test_limit_and_single_node(three: list[Host], tmp_path: Path) -> None:
    start = time.monotonic()
    status, said = prove(tmp_path, three, plan_document(3), "--limit", "n1,n3")
    assert status == 0, said
    assert "Not in this run, so not probed: n2 (the plan has 3 hosts)" in said
    assert "n1    pod   -   ok  ok       ok" in said
    assert time.monotonic() - start < 30

    status, said = prove(tmp_path, three[:1], plan_document(1))
    assert status == 0, said
    assert "n1    pod   -   ok       ok" in said

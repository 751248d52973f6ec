"""Modules are called with hostile arguments: a sentence, no traceback, nothing written.

They run as they do on a host, as root, with everything there for them to succeed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernel.netns_hosts import ROOT, Host, hosts
from tests.kernel.test_interrupted import VXLAN

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]

#: Module -> arguments that succeed.
GOOD: dict[str, dict[str, Any]] = {
    "podnet_network": {
        "plan": VXLAN, "node": "n1", "name": "podnet", "state": "present", "phase": "all",
        "rollback_timeout": 60, "confirm": False,
    },
    "podnet_cni": {
        "plan": VXLAN, "node": "n1", "name": "podnet", "state": "present", "mtu": 1450,
        "reserved": ["10.244.0.9"], "install": "none", "archive_dir": "",
    },
    "podnet_endpoint": {
        "plan": VXLAN, "node": "n1", "network": "podnet", "name": "web", "address": "10.244.0.80",
        "address6": "fd00:244::80", "state": "present",
    },
    "podnet_info": {
        "plan": VXLAN, "node": "n1", "name": "podnet", "gather": ["state", "pending"],
        "cni_install": "none", "cni_archive_dir": "",
    },
    "podnet_probe": {
        "plan": VXLAN, "node": "n1", "name": "podnet", "state": "probed", "targets": "{}",
        "outside": [],
    },
}  # fmt: skip

HOSTILE = [
    None, "", "x y", "a\nroute flush table all", "$(touch /run/owned)", "; touch /run/owned #",
    "../../etc/shadow", "\u0661\u0662", "1" * 4000, -1, 10**30, [], {}, {"x": ["y"]}, [[1]],
    '{"a":' * 5000, "10.244.0.80/24", "fe80::1%eth0", True,
]  # fmt: skip

CODE = """
import importlib.util, io, json, contextlib, sys
sys.path[:0] = [@ROOT, @ROOT + "/library"]
import ansible.module_utils
ansible.module_utils.__path__.append(@ROOT + "/module_utils")
from ansible.module_utils.testing import patch_module_args
from tests.kernel import steps

def call(module, arguments):
    out = io.StringIO()
    with patch_module_args(arguments), contextlib.redirect_stdout(out):
        try:
            module.main()
        except SystemExit:
            pass
    return json.loads(out.getvalue())

def now():
    return steps.files(), steps._shown("ip", "-br", "link"), steps._shown("nft", "list", "tables")

wrong, failed, before = [], 0, None
for name, good in json.loads(@GOOD).items():
    module = importlib.import_module(name)
    for key in good:
        for value in json.loads(@HOSTILE):
            before = before or now()
            label = f"{name} {key}={value!r:.40}"
            try:
                result = call(module, {**good, key: value})
            except BaseException as error:
                wrong.append(f"{label}: {type(error).__name__}: {error}"[:300])
                before = None
                continue
            text = json.dumps(result)
            if "Traceback" in text or "unexpected error" in text:
                wrong.append(f"{label}: {text}"[:400])
            if '"nodes"' in json.dumps(result.get("invocation", {})) and not result.get("failed"):
                wrong.append(f"{label}: the plan comes back")
            if result.get("failed"):
                failed += 1
                after = now()
                if after != before:
                    wrong.append(f"{label}: failed, and wrote: {steps.difference(list(before), list(after))}")
                before = after
            else:
                before = None
            if len(wrong) > 12:
                print(json.dumps([failed, wrong])); sys.exit()
print(json.dumps([failed, wrong]))
"""


@pytest.fixture
def host() -> Iterator[Host]:
    with hosts(1, bare=True) as made:
        yield made[0]


def test_hostile_arguments(host: Host) -> None:
    code = CODE.replace("@ROOT", repr(str(ROOT)))
    code = code.replace("@GOOD", repr(json.dumps(GOOD))).replace(
        "@HOSTILE", repr(json.dumps(HOSTILE))
    )
    failed, wrong = host.python(code, timeout=400)
    assert wrong == [], "\n".join(wrong)
    assert failed > 200
    assert host.run("ls", "/run", "/").count("owned") == 0

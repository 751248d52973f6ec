#!/usr/bin/python
"""Stands in for podnet_network on a host that does as the test says; notes each call."""

from __future__ import annotations

import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

_IGNORED = ("rollback_timeout", "attach", "run", "over", "proof", "force_unproven", "secrets")


def main() -> None:
    """Do what `fate` in the test's directory says for this host and phase."""
    module = AnsibleModule(
        {
            "plan": {"type": "str"},
            "node": {"type": "str"},
            "phase": {"type": "str"},
            "confirm": {"type": "bool", "default": False},
            **{key: {"type": "raw"} for key in _IGNORED},
        }
    )
    options = module.params
    directory = Path(options["plan"])
    host, phase = options["node"], options["phase"]
    step = f"confirm {phase}" if options["confirm"] else phase
    with (directory / "calls").open("a") as calls:
        calls.write(f"{host} {step}\n")
    fate = json.loads((directory / "fate").read_text()).get(host, {}).get(step, "done")
    if fate in ("lost", "back"):
        # The connection plugin cuts the answer off; "back": only this one.
        (directory / f"{host}.{fate}").touch()
    elif fate == "failed":
        module.fail_json(msg=f"{host}: broken in {step}")
    elif fate == "crash":
        raise SystemExit(3)
    proof = {"why": "no plugins"} if fate == "no pod" else {"address": "10.244.0.5"}
    module.exit_json(changed=True, phase=phase, armed=fate == "armed", proof=proof)


if __name__ == "__main__":
    main()

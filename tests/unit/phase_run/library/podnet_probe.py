#!/usr/bin/python
"""Stands in for podnet_probe, which takes away what proves a switch; notes each call."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Note that it was called."""
    module = AnsibleModule({"state": {"type": "str"}, "plan": {"type": "str"}})
    with Path(module.params["plan"], "taken_away").open("a") as calls:
        calls.write("x\n")
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()

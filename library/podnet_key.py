#!/usr/bin/python
# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: the key pair of one host, for a backend that encrypts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: podnet_key
short_description: Key pair of one host
description:
  - Makes the host's key pair where it has none, and returns the public key, which M(podnet_plan)
    records.
  - The private key lies in C(/etc/podnet/NAME), readable for root alone. It never leaves the host,
    and no result shows it. M(podnet_network) with C(state=absent) removes it.
options:
  plan:
    description: The plan document as M(podnet_plan) returns it.
    type: json
    required: true
  node:
    description: This host's name in the plan.
    type: str
    required: true
  another:
    description:
      - Makes a key pair besides the one that the plan has, for a rotation. One that an earlier run
        has made and that hosts did not move to is taken instead.
    type: bool
    default: false
  run:
    description:
      - The run that this call belongs to, as M(podnet_plan) returns it. The call fails if another
        run has claimed the host.
    type: str
    default: ''
  over:
    description: Runs that have ended without giving up their claims.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Says whether a key pair would be made, and makes none.
    support: full
  diff_mode:
    description: A key is shown nowhere.
    support: none
author: podnet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Make the host's key pair, or tell the public key that it has
  podnet_key:
    plan: "{{ _podnet_plan.document }}"
    node: "{{ inventory_hostname }}"
  register: _podnet_key
"""

RETURN = r"""
key:
  description: The public key, empty in check mode where one would be made.
  returned: success
  type: str
  sample: hS1Dk4Pn2xqvHgIdpyOVQ6Hc4eSmyzkUzFFlKxVhQ0Q=
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.podnet.backends.document import plan_from_text
from ansible.module_utils.podnet.core.errors import message
from ansible.module_utils.podnet.host import keys
from ansible.module_utils.podnet.keep import bytecode


def argument_spec() -> dict[str, Any]:
    """Return the module's options."""
    return {
        "plan": {"type": "json", "required": True},
        "node": {"type": "str", "required": True},
        "another": {"type": "bool", "default": False},
        "run": {"type": "str", "default": ""},
        "over": {"type": "list", "elements": "str", "default": []},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    options = module.params
    try:
        plan = plan_from_text(options["plan"])
        # Results are kept by the controller for every host: the plan must not come back in each.
        options["plan"] = None
        made = keys.make(
            plan,
            options["node"],
            module.check_mode,
            another=options["another"],
            run=options["run"],
            over=options["over"],
        )
    except Exception as error:  # a bug is told in one line, too
        module.fail_json(msg=message(error))
    bytecode.keep(module.check_mode)
    module.exit_json(**made)


if __name__ == "__main__":
    main()

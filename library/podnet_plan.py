#!/usr/bin/python
# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: carve the cluster CIDR and plan the network, on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: podnet_plan
short_description: Plan a pod network and keep its allocations
description:
  - Gives every host of the inventory its share of the pods' range, keeps who has which in the
    allocations file, and returns the plan that all other podnet modules work from.
  - Runs on the controller and asks no host. The plan is a function of the inventory and the
    allocations file alone.
  - Everything in the inventory is checked first. If anything is wrong, nothing is written, and all
    problems are shown together.
options:
  hosts:
    description:
      - The hosts with their variables, as the filter C(podnet_inventory) collects them. Values are
        checked by the module.
    type: list
    elements: dict
    required: true
  allocations_file:
    description:
      - Path of the file, before what the inventory says in C(podnet_allocations_file).
      - By default C(podnet_allocations.yml) beside the inventory.
    type: path
  release:
    description:
      - Names of hosts that left the inventory and whose subnets may be given to others.
      - A host that is still in the inventory is an error; one that has no subnet is a note.
    type: raw
    default: []
  write:
    description:
      - Whether to write the allocations file. With V(false) the plan is a preview that never
        reports a change.
    type: bool
    default: true
attributes:
  check_mode:
    description: Returns the plan and the diff, and writes nothing.
    support: full
  diff_mode:
    description: Shows what changes in the allocations file.
    support: full
notes:
  - Delegate it to localhost with C(run_once), as the role C(podnet_plan) does. A play of its own
    for localhost would be skipped under C(--limit).
author: podnet contributors
"""

EXAMPLES = r"""
- name: Plan the network
  podnet_plan:
    hosts: "{{ hostvars | podnet_inventory(groups['podnet_nodes']) }}"
  delegate_to: localhost
  run_once: true
  register: _podnet_plan

- name: Give the subnet of a host that left to others
  podnet_plan:
    hosts: "{{ hostvars | podnet_inventory(groups['podnet_nodes']) }}"
    release: [n3]
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
document:
  description: The plan as JSON text, the same for every host; the option C(plan) of other modules.
  returned: success
  type: str
nodes:
  description:
    - A row for each node in inventory order, then the hosts that left and those released.
    - C(state) is C(new), C(kept), C(left, reserved) or C(released).
  returned: success
  type: list
  elements: dict
  sample:
    - {name: n1, subnet: 10.244.0.0/24, subnet6: "", ip: 192.0.2.11, ip6: "",
       mac: "02:00:0a:f4:00:00", segment: 192.0.2.0/24, state: kept}
table:
  description: The rows as lines of text.
  returned: success
  type: list
  elements: str
summary:
  description: Sentences about the network, the room that is left, and the notes.
  returned: success
  type: list
  elements: str
notes:
  description: What the plan leaves to the hosts, or could not do.
  returned: success
  type: list
  elements: str
free:
  description: Counts of subnets (total, used, free) by variable of the cluster CIDR.
  returned: success
  type: dict
direct:
  description: With C(podnet_direct_routing), how many pairs share a segment, for each family.
  returned: success
  type: list
  elements: dict
pending:
  description: Whether the allocations file differs, or differed, from the plan.
  returned: success
  type: bool
allocations_file:
  description: Path of the allocations file.
  returned: success
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.podnet.checks import host_names, show
from ansible.module_utils.podnet.errors import PodnetError
from ansible.module_utils.podnet.plan_run import run


def argument_spec() -> dict[str, Any]:
    """Return the options; the inventory's values are checked by the planner itself."""
    return {
        "hosts": {"type": "list", "elements": "dict", "required": True},
        "allocations_file": {"type": "path"},
        "release": {"type": "raw", "default": []},
        "write": {"type": "bool", "default": True},
    }


def plan(module: AnsibleModule) -> dict[str, Any]:
    """Do what the options ask; return the result."""
    options = module.params
    try:
        release = host_names(options["release"])
    except ValueError as error:
        raise PodnetError(f"release: {show(options['release'])} {error}") from error
    result: dict[str, Any] = run(
        options["hosts"],
        options["allocations_file"] or "",
        release,
        write=options["write"] and not module.check_mode,
    )
    result["pending"] = result["changed"]
    if not options["write"]:
        result["changed"] = False
    return result


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    # The controller keeps a result for every host: the arguments must not come back in it.
    invocation = {"module_args": {key: module.params[key] for key in ("release", "write")}}
    try:
        result = plan(module)
    except PodnetError as error:
        module.fail_json(msg=str(error), invocation=invocation)
    module.exit_json(invocation=invocation, **result)


if __name__ == "__main__":
    main()

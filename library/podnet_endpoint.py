#!/usr/bin/python
# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: static network namespaces attached to the pod network of one host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: podnet_endpoint
short_description: Static network namespaces attached to a podnet network
description:
  - Makes network namespaces (see C(ip netns)) that are attached to the host's bridge by a veth
    pair, with an address from the node's subnet, the bridge's MTU and a default route. For services
    that run without a container runtime, and for teaching.
  - Whatever is missing or wrong about one is repaired without touching the processes in it; a
    namespace that exists is never made anew.
  - Endpoints are written to C(/etc/podnet/NETWORK/endpoints.json), from which M(podnet_cni) leaves
    their addresses out of what it hands to pods, and to files that rebuild them at boot. Run
    M(podnet_cni) afterwards when an endpoint was added or removed by name.
options:
  plan:
    description: The plan document as M(podnet_plan) returns it. Required with O(state=present).
    type: json
  node:
    description: This host's name in the plan. Required with O(state=present).
    type: str
  network:
    description: Name of the network, to remove endpoints where there is no plan.
    type: str
  name:
    description:
      - One endpoint, that the plan declares or not. One that it does not declare stays when the
        plan's list is run, until it is removed by its name.
      - Without it O(state=present) makes what the plan declares for the node and removes what it
        declared before; O(state=absent) removes all.
    type: str
  address:
    description:
      - IPv4 address of the endpoint O(name), from the node's subnet. Without it the endpoint keeps
        the address that it has, or gets the highest free one that is not reserved.
    type: str
  address6:
    description: IPv6 address of the endpoint O(name); as O(address).
    type: str
  state:
    description: Whether the endpoints are there.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    description: Predicts exactly what a run does, after one of M(podnet_network).
    support: full
  diff_mode:
    description: Shows each object in the words of ip, and every file, before and after.
    support: full
author: podnet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Attach the endpoints that the inventory declares
  podnet_endpoint:
    plan: "{{ _podnet_plan.document }}"
    node: "{{ inventory_hostname }}"

- name: Attach one more
  podnet_endpoint:
    plan: "{{ _podnet_plan.document }}"
    node: "{{ inventory_hostname }}"
    name: web
    address: 10.244.0.80

- name: Keep its address from pods
  podnet_cni:
    plan: "{{ _podnet_plan.document }}"
    node: "{{ inventory_hostname }}"

- name: Remove it
  podnet_endpoint:
    network: podnet
    name: web
    state: absent
"""

RETURN = r"""
endpoints:
  description: The endpoints of the network on this host after the run, by name.
  returned: always
  type: dict
  sample:
    web:
      address: 10.244.0.254
      address6: ''
      mac: 0a:58:0a:f4:00:fe
      mtu: 1450
      namespace: web
      device: ep-web
      declared: true
changes:
  description: The commands that were run or, in check mode, would be; the first 100 of them.
  returned: always
  type: list
  elements: str
  sample: ["ip netns add web"]
count:
  description: How many objects and files changed.
  returned: always
  type: int
  sample: 8
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.podnet.backends.document import plan_from_text
from ansible.module_utils.podnet.core import endpoints
from ansible.module_utils.podnet.core.errors import PodnetError, message
from ansible.module_utils.podnet.core.model import is_network_name
from ansible.module_utils.podnet.endpoint import endpoint_run
from ansible.module_utils.podnet.host.look import bridge_mtu
from ansible.module_utils.podnet.keep import bytecode


def argument_spec() -> dict[str, Any]:
    """Return the module's options."""
    return {
        "plan": {"type": "json"},
        "node": {"type": "str"},
        "network": {"type": "str"},
        "name": {"type": "str"},
        "address": {"type": "str"},
        "address6": {"type": "str"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do what the options ask; return the result."""
    options = module.params
    plan = plan_from_text(options["plan"]) if options["plan"] else None
    # Results are kept by the controller for every host: the plan must not come back in each.
    options["plan"] = None
    name = options["name"]
    if name is not None and not endpoints.is_endpoint_name(name):
        raise PodnetError(f"name: {name!r} cannot name an endpoint: {endpoints.NAME_RULE}")
    if options["state"] == "present":
        if plan is None:
            raise PodnetError("plan: empty; pass what podnet_plan returned as document")
        only = endpoints.asked(name, options["address"], options["address6"]) if name else None
        node = options["node"]
        if module.check_mode:
            # As if podnet_network had run before.
            done = endpoint_run.inspect(plan, node, only, bridge_mtu(plan, node))
        else:
            done = endpoint_run.converge(plan, node, only)
    else:
        network = plan.name if plan else options["network"]
        if not is_network_name(network):
            raise PodnetError(f"network: {network!r} is no name of a network; give plan or network")
        done = endpoint_run.remove(network, name, module.check_mode)
    for warning in done.warnings:
        module.warn(warning)
    result: dict[str, Any] = {
        "changed": done.changed,
        "count": len(done.changes) + len(done.files),
        "changes": done.commands()[:100],
        "endpoints": {one: endpoints.plain(entry) for one, entry in done.entries.items()},
    }
    if module._diff:
        result["diff"] = done.diff()
    return result


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec(),
        supports_check_mode=True,
        required_if=[("state", "present", ["plan", "node"])],
        required_one_of=[("plan", "network")],
        required_by={"address": ["name"], "address6": ["name"]},
    )
    try:
        result = run(module)
    except Exception as error:  # a bug is told in one line, too
        module.fail_json(msg=message(error))
    bytecode.keep(module.check_mode)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: one packet's way over one host, hop by hop."""

from __future__ import annotations

DOCUMENTATION = r"""
module: podnet_trace
short_description: A packet's way over one host, as its kernel decides it
description:
  - Asks the kernel of this host what it does with packets from a pod to an address and back, and
    says where that differs from the plan. playbooks/trace.yml puts the hosts on the way together.
  - Changes nothing. It sends a few ICMP echo requests from the pod and from the host.
options:
  plan:
    description: The plan document as M(podnet_plan) returns it.
    type: json
    required: true
  node:
    description: This host's name in the plan.
    type: str
    required: true
  find:
    description:
      - Only find the pod that this names, and return it as RV(pod) - a network namespace as
        C(ip netns) lists it, an address, or nothing for any pod of this host.
      - Needs O(family).
    type: str
  family:
    description: The family of the address that O(find) looks for.
    type: int
    choices: [4, 6]
    default: 4
  local:
    description: The address of the pod on this host.
    type: str
  remote:
    description: The address at the other end.
    type: str
  role:
    description: Whether this host's pod begins the conversation (V(from)), or answers (V(to)).
    type: str
    choices: [from, to]
    default: from
  any_pod:
    description:
      - Whether O(local) was found and not named, so that it may stand for a pod where no pod has
        it.
    type: bool
    default: false
attributes:
  check_mode:
    description: The same with and without it.
    support: full
  diff_mode:
    description: It changes nothing.
    support: none
author: podnet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Find any pod of this host
  podnet_trace:
    plan: "{{ _podnet_plan.document }}"
    node: "{{ inventory_hostname }}"
    find: ""

- name: Follow a packet from this host's pod
  podnet_trace:
    plan: "{{ _podnet_plan.document }}"
    node: "{{ inventory_hostname }}"
    local: 10.244.0.254
    remote: 10.244.1.254
"""

RETURN = r"""
pod:
  description: >-
    The pod that O(find) names. C(namespace) is empty where no pod has the address, or the host has
    none; the address then stands for a pod.
  returned: with O(find)
  type: dict
  sample: {address: 10.244.0.254, namespace: /run/netns/web, device: eth0, host_end: ep-web}
out:
  description:
    - The hops of packets from the pod, in order. C(key) names a hop, C(question) is what the kernel
      was asked and C(answer) what it said, C(plan) what the plan wants. A hop with a C(fault)
      breaks the packet, C(mend) is what mends it, and C(because) the key of the hop that may be the
      reason. C(note) is no fault. C(partial) says that small packets pass all the same.
  returned: without O(find)
  type: list
  elements: dict
in:
  description: The hops of packets to the pod, as in RV(out).
  returned: without O(find)
  type: list
  elements: dict
facts:
  description: What the hops were judged from, as the host's tools print it.
  returned: without O(find)
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.podnet.backends.document import plan_from_text
from ansible.module_utils.podnet.core.errors import PodnetError, message
from ansible.module_utils.podnet.core.model import pack
from ansible.module_utils.podnet.host import trace
from ansible.module_utils.podnet.keep import bytecode


def argument_spec() -> dict[str, Any]:
    """Return the module's options."""
    return {
        "plan": {"type": "json", "required": True},
        "node": {"type": "str", "required": True},
        "find": {"type": "str"},
        "family": {"type": "int", "choices": [4, 6], "default": 4},
        "local": {"type": "str"},
        "remote": {"type": "str"},
        "role": {"type": "str", "choices": ["from", "to"], "default": "from"},
        "any_pod": {"type": "bool", "default": False},
    }


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do what the options ask; return the result."""
    options = module.params
    plan = plan_from_text(options["plan"])
    options["plan"] = None
    if options["find"] is not None:
        pod = trace.find(plan, options["node"], options["family"], options["find"])
        return {"changed": False, "pod": pod}
    for key in ("local", "remote"):
        try:
            pack(str(options[key]))
        except ValueError as error:
            raise PodnetError(f"{key}: {error}") from error
    if (":" in options["local"]) != (":" in options["remote"]):
        raise PodnetError("local, remote: one is IPv4 and the other IPv6")
    ends = options["local"], options["remote"], options["role"]
    found = trace.look(plan, options["node"], *ends, any_pod=options["any_pod"])
    return {"changed": False, **found}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec(),
        supports_check_mode=True,
        required_one_of=[("find", "local")],
        required_together=[("local", "remote")],
        mutually_exclusive=[("find", "local")],
    )
    try:
        result = run(module)
    except Exception as error:  # a bug is told in one line, too
        module.fail_json(msg=message(error))
    bytecode.keep(module.check_mode)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

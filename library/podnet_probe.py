#!/usr/bin/python
# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: prove that pods of this host reach the others."""

from __future__ import annotations

DOCUMENTATION = r"""
module: podnet_probe
short_description: Reachability of pods on other hosts, at small and at full size
description:
  - Makes a temporary pod through the CNI configuration of this host, by running its plugins, and
    asks from this pod and from the host whether other hosts' pods answer.
  - All targets are asked at once, at 84 bytes and at the pods' MTU, by ICMP and ICMPv6 echo, by
    UDP and by TCP, with the don't-fragment bit set. From pod to pod, TCP also carries 256 KiB there
    and back, 16 such exchanges of a host at a time. A responder in each pod answers UDP and TCP. It
    ends with the pod, or by itself after 15 minutes, and takes the pod away then.
  - A pair works when UDP and TCP work at both sizes, and TCP with many bytes, of which it sends
    less than a twentieth again. Silence of ICMP alone is a note.
  - O(state=present) waits until the host has rebuilt the network after a boot.
  - The role podnet_verify uses the three states one after the other on all hosts.
options:
  state:
    description:
      - V(present) makes the pod, in place of one that an earlier run left.
      - V(probed) asks the targets. Targets that do not answer are results, not an error.
      - V(absent) takes the pod away, and whatever a killed run left. It never fails because of
        what it finds.
    type: str
    choices: [present, probed, absent]
    default: present
  plan:
    description: The plan document as M(podnet_plan) returns it. Required unless O(state=absent).
    type: json
  node:
    description: This host's name in the plan. Required unless O(state=absent).
    type: str
  name:
    description: Name of the network, for O(state=absent) without a plan.
    type: str
  targets:
    description:
      - With O(state=probed), the pods to ask, as one JSON object of node names, each with
        C(address), C(address6), C(mtu), C(udp) and C(tcp). The host's own entry is skipped.
    type: json
    default: '{}'
  pairs:
    description:
      - With O(state=probed), whom of O(targets) to ask. V(all); V(ring), the one before this host
        and the one after it; or a number of others, chosen by chance.
    type: str
    default: all
  outside:
    description:
      - Addresses outside the pod network that a pod must reach with the host's address.
      - A family without any takes the host's default gateway, unless the host itself gets no answer
        from it.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Makes and removes nothing, and asks nobody.
    support: partial
    details:
      - O(state=present) and O(state=absent) say whether they would change anything; O(state=probed)
        returns no result.
  diff_mode:
    description: There is nothing to compare.
    support: none
author: podnet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Make a pod
  podnet_probe:
    plan: "{{ _podnet_plan.document }}"
    node: "{{ inventory_hostname }}"
  register: made

- name: Ask the pod of another host
  podnet_probe:
    state: probed
    plan: "{{ _podnet_plan.document }}"
    node: "{{ inventory_hostname }}"
    targets: >-
      {"n2": {"address": "10.244.1.5", "address6": "", "mtu": 1450, "udp": 40001, "tcp": 40002}}

- name: Take the pod away
  podnet_probe:
    state: absent
    name: podnet
"""

RETURN = r"""
pod:
  description: The pod's addresses, its gateways, its MTU in bytes and its responder's ports.
  returned: when O(state=present), except in check mode
  type: dict
  sample:
    address: 10.244.0.5
    address6: ''
    gateway: 10.244.0.1
    gateway6: ''
    mtu: 1450
    udp: 40001
    tcp: 40002
asked:
  description: How many probes were judged.
  returned: when O(state=probed), except in check mode
  type: int
answered:
  description: How many of these were answered.
  returned: when O(state=probed), except in check mode
  type: int
peers:
  description: The nodes whose pods were asked, in the order of O(targets).
  returned: when O(state=probed), except in check mode
  type: list
  elements: str
failures:
  description:
    - What does not work, an entry for each target and family. C(kind) is C(pod) (from
      this host's pod to that of C(node)), C(host) (from the host to that pod), C(gateway) (from the
      pod to its own gateway) or C(outside). C(word) is that of the matrix, C(what) says what does
      not pass and why.
  returned: when O(state=probed), except in check mode
  type: list
  elements: dict
outside:
  description: The addresses outside the network that were asked.
  returned: when O(state=probed), except in check mode
  type: list
  elements: str
notes:
  description: What was not probed or not judged, and why.
  returned: when O(state=probed), except in check mode
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.podnet.backends.document import plan_from_text
from ansible.module_utils.podnet.backends.registry import BACKENDS
from ansible.module_utils.podnet.cni import addresses
from ansible.module_utils.podnet.core.document import by_host
from ansible.module_utils.podnet.core.errors import PodnetError, message
from ansible.module_utils.podnet.core.model import Plan, is_network_name
from ansible.module_utils.podnet.keep import boot, bytecode
from ansible.module_utils.podnet.kernel import services
from ansible.module_utils.podnet.kernel.run import TOOLS
from ansible.module_utils.podnet.probe import probe_pod, questions


def argument_spec() -> dict[str, Any]:
    """Return the module's options."""
    return {
        "state": {"type": "str", "choices": ["present", "probed", "absent"], "default": "present"},
        "plan": {"type": "json"},
        "node": {"type": "str"},
        "name": {"type": "str"},
        "targets": {"type": "json", "default": "{}"},
        "pairs": {"type": "str", "default": "all"},
        "outside": {"type": "list", "elements": "str", "default": []},
    }


def run(module: AnsibleModule, plan: Plan | None, targets: dict[str, Any]) -> dict[str, Any]:
    """Do what the options ask; return the result."""
    options = module.params
    if plan is None and options["state"] != "absent":
        raise PodnetError("plan: empty; pass what podnet_plan returned as document")
    if options["state"] == "absent" or plan is None:
        name = plan.name if plan else options["name"]
        if not is_network_name(name):
            raise PodnetError(f"name: {name!r} is no name of a network; give plan, or name")
        changed = probe_pod.exists(name)
        if not module.check_mode:
            for warning in probe_pod.remove(name):
                module.warn(warning)
        return {"changed": changed}
    if module.check_mode:
        return {"changed": options["state"] == "present"}
    if options["state"] == "present":
        # SSH answers before the network is there again.
        services.await_replay(plan.name, boot.top(plan.name))
        # Before the pod is made, which fails when there is none left.
        for full in addresses.crowded(options["node"], addresses.usage(plan.name)):
            module.warn(full)
        pod = vars(probe_pod.make(plan, options["node"]))
        # Before anybody probes: a first packet that waits for a handshake would count as lost.
        for late in BACKENDS[plan.backend].warm_up(plan, plan.nodes[options["node"]], TOOLS):
            module.warn(late)
        return {"changed": True, "pod": pod}
    pod = probe_pod.read(plan.name)
    outside, notes = questions.outside_addresses(plan, pod, options["outside"])
    peers = questions.asked_nodes(options["node"], targets, options["pairs"])
    chosen = {name: targets[name] for name in peers}
    seen = questions.probe(options["node"], pod, chosen, outside, options["outside"])
    seen["notes"] = notes + seen["notes"]
    return dict(seen, peers=peers, changed=False)


def main() -> None:
    """Run the module."""
    needed = ["plan", "node"]
    module = AnsibleModule(
        argument_spec(),
        supports_check_mode=True,
        required_if=[("state", "present", needed), ("state", "probed", needed)],
        required_one_of=[("plan", "name")],
    )
    try:
        plan = plan_from_text(module.params["plan"]) if module.params["plan"] else None
        targets = by_host("targets", module.params["targets"], "state=present returned as pod")
        # Results are kept by the controller for every host: these must not come back in each.
        module.params.update(plan=None, targets=None)
        result = run(module, plan, targets)
    except Exception as error:  # a bug is told in one line, too
        module.fail_json(msg=message(error))
    bytecode.keep(module.check_mode)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

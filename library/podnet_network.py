#!/usr/bin/python
# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: bridge, backend, routes, masquerade and boot files of one host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: podnet_network
short_description: Pod network of one host
description:
  - Reads the kernel, computes the ordered changes that lead to what the plan wants, and applies
    them in a few batches. Bridge, VXLAN device, addresses, neighbours, FDB entries, routes,
    masquerade, sysctls, and the files that rebuild all of it at boot.
  - Only what carries podnet's mark is ever changed or removed. Routes have protocol 112, devices
    the alias C(podnet:NAME), the nft table and the directory in C(/etc/podnet) the network's name.
  - A batch that fails half-way is undone before the module fails.
options:
  plan:
    description: The plan document as M(podnet_plan) returns it. Required with O(state=present).
    type: json
  node:
    description: This host's name in the plan. Required with O(state=present).
    type: str
  name:
    description: Name of the network to remove where there is no plan any more.
    type: str
  state:
    description:
      - V(present) brings the host to the end of O(phase).
      - V(absent) removes what is the network's and puts back the sysctls that it changed.
    type: str
    choices: [present, absent]
    default: present
  phase:
    description:
      - A change that other hosts must follow goes through V(prepare), V(shift) and V(commit), each
        on all hosts before the next. V(prepare) adds what cannot hurt, V(shift) moves the routes,
        V(commit) removes what is no longer used.
      - V(all) does everything at once, for a first run, a repair, or a peer that came or left.
    type: str
    choices: [prepare, shift, commit, all]
    default: all
  rollback_timeout:
    description:
      - Seconds until a change that may cut the SSH connection off is undone, unless it is confirmed
        by a second call with O(confirm=true) over a fresh connection.
      - Such a change is one after which packets to the controller take another way. Others are not
        timed.
    type: int
    default: 60
  confirm:
    description:
      - Confirms the change before, and writes what rebuilds it at boot. Fails if it was undone.
    type: bool
    default: false
  attach:
    description:
      - At the end of V(commit) and V(all), also bring static endpoints and the CNI configuration to
        what the plan wants, as M(podnet_endpoint) and M(podnet_cni) do. One call costs a host much
        less than three.
    type: bool
    default: false
  run:
    description:
      - The run that this call belongs to, as M(podnet_plan) and M(podnet_play) return it. The call
        fails if another run has claimed the host. V(commit), V(all) and O(state=absent) give the
        claim up.
    type: str
    default: ''
  proof:
    description:
      - With O(phase=prepare), an empty object asks for a pod that others can ask, see RV(proof).
      - With O(phase=shift), what all hosts returned as RV(proof), as one JSON object of host names.
        Each host asks all others by ICMP, UDP and TCP over the routes that it is about to move to,
        does not move where a pair is not answered, and asks again when the routes have moved.
      - Without it nothing is proven.
    type: json
  force_unproven:
    description: With O(phase=shift), move the routes also where the new way is not proven.
    type: bool
    default: false
  secrets:
    description:
      - What hosts must know and a plan must not hold, by the setting of the plan that it belongs
        to. C(psk) is WireGuard's pre-shared key, C(podnet_wireguard_psk). Empty ones are left out.
    type: dict
    default: {}
  over:
    description: Runs that have ended without giving up their claims.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Predicts exactly what a run does.
    support: full
  diff_mode:
    description: Shows each object that changes, in the words of ip, bridge and nft.
    support: full
author: podnet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Bring the host to what the plan wants
  podnet_network:
    plan: "{{ _podnet_plan.document }}"
    node: "{{ inventory_hostname }}"

- name: Add the new backend beside the old one
  podnet_network:
    plan: "{{ _podnet_plan.document }}"
    node: "{{ inventory_hostname }}"
    phase: prepare

- name: Remove a network from a host
  podnet_network:
    name: podnet
    state: absent
"""

RETURN = r"""
changes:
  description: The commands that were run or, in check mode, would be; the first 100 of them.
  returned: always
  type: list
  elements: str
  sample: ["ip route replace 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink proto 112"]
count:
  description: How many objects changed.
  returned: always
  type: int
  sample: 12
tally:
  description:
    - How many objects of which kind are added, replaced and removed, in this order. A kind without
      a change is left out.
  returned: always
  type: dict
  sample: {link: [2, 0, 0], route: [0, 1, 0], file: [6, 0, 0]}
phase:
  description: The phase that has ended; a call that failed, or was lost, does not say it.
  returned: with O(state=present)
  type: str
  sample: shift
armed:
  description: Whether the change is undone after O(rollback_timeout) unless it is confirmed.
  returned: with O(state=present)
  type: bool
proof:
  description:
    - The pod that proves the new way, for O(proof) of the other hosts' V(shift), or why there is
      none.
    - It is taken away by V(commit) and V(all), by M(podnet_probe) with C(state=absent), or by
      itself after 15 minutes.
  returned: when O(phase=prepare) and O(proof) is given, except in check mode
  type: dict
  sample: {address: 10.244.0.5, address6: '', mtu: 1450, udp: 40001, tcp: 40002}
switching:
  description: Whether the host is on the way from one backend or set of parameters to another.
  returned: with O(state=present)
  type: bool
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.podnet.backends.document import plan_from_text
from ansible.module_utils.podnet.core.document import by_host
from ansible.module_utils.podnet.core.errors import PodnetError, message
from ansible.module_utils.podnet.core.model import is_network_name
from ansible.module_utils.podnet.host import call
from ansible.module_utils.podnet.keep import bytecode
from ansible.module_utils.podnet.state.phases import ALL, PHASES


def argument_spec() -> dict[str, Any]:
    """Return the module's options."""
    return {
        "plan": {"type": "json"},
        "node": {"type": "str"},
        "name": {"type": "str"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "phase": {"type": "str", "choices": list(PHASES), "default": ALL},
        "rollback_timeout": {"type": "int", "default": 60},
        "confirm": {"type": "bool", "default": False},
        "attach": {"type": "bool", "default": False},
        "run": {"type": "str", "default": ""},
        "proof": {"type": "json"},
        "force_unproven": {"type": "bool", "default": False},
        "secrets": {"type": "dict", "no_log": True, "default": {}},
        "over": {"type": "list", "elements": "str", "default": []},
    }


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do what the options ask; return the result."""
    options = module.params
    plan = plan_from_text(options["plan"]) if options["plan"] else None
    proof = None
    if options["proof"]:
        proof = by_host("proof", options["proof"], "phase=prepare returned as proof")
    # Results are kept by the controller for every host: neither must come back in each.
    options["plan"] = options["proof"] = None
    if options["state"] == "absent":
        name = plan.name if plan else options["name"]
        if not is_network_name(name):
            raise PodnetError(f"name: {name!r} is no name of a network; give plan, or name")
        done = call.absent(name, module.check_mode, options["run"], options["over"])
    elif plan is None:
        raise PodnetError("plan: empty; pass what podnet_plan returned as document")
    else:
        asked = call.CallOptions(
            options["phase"],
            check=module.check_mode,
            timeout=options["rollback_timeout"],
            confirming=options["confirm"],
            attach=options["attach"],
            run=options["run"],
            over=options["over"],
            proof=proof,
            force_unproven=options["force_unproven"],
            secrets={key: str(value) for key, value in options["secrets"].items() if value},
        )
        done = call.present(plan, options["node"], asked)
    for warning in done.warnings:
        module.warn(warning)
    return {**done.result, "diff": done.diffs} if module._diff else done.result


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec(),
        supports_check_mode=True,
        required_if=[("state", "present", ["plan", "node"])],
        required_one_of=[("plan", "name")],
    )
    try:
        result = run(module)
    except Exception as error:  # a bug is told in one line, too
        module.fail_json(msg=message(error))
    bytecode.keep(module.check_mode)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: what a host has of a network, and what a run would change."""

from __future__ import annotations

DOCUMENTATION = r"""
module: podnet_info
short_description: Observed state of a podnet network on one host
description:
  - Reads what a network of podnet has on the host, as structured data.
  - Given a plan, it also says what a run would change, and fails for everything on the host that
    stands in the way of a run. The playbooks begin with this, so that nothing is changed on any
    host before all of them were looked at.
options:
  plan:
    description: The plan document as M(podnet_plan) returns it.
    type: json
  node:
    description: This host's name in the plan. Required with O(plan).
    type: str
  name:
    description: Name of the network, where no plan is given.
    type: str
    default: podnet
  gather:
    description:
      - V(state) returns the observed objects, V(cni) what there is of the CNI configuration and how
        many addresses pods use, V(pending) what a run would change, V(health) what doctor.yml
        judges. The last two need O(plan).
    type: list
    elements: str
    choices: [state, cni, pending, health]
    default: [state, cni]
  cni_install:
    description: As O(podnet_cni#module:install); for V(pending).
    type: str
    choices: [none, package, archive]
    default: none
  cni_archive_dir:
    description: As O(podnet_cni#module:archive_dir); for V(pending).
    type: str
    default: ''
  run:
    description:
      - The run that asks, as M(podnet_plan) returns it. With V(pending), a host on which something
        would change is claimed for that run, so that no other changes it meanwhile; the last call
        of M(podnet_network) ends that.
    type: str
    default: ''
  claim:
    description:
      - Claim the host for O(run) whatever is found there, as a removal does. Not if a newer podnet
        has changed it, see RV(refused).
    type: bool
    default: false
  release:
    description: Give up the claim of O(run) and return nothing else.
    type: bool
    default: false
attributes:
  check_mode:
    description: Only reads; a claim lies in C(/run) alone, and check mode makes none.
    support: full
  diff_mode:
    description: Changes nothing, so it shows none.
    support: none
author: podnet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Read what the network has on this host
  podnet_info:
  register: observed

- name: Ask what a run would change
  podnet_info:
    plan: "{{ _podnet_plan.document }}"
    node: "{{ inventory_hostname }}"
    gather: [pending]
"""

RETURN = r"""
state:
  description:
    - The objects of the network that the host has now. Keys are links, addresses, neighbours, fdb,
      routes, ports, sysctls, tables, members (of the sets in tables), boot and record.
      C(podnet_version) in the record is the podnet that has changed the host last.
  returned: when O(gather) has V(state)
  type: dict
cni:
  description:
    - C(path) is podnet's configuration file, C(first) the file in its directory that sorts first,
      which container runtimes take. C(others) are all others there that runtimes read, C(aside)
      those that C(podnet_cni_exclusive) has moved aside.
    - C(addresses) has for each family how many addresses pods may have (C(size), without what is
      reserved), and how many of these are C(used) and C(free).
  returned: when O(gather) has V(cni)
  type: dict
  sample: {path: /etc/cni/net.d/10-podnet.conflist, first: /etc/cni/net.d/10-podnet.conflist,
           others: [{path: /etc/cni/net.d/87-podman.conflist, network: podman,
                     plugins: [bridge, portmap]}],
           aside: [], addresses: {ipv4: {size: 253, used: 12, free: 241}}}
pending:
  description:
    - What a run would change. C(network), C(cni) and C(endpoints) count changes, C(total) is
      their sum. C(switching) tells whether all hosts have to go through it in step. C(mtu) is what
      pods will have. C(knowledge) is what the host's record knows of the network, null where it
      knows nothing. That is its name there, the edition of the allocations that it has seen, and
      subnets that it knows as another node's. C(timed) tells whether the change may cut the
      SSH connection off, so that it waits for a confirmation. C(moving) are peers that get another
      address.
  returned: when O(gather) has V(pending)
  type: dict
  sample: {network: 0, cni: 0, endpoints: 0, total: 0, switching: false, mtu: 1450,
           timed: false,
           knowledge: {node: n1, edition: {id: 5f0c2d8e91ab34c7, generation: 4,
                       digest: 0d3f6a9b2c417e58}, taken: []}}
health:
  description:
    - What a run would change (C(drift), C(attached)) or why none can be made (C(refused)), and what
      will not last. C(unit) is the state of what rebuilds the network at boot, C(armed) whether a
      change waits to be confirmed, C(sysctls) are settings in files that would undo the network's,
      C(addresses) families of which nearly all addresses are used, C(led_away) policy rules that
      take pods' packets. C(machine_id) and C(nics) are compared with other hosts' by doctor.yml.
  returned: when O(gather) has V(health)
  type: dict
claimed:
  description: Whether the host is claimed for O(run).
  returned: with O(run)
  type: bool
refused:
  description: Why this podnet must leave the host to the newer one that has changed it; or empty.
  returned: with O(claim)
  type: str
  sample: ''
held:
  description: The other run that has claimed the host, and seconds since its last call.
  returned: with O(run), when there is one and something would change
  type: dict
  sample: {run: 1764036785.25 4711 8f14e45f root@controller, idle: 1.5}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.podnet.backends.document import plan_from_text
from ansible.module_utils.podnet.core.errors import PodnetError, message
from ansible.module_utils.podnet.core.model import is_network_name
from ansible.module_utils.podnet.host import info
from ansible.module_utils.podnet.keep import bytecode, claim, record_file


def argument_spec() -> dict[str, Any]:
    """Return the module's options."""
    return {
        "plan": {"type": "json"},
        "node": {"type": "str"},
        "name": {"type": "str", "default": "podnet"},
        "gather": {
            "type": "list",
            "elements": "str",
            "choices": ["state", "cni", "pending", "health"],
            "default": ["state", "cni"],
        },
        "cni_install": {
            "type": "str",
            "choices": ["none", "package", "archive"],
            "default": "none",
        },
        "cni_archive_dir": {"type": "str", "default": ""},
        "run": {"type": "str", "default": ""},
        "claim": {"type": "bool", "default": False},
        "release": {"type": "bool", "default": False},
    }


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do what the options ask; return the result."""
    options = module.params
    plan = plan_from_text(options["plan"]) if options["plan"] else None
    options["plan"] = None
    result: dict[str, Any] = {"changed": False}
    name = plan.name if plan else options["name"]
    if not is_network_name(name):
        raise PodnetError(f"name: {name!r} is no name of a network")
    if options["release"]:
        claim.release(name, options["run"])
        return {**result, "claimed": False}
    if "pending" in options["gather"]:
        if plan is None:
            raise PodnetError("gather: pending needs the option plan")
        result["pending"], warnings = info.pending(
            plan, options["node"], options["cni_install"], options["cni_archive_dir"]
        )
        for warning in warnings:
            module.warn(warning)
    if "health" in options["gather"]:
        if plan is None:
            raise PodnetError("gather: health needs the option plan")
        # Imported here, because a host loads all imports in every call, and a run needs none of
        # this.
        from ansible.module_utils.podnet.host import health

        result["health"] = health.health(
            plan, options["node"], options["cni_install"], options["cni_archive_dir"]
        )
    if options["claim"]:
        # Here and not by a failure: who claims a host for a removal decides for all hosts together.
        result["refused"] = record_file.refusal(name)
    wanted = options["claim"] or bool(result.get("pending", {}).get("total"))
    wanted = wanted and not result.get("refused")
    if options["run"] and not module.check_mode:
        holder = claim.take(name, options["run"]) if wanted else None
        result["claimed"] = wanted and holder is None
        if holder:
            result["held"] = holder._asdict()
    if "state" in options["gather"]:
        result["state"] = info.observed(name)
    if "cni" in options["gather"]:
        result["cni"] = info.cni(name)
    return result


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec(), supports_check_mode=True, required_by={"plan": ["node"]}
    )
    try:
        result = run(module)
    except Exception as error:  # a bug is told in one line, too
        module.fail_json(msg=message(error))
    bytecode.keep(module.check_mode)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

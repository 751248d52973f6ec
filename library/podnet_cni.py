#!/usr/bin/python
# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: the CNI configuration of one host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: podnet_cni
short_description: CNI configuration of a podnet node
description:
  - Writes the configuration list by which container runtimes attach pods to the network. It chains
    the C(bridge) plugin with C(host-local) addresses from the node's subnet, and extra plugins.
  - The newest CNI version that all plugins on the host speak is used; the plugins are asked.
  - Where the plan says so (C(podnet_podman)), Podman is told of the network, too, by a file below
    C(/etc/containers). A Podman that cannot use it is an error before any file is written.
  - A missing plugin is an error before any file is written.
  - What was written is recorded below C(/etc/podnet), so that a changed file name leaves no second
    file behind and O(state=absent) removes what is podnet's and nothing else.
options:
  plan:
    description:
      - The plan document as M(podnet_plan) returns it.
      - With O(state=absent) it may be left out if O(name) is given.
    type: json
  node:
    description: This host's name in the plan. Required unless O(state=absent).
    type: str
  name:
    description: Name of the network to remove where there is no plan any more.
    type: str
  state:
    description:
      - V(present) writes the configuration.
      - V(queried) changes nothing and says which plugins are there and which are missing.
      - V(absent) removes the configuration, the links, the record, and the directories that podnet
        made. Addresses that pods still hold are left and named in a warning.
    type: str
    choices: [present, queried, absent]
    default: present
  mtu:
    description:
      - MTU of pods in bytes.
      - Without it the plan's is used if it is a number, else that of the bridge on this host, else
        that of the bridge as M(podnet_network) would make it.
    type: int
  reserved:
    description:
      - Addresses never to hand out to pods, besides those that the plan reserves
        (C(podnet_reserved)), and those of static endpoints, which the plan and the host's own
        record name.
    type: list
    elements: str
    default: []
  install:
    description:
      - Where the plugins come from. With V(package) and V(archive), plugins that the plan's
        C(bin_dir) lacks are linked there, for runtimes that look nowhere else. The role does the
        installing itself.
    type: str
    choices: [none, package, archive]
    default: none
  archive_dir:
    description:
      - Where the role unpacked an archive of plugins; a directory in C(/opt/podnet/cni). Without it
        the one used before stays in use.
    type: str
    default: ''
attributes:
  check_mode:
    description: Predicts exactly what a run does.
    support: full
  diff_mode:
    description: Shows every file and link, before and after.
    support: full
author: podnet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Write this node's CNI configuration
  podnet_cni:
    plan: "{{ _podnet_plan.document }}"
    node: "{{ inventory_hostname }}"

- name: Remove it from a host that no plan names any more
  podnet_cni:
    name: podnet
    state: absent
"""

RETURN = r"""
path:
  description: The configuration file.
  returned: always
  type: str
  sample: /etc/cni/net.d/10-podnet.conflist
cni_version:
  description: The version written.
  returned: when O(state=present)
  type: str
  sample: 1.0.0
mtu:
  description: MTU of pods in bytes.
  returned: when O(state=present)
  type: int
  sample: 1450
plugins:
  description: Each plugin that the configuration needs, and the program found for it.
  returned: unless O(state=absent)
  type: dict
  sample: {bridge: /opt/cni/bin/bridge}
missing:
  description: Plugins that were not found.
  returned: when O(state=queried)
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.podnet.backends.document import plan_from_text
from ansible.module_utils.podnet.cni import configuration
from ansible.module_utils.podnet.core.errors import PodnetError, message
from ansible.module_utils.podnet.core.model import Plan, is_network_name
from ansible.module_utils.podnet.endpoint import endpoint_run
from ansible.module_utils.podnet.host.look import bridge_mtu
from ansible.module_utils.podnet.keep import bytecode
from ansible.module_utils.podnet.keep.lock import held


def argument_spec() -> dict[str, Any]:
    """Return the module's options."""
    return {
        "plan": {"type": "json"},
        "node": {"type": "str"},
        "name": {"type": "str"},
        "state": {
            "type": "str",
            "choices": ["present", "queried", "absent"],
            "default": "present",
        },
        "mtu": {"type": "int"},
        "reserved": {"type": "list", "elements": "str", "default": []},
        "install": {
            "type": "str",
            "choices": ["none", "package", "archive"],
            "default": "none",
        },
        "archive_dir": {"type": "str", "default": ""},
    }


def run(module: AnsibleModule, plan: Plan | None) -> dict[str, Any]:
    """Do what the options ask; return the result."""
    options = module.params
    name = plan.name if plan else options["name"]
    if not is_network_name(name):
        raise PodnetError(f"name: {name!r} is no name of a network; give plan, or name")
    if module.check_mode or options["state"] == "queried":
        return answer(module, plan, name)
    with held(name):
        return answer(module, plan, name)


def answer(module: AnsibleModule, plan: Plan | None, name: str) -> dict[str, Any]:
    """Do what the options ask for the network `name`; return the result."""
    options = module.params
    if options["state"] == "absent":
        seen = configuration.inspect_absent(name, plan)
    elif plan is None:
        raise PodnetError(f"plan: needed with state={options['state']}")
    else:
        seen = configuration.inspect(
            plan,
            options["node"],
            options["mtu"],
            reserved=options["reserved"],
            # Predicted, so that a check before the endpoints are there shows what a run writes.
            endpoints=endpoint_run.addresses(plan, options["node"]),
            install=options["install"],
            archive_dir=options["archive_dir"],
            demand_plugins=options["state"] == "present",
            # A check run before there is a bridge.
            predicted_mtu=lambda: bridge_mtu(plan, options["node"]),
        )
    if options["state"] == "queried":
        return {
            "changed": False,
            "path": seen.path,
            "plugins": seen.plugins,
            "missing": seen.missing,
        }
    if not module.check_mode:
        configuration.apply(seen, name)
    for warning in seen.warnings:
        module.warn(warning)
    result: dict[str, Any] = {"changed": seen.changed, "path": seen.path, "diff": seen.diff}
    if seen.present:
        result.update(cni_version=seen.cni_version, mtu=seen.mtu, plugins=seen.plugins)
    return result


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec(),
        supports_check_mode=True,
        required_if=[
            ("state", "present", ["plan", "node"]),
            ("state", "queried", ["plan", "node"]),
        ],
        required_one_of=[("plan", "name")],
    )
    try:
        plan = plan_from_text(module.params["plan"]) if module.params["plan"] else None
        # Results are kept by the controller for every host: the plan must not come back in each.
        module.params["plan"] = None
        result = run(module, plan)
    except Exception as error:  # a bug is told in one line, too
        module.fail_json(msg=message(error))
    bytecode.keep(module.check_mode)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

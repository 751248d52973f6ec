#!/usr/bin/python
# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What `podnet_plan` is; action_plugins/podnet_plan.py does it, in Ansible's own process."""

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
      - Required unless O(keep) is given.
    type: list
    elements: dict
  keep:
    description:
      - What an earlier call with O(write=false) returned as RV(keep). Its allocations are written
        and nothing is planned, so the plan that hosts were looked at with is the one that is
        applied.
      - Fails, and writes nothing, where the file has changed since that call.
    type: dict
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
  keys:
    description:
      - Public keys that hosts without one in the allocations file have told M(podnet_key), by host
        name. They are recorded with the hosts' subnets.
    type: dict
    default: {}
  forget:
    description:
      - Hosts whose private keys are gone, as M(podnet_network) with C(state=absent) leaves them.
        Their public keys are taken out of the allocations file, and nothing is planned.
    type: list
    elements: str
    default: []
  kubernetes_nodes:
    description:
      - Path on the controller of what C(kubectl get nodes --output json) printed. The pod CIDRs in
        it are taken over as the hosts' subnets. Nodes are known by their names.
      - Fails, and writes nothing, where a node is no host, or its pod CIDR does not fit the
        network's range and prefix, or belongs to another host, or is not what the host has.
    type: path
  patches:
    description:
      - Whether to return RV(patches).
    type: bool
    default: false
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
  - Give it C(run_once), as the role C(podnet_plan) does; it runs in Ansible's own process. A play
    of its own for localhost would be skipped under C(--limit).
author: podnet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Plan the network
  podnet_plan:
    hosts: "{{ hostvars | podnet_inventory(groups['podnet_nodes']) }}"
  run_once: true
  register: _podnet_plan

- name: Give the subnet of a host that left to others
  podnet_plan:
    hosts: "{{ hostvars | podnet_inventory(groups['podnet_nodes']) }}"
    release: [n3]
  run_once: true

- name: Keep the allocations of a plan that was made with write set to false
  podnet_plan:
    keep: "{{ _podnet_plan.keep }}"
  run_once: true
"""

RETURN = r"""
document:
  description:
    - The plan, the same for every host; the option C(plan) of other modules.
    - It is JSON text. One of more than 8 KiB is compressed, C(zlib:) and what zlib makes of it, in
      base64.
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
routes:
  description:
    - With C(podnet_plan_routes), the routes to all nodes' subnets as lines for a router outside;
      else empty.
  returned: success, without O(keep)
  type: list
  elements: str
notes:
  description: What the plan leaves to the hosts, or could not do.
  returned: success
  type: list
  elements: str
patches:
  description: A C(kubectl patch) command for each node, which gives it the plan's subnets.
  returned: success, with O(patches)
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
run:
  description: What this run is called, for C(run) of other modules.
  returned: success, without O(keep)
  type: str
  sample: 1764036785.25 4711 8f14e45f root@controller
pending:
  description: Whether the allocations file differs, or differed, from the plan.
  returned: success
  type: bool
unkept:
  description:
    - Why this plan must not be applied, empty where it may be. The allocations file lacks a part of
      it, and must not be written (C(podnet_allocations_write)), or would be written on one of the
      hosts alone, as by ansible-pull.
    - With O(write=true) the module fails with it.
  returned: success, without O(keep)
  type: str
may_write:
  description: Whether this run may write the allocations file.
  returned: success, without O(keep)
  type: bool
alone:
  description:
    - Whether this run is on the hosts themselves (C(ansible_connection=local)) and leaves out
      others.
  returned: success, without O(keep)
  type: bool
allocations_file:
  description: Path of the allocations file.
  returned: success
  type: str
edition:
  description:
    - Which edition of the allocations the plan was made from. C(id) is that of the network, made
      when the file was first written; C(generation) grows with every change of what it says.
    - C(id) is empty for a file that an older podnet wrote, until it is next written.
  returned: success
  type: dict
  sample: {id: 5f0c2d8e91ab34c7, generation: 4, digest: 0d3f6a9b2c417e58}
keyless:
  description: The hosts that need a key pair and whose public key is not known yet.
  returned: success, without O(keep)
  type: list
  elements: str
keep:
  description: For the option O(keep) of a later call.
  returned: success, without O(keep)
  type: dict
release:
  description: The names that O(release) held.
  returned: success, without O(keep)
  type: list
  elements: str
"""

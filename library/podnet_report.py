#!/usr/bin/python
# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What `podnet_report` is; action_plugins/podnet_report.py does it, in Ansible's own process."""

from __future__ import annotations

DOCUMENTATION = r"""
module: podnet_report
short_description: Write a page about a podnet network from all hosts' answers
description:
  - Writes C(NAME-report.html), C(NAME-report.svg) and C(NAME-report.json) on the controller, from
    what M(podnet_plan), M(podnet_info) and M(podnet_probe) returned for the hosts of the play.
  - Compares with the page that is there, and replaces it.
  - Runs on the controller and asks no host.
options:
  directory:
    description:
      - Where to write. It is made if it is not there. Empty is the directory in which Ansible was
        started.
    type: str
    default: ''
  templates:
    description: Directory with the page's templates, as the role podnet_report has it.
    type: path
    required: true
  plan:
    description: Name of the variable with what M(podnet_plan) returned.
    type: str
    required: true
  looked:
    description:
      - Name of the variable with what M(podnet_info) returned on each host, with all of its
        O(podnet_info#module:gather).
    type: str
    required: true
  state:
    description:
      - Name of the variable with what M(podnet_info) returned without V(pending), where the first
        call failed.
    type: str
    required: true
  made:
    description: Name of the variable with each host's pod, from M(podnet_probe).
    type: str
    required: true
  probed:
    description: Name of the variable with what each host's pod found, from M(podnet_probe).
    type: str
    required: true
  traces:
    description:
      - Name of the variable with the ways that were traced, a list of C(from), C(to) and the
        C(lines) to show.
    type: str
    required: true
attributes:
  check_mode:
    description: Writes nothing, and returns what it would say.
    support: full
  diff_mode:
    description: The files are the controller's; the network is as before.
    support: none
notes:
  - Give its task C(run_once).
author: podnet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Write the report
  podnet_report:
    directory: /srv/reports
    templates: "{{ role_path }}/templates"
    plan: _podnet_plan
    looked: _podnet_seen
    state: _podnet_report_state
    made: _podnet_probe_made
    probed: _podnet_probe_asked
    traces: _podnet_report_traces
  run_once: true
"""

RETURN = r"""
files:
  description: The files that were written.
  returned: success
  type: list
  elements: str
ok:
  description: Whether all hosts are as planned, and all pairs work.
  returned: success
  type: bool
lines:
  description: What to tell people at the end.
  returned: success
  type: list
  elements: str
"""

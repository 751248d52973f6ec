#!/usr/bin/python
# Copyright: podnet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What `podnet_play` is; action_plugins/podnet_play.py does it, in Ansible's own process."""

from __future__ import annotations

DOCUMENTATION = r"""
module: podnet_play
short_description: Demand that a play leaves no host and no task out
description:
  - Fails where the play is run in a way in which its result would not be what it says - with a
    strategy other than C(linear), with C(serial), with C(--tags) or C(--skip-tags) that leave a
    part out, or with C(--start-at-task).
  - Runs on the controller and asks no host.
options:
  group:
    description:
      - Also demand that this group has hosts and that C(--limit) leaves one of them. Ansible skips
        a play that has no hosts without an error.
      - Give it in a play that always has hosts, as C(all:localhost) has.
    type: str
attributes:
  check_mode:
    description: The same with and without it.
    support: full
  diff_mode:
    description: It changes nothing.
    support: none
notes:
  - Give its task C(run_once), and the tag C(always).
author: podnet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Demand a run that leaves nothing out
  podnet_play:
  run_once: true
  register: _podnet_play
  tags: [always]
"""

RETURN = r"""
run:
  description: What this run of Ansible is called, as M(podnet_plan) returns it.
  returned: success
  type: str
"""

"""From inventory and allocations to the plan.

Belongs here: a rule on variables, addresses or subnets that is checked before any host is asked.

Runs on: the controller.
Imports: core, backends.
Touches: files in allocations_store.
"""

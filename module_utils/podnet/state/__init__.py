"""What a host has, what it must have, and the ordered changes between the two.

Belongs here: a decision about one host, made from the plan and from what was read on that host.

Runs on: hosts.
Imports: core, backends.
Touches: nothing.
"""

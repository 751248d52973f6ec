"""What a host has, what it must have, and the ordered changes between the two.

Belongs here: a decision about one host, made from the plan and from what was read on that host.
Backends stand in `backends/`.

Runs on: hosts.
Imports: core.
Touches: nothing.
"""

"""Static endpoints on one host: look, decide, change, look again.

Belongs here: what makes or removes an endpoint. `core.endpoints` decides which address it has,
`state.endpoint_diff` what differs.

Runs on: hosts.
Imports: core, state, keep, kernel.
Touches: files.
"""

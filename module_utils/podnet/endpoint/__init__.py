"""Static endpoints on one host: look, decide, change, look again.

Comes in here: what makes or removes one; which address it has stands in `core.endpoints`, what
differs in `state.endpoint_diff`.

Runs on: hosts.
Imports: core, state, keep, kernel, cni.
Touches: files.
"""

"""One call on one host, from looking to the result: the modules of `library/` call this.

Belongs here: the order of steps in a call, and what undoes them.

Runs on: hosts.
Imports: core, backends, state, firewall, keep, kernel, cni, endpoint, probe, trace.
Touches: files.
"""

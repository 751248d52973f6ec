"""The CNI configuration of a host, and the plugin chain as a runtime calls it.

Belongs here: what the CNI specification is about.

Runs on: hosts.
Imports: core, keep, kernel.
Touches: files and processes.
"""

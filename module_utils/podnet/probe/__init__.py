"""What a proof sends and who answers it, from a pod of its own or from the host.

Comes in here: probes and responders; what answers mean stands in `core.verdict`.

Runs on: hosts.
Imports: core, keep, kernel, cni.
Touches: files, processes and sockets.
"""

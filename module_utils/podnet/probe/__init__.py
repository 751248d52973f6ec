"""Probes: what verify.yml and the proof of a switch send from pods and hosts, and what answers.

Belongs here: probes and responders; `core.verdict` says what answers mean.

Runs on: hosts.
Imports: core, keep, kernel, cni.
Touches: files, processes and sockets.
"""

"""The edge to the kernel and services of a host: ip, bridge and nft, and files below /proc/sys.

Belongs here: a command to run or output to read; `state` decides what is to be done.

Runs on: hosts.
Imports: core, backends, state, firewall, keep.
Touches: files, processes and sockets.
"""

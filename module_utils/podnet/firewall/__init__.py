"""What others' rules do to pods' packets: chains of nft and iptables, policy rules (ip-rule(8)).

Comes in here: how such rules are parsed, and how the kernel walks them.

Runs on: hosts.
Imports: core, state.
Touches: nothing.
"""

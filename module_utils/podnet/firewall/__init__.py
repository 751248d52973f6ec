"""What rules that are not podnet's do to pods' packets: nft, iptables, policy rules (ip-rule(8)).

Belongs here: how such rules are parsed, and how the kernel walks them.

Runs on: hosts.
Imports: core, state.
Touches: nothing.
"""

"""host-gw: the peer itself is the gateway to its subnet; nothing is added to a packet."""

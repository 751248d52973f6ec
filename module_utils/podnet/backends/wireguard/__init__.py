"""WireGuard: pods' packets travel encrypted, in UDP between the nodes."""

"""What runs on the hosts that are watched: standard library only, and podnet's own CNI runner."""

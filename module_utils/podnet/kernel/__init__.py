"""The edge: the only place that runs a command or reads /proc and /sys."""

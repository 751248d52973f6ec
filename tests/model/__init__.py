"""An exhaustive test of the core: every interleaving of a change, on a small model of the kernel.

`kernel` executes the lines of the changes, `delivery` sends packets, `machine` lets the real core
run on it, `explore` goes through all states that hosts can be in together.
"""

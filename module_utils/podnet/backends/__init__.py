"""Backends: how a packet gets to another node. A package for each, and nothing else names it.

Belongs here: all that is true of one backend and not of the others. `base` says what hosts ask a
backend, `planner` what the controller asks; `registry` and `planners` list the answers.

Runs on: everywhere.
Imports: core.
Touches: nothing.
"""

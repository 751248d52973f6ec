"""What both sides share: the plan's types, the plan document, addresses, names, errors, verdicts.

Comes in here: a type or a rule that the controller and the hosts must agree on.

Runs on: everywhere.
Imports: nothing.
Touches: files in flock.
"""

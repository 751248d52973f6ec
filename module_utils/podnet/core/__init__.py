"""What controller and hosts share: types of the plan, its document, addresses, errors, verdicts.

Belongs here: a type or a rule that the controller and the hosts must agree on.

Runs on: everywhere.
Imports: nothing.
Touches: files in flock.
"""

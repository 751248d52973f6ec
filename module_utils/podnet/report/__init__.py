"""What report.yml shows: one dict of data from the plan and all hosts' answers, and the picture.

Belongs here: what the page says. How it looks is in the role podnet_report's templates.

Runs on: the controller.
Imports: backends, core, run.
Touches: nothing.
"""

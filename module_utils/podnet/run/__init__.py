"""What the controller decides from all hosts' answers: how a run goes on, and what it reports.

Belongs here: a question that no host can answer alone, or one about the run itself.

Runs on: the controller.
Imports: core, plan.
Touches: files and processes in run_id.
"""

"""One packet's way over one host, hop by hop: what the kernel does there, and what the plan wants.

Belongs here: a judgement on what `kernel.trace` has read, and the words for it. Which hosts are on
the way, and the verdict on all of them, are for `run.trace`.

Runs on: hosts.
Imports: core, backends, state.
Touches: nothing.
"""

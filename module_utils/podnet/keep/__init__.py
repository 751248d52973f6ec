"""What stays on a host between calls: files, the record, claims and locks, boot files, repair.

Belongs here: whatever podnet writes below /etc, /run or /var/lib, and how it is written safely.

Runs on: hosts.
Imports: core, backends, state.
Touches: files.
"""

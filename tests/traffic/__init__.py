"""Traffic between the pods of a running lab, watched from outside while something changes them.

`python -m tests.traffic --lab lab -- ansible-playbook playbooks/site.yml` runs a command under
traffic and tells what it did to it.
"""

from tests.traffic.report import Pair, Report
from tests.traffic.watch import Traffic, TrafficError

__all__ = ["Pair", "Report", "Traffic", "TrafficError"]

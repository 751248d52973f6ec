"""The command line: watch a lab for some seconds, or for as long as a command takes."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import time

from lab import Lab, LabError
from tests.traffic.watch import Traffic, TrafficError


def main(argv: list[str] | None = None) -> int:
    """Return 0 if nothing was lost, 1 if something was, 2 if nothing could be watched.

    A command that fails hands its status on, whatever became of the traffic.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.traffic", description=__doc__)
    parser.add_argument("--lab", default="lab", help="the lab's name (%(default)s)")
    parser.add_argument("--seconds", type=float, default=0.0, help="watch so long; 0: until ^C")
    parser.add_argument("--interval", type=float, default=5.0, help="ms between pings")
    parser.add_argument("--gateways", action="store_true", help="ping the hosts' bridges, too")
    parser.add_argument("command", nargs="*", help="run this under traffic")
    options = parser.parse_args(argv)
    status = 0
    try:
        traffic = Traffic(
            Lab(options.lab), interval=options.interval / 1000, gateways=options.gateways
        )
        with traffic, contextlib.suppress(KeyboardInterrupt):
            if options.command:
                status = subprocess.run(options.command, check=False).returncode
            else:
                print("All pairs work; watching.", flush=True)
                time.sleep(options.seconds or 1e6)
    except (LabError, TrafficError) as error:
        print(error, file=sys.stderr)
        return 2
    print(traffic.result.table())
    return status or int(bool(traffic.result.failures))


if __name__ == "__main__":
    sys.exit(main())

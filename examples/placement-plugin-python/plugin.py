#!/usr/bin/env python3
"""A placement plugin: prefers workers with solar power, then the fullest that still fits, so that others can sleep.

Reads one line of JSON from standard input, writes one to standard output, again and again. Nothing but the Python
standard library is needed. Whatever goes to standard error ends up in the orchestrator's log.
"""

import json
import sys


def rank(snapshot):
    """The decision: a pure function from the snapshot to an order of candidates' ids, best first."""
    if snapshot["version"] != 1:
        raise ValueError(f"unknown version {snapshot['version']}")

    def cost(candidate):
        is_solar = candidate["labels"].get("power") == "solar"
        free, total = candidate["free"], candidate["total"]
        free_share = free["memoryBytes"] / max(1, total["memoryBytes"])
        # Replicas of one service part, whatever the sun says.
        return (candidate["replicas"], not is_solar, free_share, candidate["id"])

    ordered = sorted(snapshot["candidates"], key=cost)
    return {"ranking": [candidate["id"] for candidate in ordered]}


def main():
    for line in sys.stdin:
        answer = rank(json.loads(line))
        # One line for each question, and out with it: the other side waits.
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

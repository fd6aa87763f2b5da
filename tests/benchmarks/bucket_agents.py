"""Measures what many agents on one bucket cost each other.

The bucket is a stand-in of a service with latency, throttling and lost
answers, the training a sleep, and the time accelerated. One agent less than
was started, one event lost or a median append of a second end it with 1.

    .venv/bin/python tests/benchmarks/bucket_agents.py --num_agents=100
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "helpers"))

import bucket_soak

_APPEND_SECS_MAX = 1.0


def main() -> int:
    """Runs the agents and prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--num_agents", type=int, default=100)
    parser.add_argument("--num_secs", type=float, default=600.0)
    parser.add_argument("--speed", type=float, default=1.5)
    parser.add_argument("--generation_secs", type=float, default=30.0)
    args = parser.parse_args()
    began = time.monotonic()
    report = bucket_soak.run(**vars(args)).to_json()
    report["real_secs"] = round(time.monotonic() - began)
    print(json.dumps({**vars(args), **report}, indent=2))
    is_right = (
        not report["agents_ended"]
        and not report["events_lost"]
        and report["median_append_secs"] < _APPEND_SECS_MAX
    )
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())

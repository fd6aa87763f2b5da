"""How a step's time and memory grow with children, layers and tasks.

    python tests/benchmarks/growth.py children|layers|tasks [--tiny]

Prints a JSON object per point. Each series is a process of its own and goes
up, so that the most memory ever held is that of the point just timed.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import operations
import ours
import peer
import samples

from keras_munet.train.devices import cpu_threads

# Children, layers, published tasks.
_Point = tuple[int, int, int]
_SERIES: dict[str, tuple[_Point, ...]] = {
    "children": tuple((n, 3, 0) for n in (1, 2, 4, 8, 16, 32)),
    "layers": tuple((8, n, 0) for n in (1, 3, 6, 12)),
    "tasks": tuple((8, 3, n) for n in (0, 3, 30, 100)),
}
_MU = 0.1
_IMAGE_SIZE = 32
_BATCH_SIZE = 256
_TINY_BATCH_SIZE = 8
_NUM_STEPS = 2
_NUM_TURNS = 3
_FLOP_PER_MAC = 2


def main() -> None:
    """Times the series that the command line names."""
    # As `launch/evolve.py` does.
    cpu_threads.divide_cores("one_device", samples.NUM_CHILDREN)
    kind, *options = sys.argv[1:]
    points = _SERIES[kind]
    batch_size = _BATCH_SIZE
    if "--tiny" in options:
        points, batch_size = points[:2], _TINY_BATCH_SIZE
    bench = ours.Bench(batch_size, _IMAGE_SIZE, _NUM_STEPS)
    for num_children, num_layers, num_tasks in points:
        search = samples.Search(
            num_layers, _MU, num_children=num_children, num_generations=1
        )
        for i in range(num_tasks):
            search.task(f"old{i}")
        started = time.perf_counter()
        (children,) = search.task("new")
        search_secs = time.perf_counter() - started
        secs = [bench.step_secs(children) for _ in range(_NUM_TURNS)]
        flop = _FLOP_PER_MAC * batch_size * operations.of_generation(children)
        found = {
            "num_children": num_children,
            "num_layers": num_layers,
            "num_tasks": num_tasks,
            "search_secs": search_secs,
            "step_secs": statistics.median(secs),
            # Of the unique operations.
            "gflop": flop / 1e9,
            "mib": peer.peak_mib(),
        }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()

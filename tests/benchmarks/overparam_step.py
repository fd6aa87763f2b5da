"""What an overparameterised step costs against the plain network's.

    python tests/benchmarks/overparam_step.py [--case=NAME] [--steps=N]

For each size of SegNet one line per way to train it: the seconds of a step
(the median), how many times the plain network's, and the peak memory of the
process. Each way is a process of its own; all of them are timed in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_TASKS = {"segmentation": 13, "depth": 1, "normals": 3}
# Options of the network, image height and width in pixels, batch.
_CASES: dict[str, tuple[dict[str, Any], tuple[int, int], int]] = {
    "width 8": ({"width": 8}, (96, 128), 8),
    "width 16": ({"width": 16}, (96, 128), 8),
    "width 32": ({"width": 32}, (96, 128), 8),
    # As NYUv2 is trained on: 288 x 384, two images at a time.
    "published": (
        {"width": 64, "num_stages": 5, "convs_per_stage": 2},
        (288, 384),
        2,
    ),
}
# The network's factors, and the phase of the schedule: shared or task.
_WAYS: dict[str, tuple[dict[str, Any] | None, str]] = {
    "plain": (None, "shared"),
    "shared factors": ({}, "shared"),
    "one task's factors": ({}, "task"),
    "shared, diagonal": ({"task_factor": "diagonal"}, "shared"),
    "one task's, diagonal": ({"task_factor": "diagonal"}, "task"),
}


def _peer(case: str, way: str) -> None:
    """Times steps of one way, as many as each line of stdin says."""
    import numpy as np
    import peer

    from keras_munet.overparam import model_transform
    from keras_munet.overparam.experiments import segnet

    options, size, batch_size = _CASES[case]
    factors, phase = _WAYS[way]

    model = segnet.segnet(_TASKS, size, **options)
    if factors is not None:
        model = model_transform.overparameterize(model, **factors)
    model.compile("adam", loss=dict.fromkeys(_TASKS, "mse"), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch_size, *size, 3), np.float32)
    labels = {
        task: rng.standard_normal((batch_size, *size, n), np.float32)
        for task, n in _TASKS.items()
    }

    def step() -> float:
        # What a batch trains follows from it.
        model.optimizer.iterations.assign(1 if phase == "task" else 0)
        started = time.perf_counter()
        model.train_on_batch(images, labels)
        return time.perf_counter() - started

    step()
    step()
    print("ready", flush=True)
    for line in sys.stdin:
        secs = [step() for _ in range(int(line))]
        answer = {"secs": secs, "mib": peer.peak_mib()}
        print(json.dumps(answer), flush=True)


def _measure(case: str, ways: list[str], num_turns: int) -> None:
    """Prints the lines of one size."""
    processes = {}
    for way in ways:
        process = subprocess.Popen(
            [sys.executable, __file__, "--case", case, "--way", way],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        # One after the other: they trace with all the machine has.
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{way} did not start")
        processes[way] = process
    secs: dict[str, list[float]] = {way: [] for way in ways}
    mib = {}
    for _ in range(num_turns):
        for way, process in processes.items():
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("1\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            secs[way] += answer["secs"]
            mib[way] = answer["mib"]
    for process in processes.values():
        process.kill()
        process.wait()
    plain = statistics.median(secs[ways[0]])
    for way in ways:
        own = statistics.median(secs[way])
        print(
            f"{case:>9}, {way:<21} {own:7.3f} s  {own / plain:5.2f} times  "
            f"{mib[way]:6.0f} MiB",
            flush=True,
        )


def main() -> None:
    """Measures every size, or the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=list(_CASES))
    parser.add_argument("--way", choices=list(_WAYS))
    parser.add_argument("--ways", nargs="*", default=list(_WAYS))
    parser.add_argument("--steps", type=int, default=5)
    args = parser.parse_args()
    if args.way:
        _peer(args.case, args.way)
        return
    for case in [args.case] if args.case else _CASES:
        _measure(case, args.ways, args.steps)


if __name__ == "__main__":
    main()

"""What every timed program does: build a step, then run it when it is told.

Runs in any virtual environment (NumPy is all it needs). One JSON object per
line: the parent writes `{"shape": {...}}` and `{"steps": N}`; the answers are
`{"ready": secs, ...}` and `{"secs": [...], "mib": peak}`. `{}` is answered
alike, once everything is imported. Programs of several frameworks can thus be
alive at once and take turns, and none computes while another is timed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np

# Ti/16.
WIDTH = 192
NUM_HEADS = 3
MLP_DIM = 768
PATCH_SIZE = 16
NUM_CHANNELS = 3
# SGD of every program.
LEARNING_RATE = 0.01
MOMENTUM = 0.9


@dataclasses.dataclass(frozen=True)
class Shape:
    """What is trained.

    Attributes:
      num_layers: blocks.
      image_size: side of a square image, pixels.
      batch_size: images per step.
      num_classes: width of the head.
      trained: the places that are trained, as this project names them; empty
        for all. Only `peer_flax.py` can leave any out.
    """

    num_layers: int
    image_size: int
    batch_size: int
    num_classes: int = 10
    trained: Sequence[str] = ()

    @property
    def num_patches(self) -> int:
        """Patches of an image."""
        return (self.image_size // PATCH_SIZE) ** 2


# Runs so many steps and returns the seconds of each.
Run = Callable[[int], list[float]]


def batch(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Returns `[batch, side, side, 3] float32` in [-1, 1), `[batch] int32`."""
    rng = np.random.default_rng(0)
    sides = shape.image_size, shape.image_size, NUM_CHANNELS
    images = rng.uniform(-1, 1, (shape.batch_size, *sides)).astype("f4")
    labels = rng.integers(0, shape.num_classes, shape.batch_size, np.int32)
    return images, labels


def timed(step: Callable[[], Any]) -> Run:
    """Returns a `Run` of a step that returns when it is done."""

    def run(num_steps: int) -> list[float]:
        secs = []
        for _ in range(num_steps):
            started = time.perf_counter()
            step()
            secs.append(time.perf_counter() - started)
        return secs

    return run


def serve(make_run: Callable[[Shape], tuple[Run, dict[str, Any]]]) -> None:
    """Answers until standard input ends.

    Args:
      make_run: returns the `Run` of a shape and what else to say of it, e.g.
        its number of parameters.
    """
    # Libraries print too: answers go where standard output went at first.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    run: Run | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        if "shape" in asked:
            run = None
            started = time.perf_counter()
            run, said = make_run(Shape(**asked["shape"]))
            # The first steps compile, allocate and choose algorithms.
            run(2)
            secs = time.perf_counter() - started
            answer = {"ready": secs, **said}
        elif not asked:
            answer = {}
        else:
            assert run is not None
            answer = {"secs": run(asked["steps"]), "mib": peak_mib()}
        print(json.dumps(answer), file=answers)


def peak_mib() -> float:
    """Returns the most memory that this process ever held, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

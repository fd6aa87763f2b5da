"""What training children together takes, against training each alone.

    python tests/benchmarks/fused.py [--num_generations=20] [--num_separate=4]

Prints a JSON object per generation of 8 children of 12 layers, mutation
probabilities 0.1 and 0.2 in turns. First come generations whose parents are
the root; then the later ones of a task, whose parents are the task's own.
Every generation is timed between two timings of the single step (one child,
all of it trained), so that a machine that slows down slows both.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterator
from collections.abc import Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import operations
import ours
import samples
from absl import app
from absl import flags

from keras_munet.roots import root as root_lib
from keras_munet.train import child_job
from keras_munet.train.devices import cpu_threads

_MUS = (0.1, 0.2)
_IMAGE_SIZE = 32
_NUM_STEPS = 2
_NUM_LAYERS = flags.DEFINE_integer("num_layers", 12, "Blocks of a path.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Images per step.")
_NUM_GENERATIONS = flags.DEFINE_integer(
    "num_generations", 20, "Generations from the root, over both mu."
)
_NUM_LATER = flags.DEFINE_integer(
    "num_later", 4, "Later generations of one task, for each mu."
)
_NUM_SEPARATE = flags.DEFINE_integer(
    "num_separate", 4, "Generations that are also trained child by child."
)


def _search(mu: float, num_generations: int) -> samples.Search:
    return samples.Search(
        _NUM_LAYERS.value,
        mu,
        num_generations=num_generations,
        image_size=_IMAGE_SIZE,
    )


def _sampled() -> Iterator[tuple[float, int, Sequence[child_job.ChildJob]]]:
    """Yields (mu, number within its task, children)."""
    for i in range(_NUM_GENERATIONS.value):
        mu = _MUS[i % len(_MUS)]
        yield mu, 0, _search(mu, 1).task(f"first{i}")[0]
    for mu in _MUS:
        later = _search(mu, 1 + _NUM_LATER.value).task("later")
        for number, children in enumerate(later[1:], 1):
            yield mu, number, children


def main(argv: list[str]) -> None:
    """Times and prints."""
    del argv
    # As `launch/evolve.py` does.
    cpu_threads.divide_cores("one_device", samples.NUM_CHILDREN)
    root = root_lib.random(
        "Ti/16",
        num_layers=_NUM_LAYERS.value,
        image_size=_IMAGE_SIZE,
        num_classes=ours.NUM_CLASSES,
    )
    single = [ours.full_child(root.components)]
    whole = operations.of_generation(single)
    secs = ours.Bench(_BATCH_SIZE.value, _IMAGE_SIZE, _NUM_STEPS).step_secs
    for i, (mu, number, children) in enumerate(_sampled()):
        before = secs(single)
        together = secs(children)
        around = statistics.mean([before, secs(single)])
        size = operations.of_generation(children) / whole
        found = {
            "mu": mu,
            "number": number,
            # Unique operations, in those of the single step.
            "size": size,
            "secs": together,
            "single_secs": around,
            "ratio": together / (size * around),
        }
        if i < _NUM_SEPARATE.value:
            found["separate_secs"] = sum(secs([c]) for c in children)
            found["separate_size"] = (
                sum(operations.of_generation([c]) for c in children) / whole
            )
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    app.run(main)

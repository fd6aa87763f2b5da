"""Measures the program engine on the devices of this machine: one command.

    python tests/benchmarks/gpu.py [--sizes=ti0,ti224] [--num_generations=3] \
        [--children_per_device=1,8] [--tiny]

Prints a JSON object per line. `parity`: children trained by the program on
these devices against the same program on the CPU, in float32, which the tests
hold against layer by layer. Then for each
size (`ti0`: Ti/16 with 3 layers, 32 px, batch 512; `ti224`: Ti/16 with 12
layers, 224 px, batch 64) and number of children that a device trains at one
time: seconds of a generation of 8 children, median of the later ones, seconds
of tracing, how many programs were compiled, calls of the host, the share of
the time that the host took between calls, and how busy the devices were (by
nvidia-smi; of CPUs, the share of the cores' time). `--tiny` tries everything
on small shapes, on any machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from collections.abc import Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import ours
import psutil
import samples
import tensorflow as tf
from absl import app
from absl import flags

from keras_munet.core import settings as settings_lib
from keras_munet.train import child_job
from keras_munet.train import trainer as trainer_lib
from keras_munet.train.devices import strategy as strategy_lib

# Layers, side of the input, batch.
_SIZES = {"ti0": (3, 32, 512), "ti224": (12, 224, 64), "tiny": (2, 32, 8)}
_NUM_STEPS = 8
_NUM_VALIDATION = 512
# Weights of one child on GPU and CPU, after 2 cycles; products of a GPU may
# be rounded to TensorFloat-32 unless that is off.
_PARITY_MAX = 1e-3

_RUN = flags.DEFINE_list("sizes", "ti0,ti224", f"Of {', '.join(_SIZES)}.")
_TOGETHER = flags.DEFINE_list(
    "children_per_device", "1,8", "Children of a device at one time."
)
_NUM_GENERATIONS = flags.DEFINE_integer("num_generations", 3, "Of each size.")
_TINY = flags.DEFINE_bool("tiny", False, "Try all of it on small shapes.")


class Utilisation:
    """Samples how busy the devices are."""

    def __init__(self) -> None:
        self.samples: list[float] = []
        self._done = threading.Event()

    @contextlib.contextmanager
    def sampling(self) -> Iterator[None]:
        """Samples in a thread, twice a second."""
        thread = threading.Thread(target=self._sample, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    def _sample(self) -> None:
        process = psutil.Process()
        process.cpu_percent()
        while not self._done.wait(0.5):
            self.samples.append(_gpu_share() or process.cpu_percent() / 100)


def _gpu_share() -> float | None:
    """Returns the mean utilisation of all GPUs; None without nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        return None
    done = subprocess.run(
        [
            *("nvidia-smi", "--query-gpu=utilization.gpu"),
            "--format=csv,noheader,nounits",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    values = [
        float(v) for v in done.stdout.split() if v.replace(".", "").isdigit()
    ]
    return statistics.mean(values) / 100 if values else None


def _trainer(
    batch_size: int, engine: str, strategy: tf.distribute.Strategy, **options
) -> trainer_lib.Trainer:
    budget = child_job.Budget(
        2, batch_size, batch_size * _NUM_STEPS, _NUM_VALIDATION
    )
    return trainer_lib.Trainer(
        strategy, budget, 0, "float32", None, engine, **options
    )


def _generations(
    num_layers: int, image_size: int
) -> list[Sequence[child_job.ChildJob]]:
    search = samples.Search(
        num_layers,
        0.2,
        num_generations=_NUM_GENERATIONS.value,
        image_size=image_size,
    )
    return [
        [
            # Of ours, a child is never snapshot.
            child_job.ChildJob(c.index, c.components, c.hparams)
            for c in children
        ]
        for children in search.task("benchmark")
    ]


def parity(size: str) -> dict[str, object]:
    """Returns how far the program's children are from the CPU's."""
    num_layers, image_size, batch_size = _SIZES[size]
    children = _generations(num_layers, image_size)[0][:2]
    data = ours.data(batch_size * _NUM_STEPS, image_size)
    hparams = {**settings_lib.DEFAULT_HPARAMS, "ds_image_size": image_size}
    results = []
    here = tf.distribute.OneDeviceStrategy("/cpu:0")
    for engine, strategy in (
        ("program", here),
        ("program", strategy_lib.make_strategy("auto")),
    ):
        made = _trainer(batch_size, engine, strategy)
        results.append(
            made.train(children, data, hparams, ("p", 0), accept_ties=True)
        )
    worst = max(
        float(np.abs(value - other.components[name].weights[key]).max())
        for one, other in zip(*results, strict=True)
        for name, component in one.components.items()
        if name in other.components
        for key, value in component.weights.items()
    )
    return {
        "parity": size,
        "weights_differ": worst,
        "at_most": _PARITY_MAX,
        "holds": worst <= _PARITY_MAX,
        "scores": [[child.scores for child in run] for run in results],
    }


def measure(size: str, children_per_device: int) -> dict[str, object]:
    """Returns the seconds of a generation, and what they went into."""
    num_layers, image_size, batch_size = _SIZES[size]
    generations = _generations(num_layers, image_size)
    data = ours.data(batch_size * _NUM_STEPS, image_size)
    hparams = {**settings_lib.DEFAULT_HPARAMS, "ds_image_size": image_size}
    deepest = max(
        (child for children in generations for child in children),
        key=lambda child: len(child.components),
    )
    strategy = strategy_lib.make_strategy("auto")
    made = _trainer(
        batch_size,
        "program",
        strategy,
        largest=deepest.components,
        children_per_device=children_per_device,
    )
    secs, busy = [], Utilisation()
    with busy.sampling():
        for number, children in enumerate(generations):
            started = time.perf_counter()
            made.train(children, data, hparams, ("b", number), accept_ties=True)
            secs.append(time.perf_counter() - started)
    calls = made.clock["train_secs"]
    compiling = made.clock["compile_secs"]
    runners = made._engine.runners
    return {
        "size": size,
        "devices": list(strategy.extended.worker_devices),
        "children_per_device": children_per_device,
        "first_generation_secs": round(secs[0], 3),
        "generation_secs": round(statistics.median(secs[1:]), 3),
        "compile_secs": round(compiling, 3),
        "programs": len(runners),
        "calls": sum(runner.num_calls for runner in runners),
        "host_share": round(1 - (calls + compiling) / sum(secs), 4),
        "busy": round(statistics.mean(busy.samples or [0.0]), 3),
    }


def main(argv: list[str]) -> None:
    del argv
    # Else a GPU rounds the factors of float32 products.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    sizes = ["tiny"] if _TINY.value else _RUN.value
    print(json.dumps(parity(sizes[0])), flush=True)
    for size in sizes:
        for number in _TOGETHER.value:
            print(json.dumps(measure(size, int(number))), flush=True)


if __name__ == "__main__":
    app.run(main)

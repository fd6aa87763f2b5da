"""Generations for benchmarks, trained by the real `Trainer`.

Data are noise and children have no score to reach, so nothing is snapshot:
what is timed is the steps, with their input work, as a search runs them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.data import types
from keras_munet.train import child_job
from keras_munet.train import trainer as trainer_lib
from keras_munet.train.devices import strategy as strategy_lib

NUM_CLASSES = 10


def data(num_examples: int, image_size: int) -> types.TaskData:
    """Returns a task of noise, `[n, side, side, 3] uint8`, 10 classes."""
    rng = np.random.default_rng(0)

    def split(size: int) -> types.Split:
        shape = size, image_size, image_size, 3
        images = rng.integers(0, 256, shape, np.uint8)
        return types.Split(images, rng.integers(0, 10, size, np.int32))

    names = tuple(map(str, range(NUM_CLASSES)))
    # One step of validation per cycle, which no time here counts.
    return types.TaskData(
        *("noise", NUM_CLASSES, names),
        *(split(num_examples), split(1), split(1)),
    )


def full_child(components: Iterable[specs.Component]) -> child_job.ChildJob:
    """Returns a child that trains all of `components`."""
    parts = tuple(
        child_job.JobComponent(
            c.spec, lambda c=c: c, shared_id=None, trainable=True
        )
        for c in components
    )
    return child(0, parts, settings_lib.DEFAULT_HPARAMS)


def child(
    index: int,
    parts: tuple[child_job.JobComponent, ...],
    hparams: Mapping[str, object],
) -> child_job.ChildJob:
    """Returns a child that is never snapshot."""
    return child_job.ChildJob(index, parts, hparams, score_to_beat=math.inf)


class Bench:
    """Times the training of generations on one batch size."""

    def __init__(
        self,
        batch_size: int,
        image_size: int,
        num_steps: int,
        compute_dtype: str = "float32",
    ):
        """Prepares data and a trainer.

        Args:
          batch_size: examples per step.
          image_size: of data and children, pixels.
          num_steps: timed together.
          compute_dtype: as the settings have it.
        """
        num_examples = batch_size * num_steps
        budget = child_job.Budget(
            num_cycles=2,
            batch_size=batch_size,
            num_train_examples_max=num_examples,
            num_validation_examples_max=1,
        )
        self._num_steps = num_steps
        self._data = data(num_examples, image_size)
        self._data_hparams = {
            **settings_lib.DEFAULT_HPARAMS,
            "ds_image_size": image_size,
        }
        self._trainer = trainer_lib.Trainer(
            strategy_lib.make_strategy("one_device"), budget, 0, compute_dtype
        )

    def step_secs(self, children: Sequence[child_job.ChildJob]) -> float:
        """Returns the seconds of a step of `children`, the mean of a cycle.

        A first cycle, which compiles, is run and not counted.
        """
        marks = []

        def mark(*_: object) -> None:
            clock = self._trainer.clock
            marks.append(time.perf_counter() - clock["validate_secs"])

        self._trainer.train(
            children,
            self._data,
            self._data_hparams,
            ("benchmark",),
            accept_ties=True,
            on_cycle=mark,
        )
        return (marks[1] - marks[0]) / self._num_steps

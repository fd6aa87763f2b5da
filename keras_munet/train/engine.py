"""The interface of what computes a training: layer by layer or one program.

Invariant: an engine computes; which examples, draws and rates a step has, when
a child is scored and what becomes of it is the trainer's to say, for every
engine alike.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Protocol

import numpy as np
import tensorflow as tf

from keras_munet.core import qualities
from keras_munet.core import specs
from keras_munet.core import target_types
from keras_munet.data import preprocessing
from keras_munet.data import types
from keras_munet.train import batches as batches_lib
from keras_munet.train import child_job
from keras_munet.train import memory
from keras_munet.train import timing
from keras_munet.train.layerwise import layer_functions


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The steps of a generation.

    Attributes:
      indices: `[steps, batch] int32`, the examples of each step.
      seeds: `[steps, 2] int32`, of each step's augmentation.
      num_steps: of a cycle.
    """

    indices: np.ndarray
    seeds: np.ndarray
    num_steps: int


class Training(Protocol):
    """Children under training, cycle after cycle."""

    def cycle(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Trains the steps of a cycle, then measures.

        Args:
          number: of the cycle; each comes once, in order.

        Returns:
          `[children] float32` mean losses, nats, and `[children] float64`
          qualities; NaN where a child diverged.
        """
        ...

    def snapshot(self, child: int) -> Mapping[str, specs.Component]:
        """Returns copies of what a child does not share, by name."""
        ...


class Engine(abc.ABC):
    """Computes trainings and evaluations.

    Attributes:
      clock: takes the seconds.
      layer_functions: what is compiled of single layers.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        budget: child_job.Budget,
        clock: timing.Clock,
    ):
        """Begins without any data.

        Args:
          strategy: where steps run.
          budget: how many examples they take.
          clock: takes the seconds.
        """
        self._strategy = strategy
        self._budget = budget
        self.clock = clock
        self.layer_functions = layer_functions.LayerFunctions()

    @abc.abstractmethod
    def passes(
        self,
        children: Sequence[child_job.ChildJob],
        image_size: int,
        num_bytes_max: int | None,
    ) -> memory.Passes:
        """Returns how children are divided so that each pass fits.

        Args:
          children: of a generation.
          image_size: side of their input, pixels.
          num_bytes_max: what they may take on each device; None where that
            is not known.

        Raises:
          UsageError: a child does not fit with one example at a time.
        """

    @abc.abstractmethod
    def training(
        self,
        children: Sequence[child_job.ChildJob],
        data: types.TaskData,
        data_hparams: Mapping[str, Any],
        schedule: Schedule,
        rates: np.ndarray,
        num_parts: int,
    ) -> contextlib.AbstractContextManager[Training]:
        """Gives the training of one pass.

        Args:
          children: of the pass.
          data: the task's data.
          data_hparams: the `ds_*` hyperparameters.
          schedule: of the generation.
          rates: `[steps, children, 3] float32`; see `schedules.rate_table`.
          num_parts: see `memory.Passes`.
        """

    @abc.abstractmethod
    def measure(
        self,
        child: child_job.ChildJob,
        data: types.TaskData,
        split: str | None,
        image_size: int,
        antialias: bool,
    ) -> float:
        """Returns how good one child is as it came.

        Args:
          child: all of whose components are shared frozen.
          data: the task's data.
          split: whose accuracy to return, each example counted once: `train`
            or `test`, used whole, or `validation`, of which as many examples
            are used as the budget says. None for the quality that decides in
            training, which stands for the accuracy of any number of labels
            an image, too.
          image_size: side of its input, pixels.
          antialias: see `preprocessing.evaluation_images`.
        """

    def counted(
        self, data: types.TaskData, split: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns what an evaluation counts.

        Args:
          data: the task's data.
          split: see `measure`.

        Returns:
          `[steps, batch] int32` examples, padded, and `[steps, batch]
          float32`, 0 where padded.
        """
        return batches_lib.evaluation_batches(
            self.num_counted(data, split), self._budget.batch_size
        )

    def num_counted(self, data: types.TaskData, split: str) -> int:
        """Returns how many examples of a split an evaluation counts."""
        num_examples = len(getattr(data, split).labels)
        if split == "validation":
            return min(num_examples, self._budget.num_validation_examples_max)
        return num_examples

    def quality(self, rows: np.ndarray, data: types.TaskData) -> float:
        """Returns the quality that decides in training.

        Args:
          rows: as of `losses.scored_outputs`.
          data: the task's data.
        """
        logits, labels = np.split(rows[:, :-1], [data.num_classes], axis=1)
        if data.target is target_types.SINGLE_LABEL:
            labels = labels[:, 0]
        return qualities.measure_quality(
            self._budget.quality_of(data), logits, labels
        )

    def counts_accuracy(self, data: types.TaskData) -> bool:
        """Returns whether right answers alone decide in training."""
        return self._budget.quality_of(data) == qualities.ACCURACY

    def needs_logits(self, data: types.TaskData, split: str | None) -> bool:
        """Returns whether `measure` takes more than right answers."""
        is_multi = data.target is target_types.MULTI_LABEL
        return is_multi or (split is None and not self.counts_accuracy(data))

    @abc.abstractmethod
    def forget_task(self, task: str) -> None:
        """Frees the data of `task`."""


def mixes(data_hparams: Mapping[str, Any]) -> bool:
    """Returns whether training images are mixed in pairs."""
    return float(data_hparams.get("ds_mixup", 0.0)) > 0.0


def augmentation(
    data: types.TaskData, data_hparams: Mapping[str, Any]
) -> tuple[preprocessing.AugmentHparams, preprocessing.ColorJitter]:
    """Returns what a step augments by, and when saturation and hue vary.

    Args:
      data: the task's data.
      data_hparams: the `ds_*` hyperparameters.

    Returns:
      Hyperparameters as scalar tensors, as they are arguments of a step, and
      a constant of it.
    """
    hparams, jitter = preprocessing.augment_hparams(
        data_hparams, data.train.images.shape[-1]
    )
    return type(hparams)(*(tf.constant(value) for value in hparams)), jitter

"""The steps of a generation: examples in, losses or right answers out.

Invariant: what a step computes follows from its inputs alone; making these
ahead changes when and not what.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import Generic
from typing import TypeVar

import numpy as np
import tensorflow as tf

from keras_munet.core import qualities
from keras_munet.data import preprocessing
from keras_munet.data import types
from keras_munet.train import batches as batches_lib
from keras_munet.train import child_job
from keras_munet.train import generation_base
from keras_munet.train import generation_structure
from keras_munet.train import layer_pool
from keras_munet.train import matmul_precision
from keras_munet.train import timing
from keras_munet.train.layerwise import layer_functions

# What a loop trains: the layers of a generation, however they are computed.
G = TypeVar("G", bound=generation_base.GenerationBase)


class StepLoop(abc.ABC, Generic[G]):
    """Feeds the steps of generations and counts what they take.

    Attributes:
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
        self._num_replicas = strategy.num_replicas_in_sync
        self._budget = budget
        self._clock = clock
        self._batches = batches_lib.Batches()
        self.layer_functions = layer_functions.LayerFunctions()

    @property
    def num_at_a_time(self) -> int | None:
        """Returns the number of children in a step at a time; None for all."""
        return None

    @contextlib.contextmanager
    def inputs(
        self,
        data: types.TaskData,
        data_hparams: Mapping[str, Any],
        indices: np.ndarray,
        seeds: np.ndarray,
        rates: np.ndarray,
    ) -> Iterator[Iterator[tuple[Any, ...]]]:
        """Gives what the training steps of a generation take.

        Some of it is made ahead.

        Args:
          data: the task's data.
          data_hparams: the `ds_*` hyperparameters.
          indices: `[steps, batch] int32`, the examples of each step.
          seeds: `[steps, 2] int32`, of each step's augmentation.
          rates: `[steps, children, 3] float32`; see `schedules.rate_table`.
        """
        augment, jitter = augmentation(data, data_hparams)
        image_size = int(data_hparams["ds_image_size"])
        picked = self._batches.of(data, "train", indices)
        ready: Iterator[tuple[Any, ...]] = (
            (
                *batches_lib.training_batch(
                    *batch, tf.constant(seed), augment, image_size, jitter
                ),
                tf.constant(rate),
            )
            for batch, seed, rate in zip(picked, seeds, rates, strict=True)
        )
        num_ahead = batches_lib.num_prefetched(indices.shape[1], image_size)
        if not num_ahead:
            yield ready
            return
        with batches_lib.Prefetcher(ready, num_ahead) as ahead:
            yield iter(ahead)

    @abc.abstractmethod
    def generation(
        self,
        structure: generation_structure.GenerationStructure,
        pool: layer_pool.LayerPool,
        products: matmul_precision.MatmulPrecision,
        num_parts: int,
    ) -> G:
        """Returns what this loop trains of a structure.

        Args:
          structure: which layers each child has.
          pool: lends them.
          products: which precision a training step multiplies in.
          num_parts: into how many parts a batch is divided to save memory.
        """

    @abc.abstractmethod
    def train(
        self, graph: G, inputs: Iterator[tuple[Any, ...]], num_steps: int
    ) -> np.ndarray:
        """Trains step after step; returns the mean losses.

        The caller counts what this takes, but for its input.

        Args:
          graph: the generation's.
          inputs: from `inputs`.
          num_steps: how many.

        Returns:
          `[children] float32`, nats.
        """

    def accuracies(
        self,
        graph: G,
        data: types.TaskData,
        split: str,
    ) -> np.ndarray:
        """Returns the accuracy of each child, each example counted once.

        Args:
          graph: the generation's.
          data: the task's data.
          split: `train` or `test`, used whole, or `validation`, of which as
            many examples are used as the budget says.

        Returns:
          `[children] float64`; NaN where a child diverged.
        """
        with self._clock.measure("validate"):
            indices, mask = self.counted(data, split)
            counts = sum(self._count(graph, data, split, indices, mask))
        return np.asarray(counts, np.float64) / np.count_nonzero(mask)

    def qualities(self, graph: G, data: types.TaskData) -> np.ndarray:
        """Returns the quality of each child on validation data.

        Args:
          graph: the generation's.
          data: the task's data.

        Returns:
          `[children] float64`; NaN where a child diverged.
        """
        if self._budget.quality == qualities.ACCURACY:
            return self.accuracies(graph, data, "validation")
        with self._clock.measure("validate"):
            counted = self.counted(data, "validation")
            batches = self._count(
                graph, data, "validation", *counted, whole=True
            )
            rows = np.concatenate(list(batches), axis=1)
        return np.array(
            [
                qualities.measure_quality(
                    self._budget.quality, child[:, :-2], child[:, -2]
                )
                for child in rows[:, rows[0, :, -1] > 0]
            ],
            np.float64,
        )

    def counted(
        self, data: types.TaskData, split: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns what an evaluation counts.

        Args:
          data: the task's data.
          split: see `accuracies`.

        Returns:
          `[steps, batch] int32` examples, padded, and `[steps, batch]
          float32`, 0 where padded.
        """
        num_examples = len(getattr(data, split).labels)
        if split == "validation":
            num_examples = min(
                num_examples, self._budget.num_validation_examples_max
            )
        return batches_lib.evaluation_batches(
            num_examples, self._budget.batch_size, self._num_replicas
        )

    @abc.abstractmethod
    def _count(
        self,
        graph: G,
        data: types.TaskData,
        split: str,
        indices: np.ndarray,
        mask: np.ndarray,
        whole: bool = False,
    ) -> Iterator[Any]:
        """Yields the `[children] float32` right answers of each batch.

        Args:
          graph: the generation's.
          data: the task's data.
          split: of it.
          indices: `[steps, batch] int32`, from `counted`.
          mask: `[steps, batch] float32`, from `counted`.
          whole: whether to yield `[children, batch, classes + 2] float32`
            instead, what `losses.scored_outputs` returns.
        """

    def forget_task(self, task: str) -> None:
        """Frees the data of `task`."""
        self._batches.forget_task(task)


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

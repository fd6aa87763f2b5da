"""The steps of a generation: examples in, losses or right answers out.

Invariant: what a step computes follows from its inputs alone; making these
ahead, and tracing one step while another is prepared, changes when and not
what.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator
from collections.abc import Mapping
from concurrent import futures
from typing import Any

import numpy as np
import tensorflow as tf

from keras_munet.data import preprocessing
from keras_munet.data import records
from keras_munet.train import batches as batches_lib
from keras_munet.train import clock as clock_lib
from keras_munet.train import generation as generation_lib
from keras_munet.train import jobs as jobs_lib
from keras_munet.train import shares as shares_lib
from keras_munet.train import strategy as strategy_lib

# Slices have a thread each: Keras builds, and a first call traces, in one of
# them at a time.
BUILDING = threading.RLock()


class StepLoop:
    """Feeds compiled steps and counts what they take."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        budget: jobs_lib.Budget,
        clock: clock_lib.Clock,
        arrays: shares_lib.Arrays | None = None,
    ):
        """Begins without any data.

        Args:
          strategy: where steps run.
          budget: how many examples they take.
          clock: takes the seconds.
          arrays: of a slice, the data that all slices have; see
            `shares.Shares`.
        """
        self._num_replicas = strategy.num_replicas_in_sync
        self._budget = budget
        self._clock = clock
        self._batches = batches_lib.Batches()
        # One device that is the host's own memory picks its batches itself.
        self._shares: shares_lib.Shares | None = None
        if (
            arrays is not None
            or self._num_replicas > 1
            or strategy_lib.device_type(strategy) == "TPU"
        ):
            self._shares = shares_lib.Shares(strategy, arrays)
        self._beside = futures.ThreadPoolExecutor(1, "tracing")
        self._tracing: futures.Future[Any] | None = None

    @contextlib.contextmanager
    def inputs(
        self,
        data: records.TaskData,
        data_hparams: Mapping[str, Any],
        indices: np.ndarray,
        seeds: np.ndarray,
        rates: np.ndarray,
    ) -> Iterator[Iterator[tuple[Any, ...]]]:
        """Gives what training steps take, some of it made ahead.

        Args:
          data: the task's data.
          data_hparams: the `ds_*` hyperparameters.
          indices: `[steps, batch] int32`, the examples of each step.
          seeds: `[steps, 2] int32`, of each step's augmentation.
          rates: `[steps, children, 3] float32`; see `schedules.rates`.
        """
        hparams, jitter = preprocessing.augment_hparams(dict(data_hparams))
        augment = type(hparams)(*(tf.constant(value) for value in hparams))
        if self._shares is not None:
            shares = self._shares.training(data, indices, seeds, rates)
            yield ((*share, augment, jitter) for share in shares)
            return
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
        num_ahead = batches_lib.num_ahead(indices.shape[1], image_size)
        with contextlib.ExitStack() as stack:
            stack.callback(self._end_tracing)
            if num_ahead:
                ahead = batches_lib.Ahead(ready, num_ahead)
                ready = iter(stack.enter_context(ahead))
            yield ready

    def train(
        self,
        graph: generation_lib.GenerationGraph,
        inputs: Iterator[tuple[Any, ...]],
        data: records.TaskData,
        calls: clock_lib.Calls,
    ) -> Iterator[tf.Tensor]:
        """Trains step after step; yields the `[children] float32` losses.

        Args:
          graph: the generation's.
          inputs: from `inputs`.
          data: the task's data; how many examples it validates on decides
            what is traced besides.
          calls: counts the steps.
        """
        step = graph.train_batch if self._shares is None else graph.train_shares
        for number in itertools.count():
            with clock_lib.spent(self._clock, "input"):
                args = next(inputs, None)
            if args is None:
                return
            if number == 0 and self._shares is None:
                self._trace(graph, args, data)
            with contextlib.nullcontext() if number else BUILDING:
                losses = calls(step, *args)
            yield losses

    def _trace(
        self,
        graph: generation_lib.GenerationGraph,
        first: tuple[Any, ...],
        data: records.TaskData,
    ) -> None:
        """Traces a training step; begins with the one that validates.

        What TensorFlow makes of the first graph when it first runs needs no
        Python, which is free to trace the second meanwhile.
        """
        with clock_lib.spent(self._clock, "compile"):
            graph.train_batch.get_concrete_function(*first)
        indices, _ = self.counted(data, "validation")
        images = tf.TensorSpec([indices.shape[1], *first[0].shape[1:]])
        per_example = [indices.shape[1]]
        self._tracing = self._beside.submit(
            graph.count_batch.get_concrete_function,
            images,
            tf.TensorSpec(per_example, tf.int32),
            tf.TensorSpec(per_example),
        )

    def _end_tracing(self) -> None:
        """Leaves no trace under way: the next would find its layers changed.

        An error of it is told where the result is wanted.
        """
        if self._tracing is not None:
            futures.wait([self._tracing])
        self._tracing = None

    def accuracies(
        self,
        graph: generation_lib.GenerationGraph,
        data: records.TaskData,
        split: str,
        calls: clock_lib.Calls,
    ) -> np.ndarray:
        """Returns the accuracy of each child, each example counted once.

        Args:
          graph: the generation's.
          data: the task's data.
          split: `train` or `test`, used whole, or `validation`, of which as
            many examples are used as the budget says.
          calls: counts the steps.

        Returns:
          `[children] float64`; NaN where a child diverged.
        """
        if self._tracing is not None:
            with clock_lib.spent(self._clock, "compile"):
                self._tracing.result()
        with clock_lib.spent(self._clock, "validate"):
            indices, mask = self.counted(data, split)
            counts = sum(
                self._count(graph, data, split, indices, mask, calls)
            ).numpy()
        return counts.astype(np.float64) / np.count_nonzero(mask)

    def counted(
        self, data: records.TaskData, split: str
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
        return batches_lib.counted(
            num_examples, self._budget.batch_size, self._num_replicas
        )

    def _count(
        self,
        graph: generation_lib.GenerationGraph,
        data: records.TaskData,
        split: str,
        indices: np.ndarray,
        mask: np.ndarray,
        calls: clock_lib.Calls,
    ) -> Iterator[tf.Tensor]:
        """Yields the `[children] float32` right answers of each step."""
        if self._shares is not None:
            inputs = self._shares.validation(data, split, indices, mask)
            # There may be more, but not for this evaluation.
            for step, share in enumerate(itertools.islice(inputs, len(mask))):
                with contextlib.nullcontext() if step else BUILDING:
                    counts = calls(graph.count_shares, *share)
                yield counts
            return
        picked = self._batches.of(data, split, indices)
        for batch, weights in zip(picked, mask, strict=True):
            ready = batches_lib.evaluation_batch(*batch, graph.image_size)
            yield calls(graph.count_batch, *ready, tf.constant(weights))

    def forget(self, task: str) -> None:
        """Frees the data of `task`."""
        self._batches.forget(task)
        if self._shares is not None:
            self._shares.forget(task)

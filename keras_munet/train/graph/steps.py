"""The steps of a generation that is one graph, on any devices.

Invariant: as of `steps`; of several devices each gets its share of a batch.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_munet.data import types
from keras_munet.train import batches as batches_lib
from keras_munet.train import child_job
from keras_munet.train import generation_structure
from keras_munet.train import layer_pool
from keras_munet.train import matmul_precision
from keras_munet.train import steps
from keras_munet.train import timing
from keras_munet.train.devices import replica_inputs
from keras_munet.train.devices import strategy as strategy_lib
from keras_munet.train.graph import generation as generation_lib

# Slices have a thread each: Keras builds, and a first call traces, in one of
# them at a time.
_BUILDING = threading.RLock()


class GraphSteps(steps.StepLoop[generation_lib.GenerationGraph]):
    """Feeds compiled steps and counts what they take."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        budget: child_job.Budget,
        clock: timing.Clock,
        arrays: replica_inputs.Arrays | None = None,
    ):
        """Begins without any data.

        Args:
          strategy: where steps run.
          budget: how many examples they take.
          clock: takes the seconds.
          arrays: of a slice, the data that all slices have; see
            `replica_inputs.ReplicaInputs`.
        """
        super().__init__(strategy, budget, clock)
        # One CPU or GPU picks its batches itself.
        self._shares: replica_inputs.ReplicaInputs | None = None
        if (
            arrays is not None
            or self._num_replicas > 1
            or strategy_lib.device_type(strategy) == "TPU"
        ):
            self._shares = replica_inputs.ReplicaInputs(strategy, arrays)
        self._begin()

    def _begin(self) -> None:
        self._training = timing.Calls(self._clock, "train")
        self._counting = timing.Calls(self._clock, "validate")

    @contextlib.contextmanager
    def inputs(
        self,
        data: types.TaskData,
        data_hparams: Mapping[str, Any],
        indices: np.ndarray,
        seeds: np.ndarray,
        rates: np.ndarray,
    ) -> Iterator[Iterator[tuple[Any, ...]]]:
        """Gives what training steps take; see `steps.StepLoop.inputs`."""
        self._begin()
        if self._shares is None:
            with super().inputs(
                data, data_hparams, indices, seeds, rates
            ) as ready:
                yield ready
        else:
            augment, jitter = steps.augmentation(data, data_hparams)
            shares = self._shares.training(data, indices, seeds, rates)
            yield ((*share, augment, jitter) for share in shares)
        self._training.end()
        self._counting.end()

    def generation(
        self,
        structure: generation_structure.GenerationStructure,
        pool: layer_pool.LayerPool,
        products: matmul_precision.MatmulPrecision,
        num_parts: int,
    ) -> generation_lib.GenerationGraph:
        """Returns the graph of a structure."""
        with _BUILDING:
            return generation_lib.GenerationGraph(
                structure, pool, self._strategy, products, num_parts
            )

    def train(
        self,
        graph: generation_lib.GenerationGraph,
        inputs: Iterator[tuple[Any, ...]],
        num_steps: int,
    ) -> np.ndarray:
        """Trains step after step; returns the mean losses."""
        # A loop of calls, not a device loop: on a CPU the loop's own
        # optimisation costs more than all its steps (docs/decisions.md).
        losses = sum(self._trained(graph, inputs, num_steps))
        return losses.numpy() / num_steps

    def _trained(
        self,
        graph: generation_lib.GenerationGraph,
        inputs: Iterator[tuple[Any, ...]],
        num_steps: int,
    ) -> Iterator[tf.Tensor]:
        """Yields the `[children] float32` losses of each step."""
        step = graph.train_batch if self._shares is None else graph.train_shares
        for _ in range(num_steps):
            with self._clock.measure("input"):
                args = next(inputs)
            begun = self._training.begun
            with contextlib.nullcontext() if begun else _BUILDING:
                losses = self._training(step, *args)
            yield losses

    def _count(
        self,
        graph: generation_lib.GenerationGraph,
        data: types.TaskData,
        split: str,
        indices: np.ndarray,
        mask: np.ndarray,
        whole: bool = False,
    ) -> Iterator[tf.Tensor]:
        """Yields the `[children] float32` right answers of each step."""
        if self._shares is not None:
            inputs = self._shares.validation(data, split, indices, mask)
            # There may be more, but not for this evaluation.
            for step, share in enumerate(itertools.islice(inputs, len(mask))):
                with contextlib.nullcontext() if step else _BUILDING:
                    counts = self._counting(graph.count_shares, *share, whole)
                yield _joined(counts) if whole else counts
            return
        picked = self._batches.of(data, split, indices)
        for batch, weights in zip(picked, mask, strict=True):
            ready = batches_lib.evaluation_batch(
                *batch, graph.image_size, graph.antialias
            )
            counts = self._counting(
                graph.count_batch, *ready, tf.constant(weights), whole
            )
            yield _joined(counts) if whole else counts

    def forget_task(self, task: str) -> None:
        """Frees the data of `task`."""
        super().forget_task(task)
        if self._shares is not None:
            self._shares.forget_task(task)


def _joined(rows: tf.Tensor) -> np.ndarray:
    """Returns `[children, n, classes + 2]` from what each replica has."""
    return np.concatenate(rows.numpy(), axis=1)

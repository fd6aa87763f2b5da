"""The steps of a generation on one CPU, layer by layer.

Invariant: as of `steps`; a few steps are under way at a time, and what a child
becomes does not depend on how far the others are.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator
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
from keras_munet.train.devices import cpu_threads
from keras_munet.train.layerwise import feature_cache
from keras_munet.train.layerwise import generation as generation_lib
from keras_munet.train.layerwise import task_graph

# Enough for a child that is done with a step to go on with the next.
_NUM_UNDER_WAY_MAX = 2
_NUM_INPUT_BYTES_MAX = 64 * 2**20
_UnderWay = collections.deque[list[task_graph.Future]]


class LayerSteps(steps.StepLoop[generation_lib.LayerwiseGeneration]):
    """Feeds a few threads and counts what they take."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        budget: child_job.Budget,
        clock: timing.Clock,
    ):
        """Begins without any data or compiled function.

        Args:
          strategy: of one CPU.
          budget: how many examples steps take.
          clock: takes the seconds.
        """
        super().__init__(strategy, budget, clock)
        self._features = feature_cache.FeatureCache()
        # Of validation, which every cycle counts.
        self._inputs = feature_cache.FeatureCache(_NUM_INPUT_BYTES_MAX)
        self._num_threads = cpu_threads.num_operations()

    @property
    def num_at_a_time(self) -> int:
        """Returns the number of children in a step at once, one per thread."""
        return self._num_threads

    def generation(
        self,
        structure: generation_structure.GenerationStructure,
        pool: layer_pool.LayerPool,
        products: matmul_precision.MatmulPrecision,
        num_parts: int,
    ) -> generation_lib.LayerwiseGeneration:
        """Returns what this loop trains of a structure."""
        return generation_lib.LayerwiseGeneration(
            *(structure, pool, self._strategy, self.layer_functions),
            products,
            num_parts,
        )

    def train(
        self,
        graph: generation_lib.LayerwiseGeneration,
        inputs: Iterator[tuple[Any, ...]],
        num_steps: int,
    ) -> np.ndarray:
        """Trains step after step; returns the mean losses."""
        total = np.zeros(graph.num_children, np.float32)
        under_way: _UnderWay = collections.deque()
        with self._flow() as flow:
            for number in range(num_steps):
                with self._clock.measure("input"):
                    args = next(inputs)
                before = under_way[-1] if under_way else []
                if len(under_way) == _num_under_way(args[0]):
                    total += _losses(under_way.popleft())
                under_way.append(graph.begin_step(flow, number, before, *args))
            for futures in under_way:
                total += _losses(futures)
        return total / num_steps

    def _count(
        self,
        graph: generation_lib.LayerwiseGeneration,
        data: types.TaskData,
        split: str,
        indices: np.ndarray,
        mask: np.ndarray,
        whole: bool = False,
    ) -> Iterator[np.ndarray]:
        """Yields the `[children] float32` right answers of each batch."""
        under_way: _UnderWay = collections.deque()
        self._features.keep_only(data.name, graph.prefixes)
        self._inputs.keep_only(data.name, {(graph.image, ())})
        picked = self._batches.of(data, split, indices)
        with self._flow() as flow:
            for number, batch in enumerate(picked):
                images, labels = self._evaluation_batch(
                    self._inputs.of_batch(data.name, split, number),
                    *(batch, graph.image),
                )
                if len(under_way) == _num_under_way(images):
                    yield _results(under_way.popleft())
                under_way.append(
                    graph.begin_count(
                        flow,
                        number,
                        images,
                        labels,
                        tf.constant(mask[number]),
                        self._features.of_batch(data.name, split, number),
                        whole,
                    )
                )
            for futures in under_way:
                yield _results(futures)

    def _evaluation_batch(
        self,
        cache: feature_cache.BatchFeatures,
        batch: batches_lib.Batch,
        image: feature_cache.Image,
    ) -> batches_lib.Ready:
        """Returns the input of a batch; of validation it is kept for cycles.

        Args:
          cache: the inputs of this batch.
          batch: from `Batches.of`.
          image: what the input is.
        """
        pixels = cache.get((image, ()))
        if pixels is not None:
            _, labels, picked = batch
            return pixels, tf.gather(labels, picked)
        pixels, labels = batches_lib.evaluation_batch(*batch, *image)
        if cache.split == "validation":
            cache.put((image, ()), pixels)
        return pixels, labels

    def forget_task(self, task: str) -> None:
        """Frees the data of `task`."""
        super().forget_task(task)
        self._inputs.forget_task(task)
        self._features.forget_task(task)

    @contextlib.contextmanager
    def _flow(self) -> Iterator[task_graph.TaskGraph]:
        """Gives threads; what they compile is counted as compiling."""
        with (
            self._clock.compiling(self.layer_functions.compile_secs),
            task_graph.TaskGraph(self._num_threads) as flow,
        ):
            yield flow


def _num_under_way(images: tf.Tensor) -> int:
    """Returns how many steps may be under way, with their batches and stems.

    One where no batch may wait, see `batches.num_prefetched`.
    """
    batch_size, side, *_ = images.shape
    num_ahead = batches_lib.num_prefetched(batch_size, side)
    return max(min(num_ahead, _NUM_UNDER_WAY_MAX), 1)


def _losses(futures: list[task_graph.Future]) -> np.ndarray:
    return _array([future.result().loss for future in futures])


def _results(futures: list[task_graph.Future]) -> np.ndarray:
    return np.array([np.asarray(p.result()) for p in futures], np.float32)


def _array(scalars: list[tf.Tensor]) -> np.ndarray:
    return np.array([float(scalar) for scalar in scalars], np.float32)

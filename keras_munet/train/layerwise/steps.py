"""The steps of a generation on one CPU, layer by layer.

Invariant: what a step computes follows from its inputs alone; making these
ahead, and having a few steps under way at a time, changes when and not what.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_munet.core import specs
from keras_munet.data import preprocessing
from keras_munet.data import types
from keras_munet.train import batches as batches_lib
from keras_munet.train import child_job
from keras_munet.train import engine
from keras_munet.train import generation_structure
from keras_munet.train import layer_pool
from keras_munet.train import matmul_precision
from keras_munet.train import memory
from keras_munet.train import timing
from keras_munet.train.devices import cpu_threads
from keras_munet.train.layerwise import feature_cache
from keras_munet.train.layerwise import generation as generation_lib
from keras_munet.train.layerwise import task_graph

# Enough for a child that is done with a step to go on with the next.
_NUM_UNDER_WAY_MAX = 2
_NUM_GRAPHS_MAX = 8
_NUM_INPUT_BYTES_MAX = 64 * 2**20
_UnderWay = collections.deque[list[task_graph.Future]]


class LayerSteps(engine.Engine):
    """Feeds a few threads and counts what they take."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        budget: child_job.Budget,
        clock: timing.Clock,
        products: matmul_precision.MatmulPrecision,
    ):
        """Begins without any data or compiled function.

        Args:
          strategy: of one CPU.
          budget: how many examples steps take.
          clock: takes the seconds.
          products: which precision a training step multiplies in.
        """
        super().__init__(strategy, budget, clock)
        self._products = products
        self._batches = batches_lib.Batches()
        self._features = feature_cache.FeatureCache()
        # Of validation, which every cycle counts.
        self._inputs = feature_cache.FeatureCache(_NUM_INPUT_BYTES_MAX)
        self._num_threads = cpu_threads.num_operations()
        self._pool = layer_pool.LayerPool(strategy)
        # Least recently used structures are dropped: each holds its layers for
        # as long as it is kept.
        self._graphs: collections.OrderedDict[
            Any, generation_lib.LayerwiseGeneration
        ] = collections.OrderedDict()

    def passes(
        self,
        children: Sequence[child_job.ChildJob],
        image_size: int,
        num_bytes_max: int | None,
    ) -> memory.Passes:
        """Returns how children are divided; see `engine.Engine.passes`."""
        if num_bytes_max is None:
            return memory.Passes((tuple(range(len(children))),), 1)
        return memory.divide_into_passes(
            [memory.child_need(child, image_size) for child in children],
            self._budget.batch_size,
            num_bytes_max,
            # One for each thread is in a step at once.
            num_at_a_time=self._num_threads,
        )

    @contextlib.contextmanager
    def training(
        self,
        children: Sequence[child_job.ChildJob],
        data: types.TaskData,
        data_hparams: Mapping[str, Any],
        schedule: engine.Schedule,
        rates: np.ndarray,
        num_parts: int,
    ) -> Iterator[LayerTraining]:
        """Gives the training of one pass; see `engine.Engine.training`."""
        structure = generation_structure.structure_of(
            children,
            int(data_hparams["ds_image_size"]),
            preprocessing.antialias(data_hparams),
            self._budget.weights_of(data),
        )
        with self._prepared(data, data_hparams, schedule, rates) as inputs:
            graph = self._filled(children, structure, num_parts)
            yield LayerTraining(self, graph, children, data, schedule, inputs)

    def measure(
        self,
        child: child_job.ChildJob,
        data: types.TaskData,
        split: str | None,
        image_size: int,
        antialias: bool,
    ) -> float:
        """Returns how good a child is; see `engine.Engine.measure`."""
        structure = generation_structure.structure_of(
            [child], image_size, antialias
        )
        graph = self._filled([child], structure)
        if split is None or self.needs_logits(data, split):
            name = split or "validation"
            return float(self.qualities(graph, data, name)[0])
        return float(self._accuracies(graph, data, split)[0])

    def forget_task(self, task: str) -> None:
        """Frees the data of `task`."""
        self._batches.forget_task(task)
        self._inputs.forget_task(task)
        self._features.forget_task(task)

    def _filled(
        self,
        children: Sequence[child_job.ChildJob],
        structure: generation_structure.GenerationStructure,
        num_parts: int = 1,
    ) -> generation_lib.LayerwiseGeneration:
        """Returns the layers of a structure with the children's values."""
        key = structure.key, num_parts
        graph = self._graphs.pop(key, None)
        if graph is None:
            with self.clock.measure("compile"):
                graph = generation_lib.LayerwiseGeneration(
                    *(structure, self._pool, self._strategy),
                    *(self.layer_functions, self._products, num_parts),
                )
        self._graphs[key] = graph
        if len(self._graphs) > _NUM_GRAPHS_MAX:
            self._graphs.popitem(last=False)
            self._pool.keep_only(
                slot
                for cached_graph in self._graphs.values()
                for chain in cached_graph.slots
                for slot in chain
            )
        with self.clock.measure("fill"):
            for slots, child in zip(graph.slots, children, strict=True):
                for slot, part in zip(slots, child.components, strict=True):
                    slot.fill(part.load, part.shared_id)
        return graph

    @contextlib.contextmanager
    def _prepared(
        self,
        data: types.TaskData,
        data_hparams: Mapping[str, Any],
        schedule: engine.Schedule,
        rates: np.ndarray,
    ) -> Iterator[Iterator[tuple[Any, ...]]]:
        """Gives what the training steps take; some of it is made ahead."""
        augment, jitter = engine.augmentation(data, data_hparams)
        image_size = int(data_hparams["ds_image_size"])
        picked = self._batches.of(data, "train", schedule.indices)
        ready: Iterator[tuple[Any, ...]] = (
            (
                *batches_lib.training_batch(
                    *(*batch, tf.constant(seed), augment, image_size),
                    *(jitter, engine.mixes(data_hparams)),
                ),
                tf.constant(rate),
            )
            for batch, seed, rate in zip(
                picked, schedule.seeds, rates, strict=True
            )
        )
        num_ahead = batches_lib.num_prefetched(
            schedule.indices.shape[1], image_size
        )
        if not num_ahead:
            yield ready
            return
        with batches_lib.Prefetcher(ready, num_ahead) as ahead:
            yield iter(ahead)

    def train(
        self,
        graph: generation_lib.LayerwiseGeneration,
        inputs: Iterator[tuple[Any, ...]],
        num_steps: int,
    ) -> np.ndarray:
        """Trains step after step; returns the mean losses.

        The caller counts what this takes, but for its input.

        Args:
          graph: the generation's.
          inputs: of each step.
          num_steps: how many.

        Returns:
          `[children] float32`, nats.
        """
        total = np.zeros(graph.num_children, np.float32)
        under_way: _UnderWay = collections.deque()
        with self._flow() as flow:
            for number in range(num_steps):
                with self.clock.measure("input"):
                    args = next(inputs)
                before = under_way[-1] if under_way else []
                if len(under_way) == _num_under_way(args[0]):
                    total += _losses(under_way.popleft())
                under_way.append(graph.begin_step(flow, number, before, *args))
            for futures in under_way:
                total += _losses(futures)
        return total / num_steps

    def _accuracies(
        self,
        graph: generation_lib.LayerwiseGeneration,
        data: types.TaskData,
        split: str,
    ) -> np.ndarray:
        """Returns the accuracy of each child, each example counted once.

        Args:
          graph: the generation's.
          data: the task's data.
          split: see `engine.Engine.measure`.

        Returns:
          `[children] float64`; NaN where a child diverged.
        """
        with self.clock.measure("validate"):
            indices, mask = self.counted(data, split)
            counts = sum(self._count(graph, data, split, indices, mask))
        return np.asarray(counts, np.float64) / np.count_nonzero(mask)

    def qualities(
        self,
        graph: generation_lib.LayerwiseGeneration,
        data: types.TaskData,
        split: str = "validation",
    ) -> np.ndarray:
        """Returns the quality of each child on a split.

        Args:
          graph: the generation's.
          data: the task's data.
          split: see `engine.Engine.measure`.

        Returns:
          `[children] float64`; NaN where a child diverged.
        """
        if self.counts_accuracy(data):
            return self._accuracies(graph, data, split)
        with self.clock.measure("validate"):
            counted = self.counted(data, split)
            batches = self._count(graph, data, split, *counted, whole=True)
            rows = np.concatenate(list(batches), axis=1)
        return np.array(
            [
                self.quality(child, data)
                for child in rows[:, rows[0, :, -1] > 0]
            ],
            np.float64,
        )

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

    @contextlib.contextmanager
    def _flow(self) -> Iterator[task_graph.TaskGraph]:
        """Gives threads; what they compile is counted as compiling."""
        with (
            self.clock.compiling(self.layer_functions.compile_secs),
            task_graph.TaskGraph(self._num_threads) as flow,
        ):
            yield flow


class LayerTraining:
    """The training of one pass; see `engine.Training`."""

    def __init__(
        self,
        steps: LayerSteps,
        graph: generation_lib.LayerwiseGeneration,
        children: Sequence[child_job.ChildJob],
        data: types.TaskData,
        schedule: engine.Schedule,
        inputs: Iterator[tuple[Any, ...]],
    ):
        """Begins before the first step.

        Args:
          steps: trains and counts.
          graph: the layers, filled.
          children: of the pass.
          data: the task's data.
          schedule: of the generation.
          inputs: of each step.
        """
        self._steps = steps
        self._graph = graph
        self._children = children
        self._data = data
        self._schedule = schedule
        self._inputs = inputs

    def cycle(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Trains a cycle, then measures; see `engine.Training.cycle`."""
        del number
        with self._steps.clock.measure("train"):
            losses = self._steps.train(
                self._graph, self._inputs, self._schedule.num_steps
            )
            self._graph.contract()
        return losses, self._steps.qualities(self._graph, self._data)

    def snapshot(self, child: int) -> dict[str, specs.Component]:
        """Returns copies of what a child does not share, by name."""
        return {
            part.spec.name: slot.snapshot()
            for part, slot in zip(
                self._children[child].components,
                self._graph.slots[child],
                strict=True,
            )
            if part.shared_id is None
        }


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

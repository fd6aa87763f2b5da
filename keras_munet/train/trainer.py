"""Trains generations: cycles, validation, snapshots (section 2, "Training").

Invariant: what a child becomes depends on its job, the data, and the
generation's seeds, not on timing nor on what was trained before it.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import threading
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_munet import errors
from keras_munet.core import seeds as seeds_lib
from keras_munet.data import preprocessing
from keras_munet.data import records
from keras_munet.train import batches as batches_lib
from keras_munet.train import clock as clock_lib
from keras_munet.train import generation as generation_lib
from keras_munet.train import jobs as jobs_lib
from keras_munet.train import memory
from keras_munet.train import precision
from keras_munet.train import rewrites
from keras_munet.train import schedules
from keras_munet.train import shares as shares_lib
from keras_munet.train import slots as slots_lib
from keras_munet.train import snapshots
from keras_munet.train import strategy as strategy_lib
from keras_munet.train import structures
from keras_munet.train import workers as workers_lib

_NUM_GRAPHS_MAX = 8
# Keras builds and TensorFlow traces in one thread at a time (slices have one
# each); the first call of a step is the one that traces it.
_BUILDING = threading.RLock()


class Trainer:
    """Runs the generations of one process under one strategy."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        budget: jobs_lib.Budget,
        seed: int,
        compute_dtype: str = "float32",
        num_bytes_max: int | None = None,
        arrays: shares_lib.Arrays | None = None,
    ):
        """Prepares a trainer.

        Args:
          strategy: where steps run.
          budget: how long every child trains.
          seed: the experiment's root seed.
          compute_dtype: see `precision.products`.
          num_bytes_max: what a generation may take on each device; None for
            what `memory.free_bytes` says when it starts.
          arrays: of a slice, the data that all slices have; see
            `shares.Shares`.

        Raises:
          UsageError: the batch does not divide over the replicas.
        """
        num_replicas = strategy.num_replicas_in_sync
        if budget.batch_size % num_replicas:
            raise errors.UsageError(
                f"batch_size {budget.batch_size} does not divide over "
                f"{num_replicas} replicas; choose a multiple of it"
            )
        self._strategy = strategy
        self._budget = budget
        self._seed = seed
        self._num_bytes_max = num_bytes_max
        self._pool = slots_lib.SlotPool(strategy)
        self._device_type = strategy_lib.device_type(strategy)
        self._products = precision.products(compute_dtype, self._device_type)
        # Least recently used structures are dropped: every traced graph
        # holds memory for as long as it is kept.
        self._graphs: collections.OrderedDict[
            Any, generation_lib.GenerationGraph
        ] = collections.OrderedDict()
        self._batches = batches_lib.Batches()
        # One device that is the host's own memory picks its batches itself.
        self._shares: shares_lib.Shares | None = None
        is_slice = arrays is not None
        if is_slice or num_replicas > 1 or self._device_type == "TPU":
            self._shares = shares_lib.Shares(strategy, arrays)
        self.clock: clock_lib.Clock = collections.defaultdict(float)
        self.workers = workers_lib.of(strategy)
        self._stop: Callable[[], bool] = lambda: False

    def stop_when(self, stop: Callable[[], bool]) -> None:
        """Has training end with StoppedError, once `stop` says so.

        Args:
          stop: asked before each generation and after each cycle.
        """
        self._stop = stop

    def check_stop(self) -> None:
        """Ends the job on every worker if it was asked to stop on one.

        Raises:
          StoppedError: it was.
        """
        if self.workers.any(self._stop()):
            raise errors.StoppedError(
                "stopped as asked, with all finished generations saved; run "
                "the same command to continue"
            )

    def train(
        self,
        children: Sequence[jobs_lib.ChildJob],
        data: records.TaskData,
        data_hparams: Mapping[str, Any],
        event: tuple[str | int, ...],
        *,
        accept_ties: bool,
        on_cycle: Callable[[int, np.ndarray, np.ndarray], None] | None = None,
    ) -> list[jobs_lib.TrainedChild]:
        """Trains children together and returns what became of them.

        Children that do not fit in memory together are trained in several
        passes, a batch that does not fit in several parts.

        Args:
          children: at least one.
          data: the task's data.
          data_hparams: the `ds_*` hyperparameters that they share.
          event: names the generation; its seeds derive from it.
          accept_ties: whether an equal score makes a new snapshot.
          on_cycle: told (cycle, `[children]` scores, `[children]` losses) of
            each pass.

        Raises:
          UsageError: a child does not fit with one example at a time.
          StoppedError: `stop_when` said so.
        """
        self.check_stop()
        passes = self.passes(children, int(data_hparams["ds_image_size"]))
        results = []
        with rewrites.plain_graphs():
            for group in passes.groups:
                results += self._train(
                    [children[i] for i in group],
                    passes.num_parts,
                    data,
                    data_hparams,
                    event,
                    accept_ties,
                    on_cycle,
                )
        return results

    def passes(
        self, children: Sequence[jobs_lib.ChildJob], image_size: int
    ) -> memory.Passes:
        """Returns how children are divided so that each pass fits in memory.

        Raises:
          UsageError: a child does not fit with one example at a time.
        """
        limit = self.workers.least(
            self._num_bytes_max or memory.free_bytes(self._device_type)
        )
        if limit is None:
            return memory.Passes((tuple(range(len(children))),), 1)
        return memory.passes(
            [
                memory.need(child, image_size, self._device_type)
                for child in children
            ],
            self._budget.batch_size,
            int(limit),
            self._strategy.num_replicas_in_sync,
        )

    def _train(
        self,
        children: Sequence[jobs_lib.ChildJob],
        num_parts: int,
        data: records.TaskData,
        data_hparams: Mapping[str, Any],
        event: tuple[str | int, ...],
        accept_ties: bool,
        on_cycle: Callable[[int, np.ndarray, np.ndarray], None] | None,
    ) -> list[jobs_lib.TrainedChild]:
        image_size = int(data_hparams["ds_image_size"])
        graph = self._graph(children, image_size, num_parts)
        self._fill(graph, children)
        num_cycles = self._budget.num_cycles
        num_steps = self._budget.num_steps_per_cycle(len(data.train.labels))
        indices = self._train_indices(data, num_cycles * num_steps, event)
        seeds = self._rng("augment", *event).integers(
            0, 2**31 - 1, (num_cycles * num_steps, 2), dtype=np.int32
        )
        training = clock_lib.Calls(self.clock, "train")
        counting = clock_lib.Calls(self.clock, "validate")
        steps = self._train_steps(
            graph,
            data,
            data_hparams,
            indices,
            seeds,
            schedules.rates(children, num_cycles, num_steps),
            training,
        )
        best = snapshots.Snapshots(children, accept_ties)
        for cycle in range(num_cycles):
            with clock_lib.spent(self.clock, "train"):
                # A loop of calls, not a device loop: on a CPU the loop's own
                # optimisation costs more than all its steps
                # (docs/decisions.md).
                total = sum(itertools.islice(steps, num_steps))
                losses = total.numpy() / num_steps
                graph.contract()
            qualities = self._accuracies(graph, data, "validation", counting)
            scores = best.offer(graph, qualities, losses)
            if on_cycle is not None:
                on_cycle(cycle, scores, losses)
            self.check_stop()
        training.end()
        counting.end()
        return best.results()

    def _train_steps(
        self,
        graph: generation_lib.GenerationGraph,
        data: records.TaskData,
        data_hparams: Mapping[str, Any],
        indices: np.ndarray,
        seeds: np.ndarray,
        rates: np.ndarray,
        calls: clock_lib.Calls,
    ) -> Iterator[tf.Tensor]:
        """Trains step after step; yields the `[children] float32` losses."""
        hparams, jitter = preprocessing.augment_hparams(dict(data_hparams))
        augment = type(hparams)(*(tf.constant(value) for value in hparams))
        if self._shares is not None:
            inputs = self._shares.training(data, indices, seeds, rates)
            for step in range(len(indices)):
                with clock_lib.spent(self.clock, "input"):
                    shares = next(inputs)
                with contextlib.nullcontext() if step else _BUILDING:
                    losses = calls(graph.train_shares, *shares, augment, jitter)
                yield losses
            return
        picked = self._batches.of(data, "train", indices)
        for seed, rate in zip(seeds, rates, strict=True):
            with clock_lib.spent(self.clock, "input"):
                batch = graph.training_batch(
                    *next(picked), tf.constant(seed), augment, jitter
                )
            yield calls(graph.train_batch, *batch, tf.constant(rate))

    def evaluate(
        self,
        components: Sequence[jobs_lib.JobComponent],
        data: records.TaskData,
        split: str,
        image_size: int,
    ) -> float:
        """Returns the accuracy of one path, each example counted once.

        Args:
          components: the path's, all shared frozen.
          data: the task's data.
          split: `train` or `test`, used whole, or `validation`, of which as
            many examples are used as in training.
          image_size: side of the path's input, pixels.
        """
        child = jobs_lib.ChildJob(0, tuple(components), {})
        with rewrites.plain_graphs():
            graph = self._graph([child], image_size)
            self._fill(graph, [child])
            calls = clock_lib.Calls(self.clock, "validate")
            return float(self._accuracies(graph, data, split, calls)[0])

    def forget(self, task: str) -> None:
        """Frees the data of `task`."""
        self._batches.forget(task)
        if self._shares is not None:
            self._shares.forget(task)

    def _rng(self, *event: str | int) -> np.random.Generator:
        return seeds_lib.generator(self._seed, *event)

    def _graph(
        self,
        children: Sequence[jobs_lib.ChildJob],
        image_size: int,
        num_parts: int = 1,
    ) -> generation_lib.GenerationGraph:
        structure = structures.structure_of(children, image_size)
        key = structure.key, num_parts
        graph = self._graphs.pop(key, None)
        if graph is None:
            with clock_lib.spent(self.clock, "compile"), _BUILDING:
                graph = generation_lib.GenerationGraph(
                    structure,
                    self._pool,
                    self._strategy,
                    self._products,
                    num_parts,
                )
        self._graphs[key] = graph
        if len(self._graphs) > _NUM_GRAPHS_MAX:
            self._graphs.popitem(last=False)
            self._pool.keep_only(
                slot
                for kept in self._graphs.values()
                for chain in kept.slots
                for slot in chain
            )
        return graph

    def _fill(
        self,
        graph: generation_lib.GenerationGraph,
        children: Sequence[jobs_lib.ChildJob],
    ) -> None:
        with clock_lib.spent(self.clock, "fill"):
            for slots, child in zip(graph.slots, children, strict=True):
                for slot, part in zip(slots, child.components, strict=True):
                    slot.fill(part.load, part.shared_id)

    def _train_indices(
        self,
        data: records.TaskData,
        num_steps: int,
        event: tuple[str | int, ...],
    ) -> np.ndarray:
        """Returns `[steps, batch] int32`."""
        return batches_lib.shuffled(
            self._rng("order", *event),
            len(data.train.labels),
            num_steps,
            self._budget.batch_size,
        )

    def _accuracies(
        self,
        graph: generation_lib.GenerationGraph,
        data: records.TaskData,
        split: str,
        calls: clock_lib.Calls,
    ) -> np.ndarray:
        """Returns `[children] float64`; NaN where a child diverged."""
        with clock_lib.spent(self.clock, "validate"):
            indices, mask = self._counted(data, split)
            counts = sum(
                self._count_steps(graph, data, split, indices, mask, calls)
            ).numpy()
        return counts.astype(np.float64) / np.count_nonzero(mask)

    def _counted(
        self, data: records.TaskData, split: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns what an evaluation counts.

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
            num_examples,
            self._budget.batch_size,
            self._strategy.num_replicas_in_sync,
        )

    def _count_steps(
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
            for step in range(len(indices)):
                shares = next(inputs)
                with contextlib.nullcontext() if step else _BUILDING:
                    counts = calls(graph.count_shares, *shares)
                yield counts
            return
        picked = self._batches.of(data, split, indices)
        for weights in mask:
            batch = graph.evaluation_batch(*next(picked))
            yield calls(graph.count_batch, *batch, tf.constant(weights))

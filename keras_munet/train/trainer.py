"""Trains generations: cycles, validation, snapshots (section 2, "Training").

Invariant: what a child becomes depends on its job, the data, and the
generation's seeds, not on timing nor on what was trained before it.
"""

from __future__ import annotations

import collections
import contextlib
import time
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
from keras_munet.train import generation as generation_lib
from keras_munet.train import jobs as jobs_lib
from keras_munet.train import memory
from keras_munet.train import precision
from keras_munet.train import schedules
from keras_munet.train import slots as slots_lib
from keras_munet.train import snapshots

_NUM_GRAPHS_MAX = 8
# Validation batches have a multiple of this part of a batch, so that tasks of
# different sizes share traced layers.
_BATCH_PARTS = 8

Clock = dict[str, float]


class Trainer:
    """Runs the generations of one process under one strategy."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        budget: jobs_lib.Budget,
        seed: int,
        compute_dtype: str = "float32",
        num_bytes_max: int | None = None,
    ):
        """Prepares a trainer.

        Args:
          strategy: where steps run.
          budget: how long every child trains.
          seed: the experiment's root seed.
          compute_dtype: see `precision.products`.
          num_bytes_max: what a generation may take on each device; None for
            what `memory.free_bytes` says when it starts.

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
        self._device_type = _device_type(strategy)
        self._products = precision.products(compute_dtype, self._device_type)
        # Least recently used structures are dropped: every traced graph
        # holds memory for as long as it is kept.
        self._graphs: collections.OrderedDict[
            Any, generation_lib.GenerationGraph
        ] = collections.OrderedDict()
        self._batches = batches_lib.Batches()
        self.clock: Clock = collections.defaultdict(float)

    @contextlib.contextmanager
    def _plain_graphs(self) -> Iterator[None]:
        """Has TensorFlow run graphs as they were traced.

        Its rewrites cost three times what they are applied to: a step is a
        graph of calls to layers that are written as they should run. The
        option is the process's own, so it is put back.
        """
        key = "disable_meta_optimizer"
        before = tf.config.optimizer.get_experimental_options().get(key, False)
        tf.config.optimizer.set_experimental_options({key: True})
        try:
            yield
        finally:
            tf.config.optimizer.set_experimental_options({key: before})

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
        """
        passes = self.passes(children, int(data_hparams["ds_image_size"]))
        results = []
        with self._plain_graphs():
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
        limit = self._num_bytes_max or memory.free_bytes(self._device_type)
        if limit is None:
            return memory.Passes((tuple(range(len(children))),), 1)
        return memory.passes(
            [memory.need(child, image_size) for child in children],
            self._budget.batch_size,
            limit,
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
        rates = _rates(children, num_cycles, num_steps)
        augment, jitter = preprocessing.augment_hparams(dict(data_hparams))
        augment = type(augment)(*(tf.constant(value) for value in augment))
        batches = self._batches.of(data, "train", indices)
        best = snapshots.Snapshots(children, accept_ties)
        for cycle in range(num_cycles):
            started = time.perf_counter()
            # A loop of calls, not a device loop: on a CPU the loop's own
            # optimisation costs more than all its steps (docs/decisions.md).
            total = sum(
                graph.train_step(
                    *next(batches),
                    tf.constant(seeds[step]),
                    augment,
                    jitter,
                    tf.constant(rates[step]),
                )
                for step in range(cycle * num_steps, (cycle + 1) * num_steps)
            )
            losses = total.numpy() / num_steps
            # The first call of a structure traces and optimises its graph.
            kind = "train" if cycle else "first_cycle"
            self.clock[f"{kind}_secs"] += time.perf_counter() - started
            qualities = self._accuracies(graph, data, "validation")
            scores = best.offer(graph, qualities, losses)
            if on_cycle is not None:
                on_cycle(cycle, scores, losses)
        return best.results()

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
        with self._plain_graphs():
            graph = self._graph([child], image_size)
            self._fill(graph, [child])
            return float(self._accuracies(graph, data, split)[0])

    def forget(self, task: str) -> None:
        """Frees the data of `task`."""
        self._batches.forget(task)

    def _rng(self, *event: str | int) -> np.random.Generator:
        return seeds_lib.generator(self._seed, *event)

    def _graph(
        self,
        children: Sequence[jobs_lib.ChildJob],
        image_size: int,
        num_parts: int = 1,
    ) -> generation_lib.GenerationGraph:
        started = time.perf_counter()
        structure = generation_lib.structure_of(children, image_size)
        key = structure.key, num_parts
        graph = self._graphs.pop(key, None)
        if graph is None:
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
        self.clock["build_secs"] += time.perf_counter() - started
        return graph

    def _fill(
        self,
        graph: generation_lib.GenerationGraph,
        children: Sequence[jobs_lib.ChildJob],
    ) -> None:
        started = time.perf_counter()
        for slots, child in zip(graph.slots, children, strict=True):
            for slot, part in zip(slots, child.components, strict=True):
                slot.fill(part.load, part.shared_id)
        self.clock["fill_secs"] += time.perf_counter() - started

    def _train_indices(
        self,
        data: records.TaskData,
        num_steps: int,
        event: tuple[str | int, ...],
    ) -> np.ndarray:
        """Returns `[steps, batch] int32`: epoch after epoch, reshuffled."""
        rng = self._rng("order", *event)
        num_examples = len(data.train.labels)
        num_wanted = num_steps * self._budget.batch_size
        num_epochs = -(-num_wanted // num_examples)
        order = np.concatenate(
            [rng.permutation(num_examples) for _ in range(num_epochs)]
        )
        return order[:num_wanted].reshape(num_steps, -1).astype(np.int32)

    def _accuracies(
        self,
        graph: generation_lib.GenerationGraph,
        data: records.TaskData,
        split: str,
    ) -> np.ndarray:
        """Returns `[children] float64`; NaN where a child diverged."""
        started = time.perf_counter()
        num_examples = len(getattr(data, split).labels)
        if split == "validation":
            num_examples = min(
                num_examples, self._budget.num_validation_examples_max
            )
        num_steps = -(-num_examples // self._budget.batch_size)
        # Batches of equal size: the last one would be mostly padding.
        part = max(
            self._strategy.num_replicas_in_sync,
            self._budget.batch_size // _BATCH_PARTS,
        )
        batch_size = -(-num_examples // (num_steps * part)) * part
        order = np.arange(num_steps * batch_size)
        mask = (order < num_examples).astype(np.float32)
        indices = np.minimum(order, num_examples - 1).astype(np.int32)
        shape = num_steps, batch_size
        counts = sum(
            graph.count_step(*batch, tf.constant(weights))
            for batch, weights in zip(
                self._batches.of(data, split, indices.reshape(shape)),
                mask.reshape(shape),
                strict=True,
            )
        ).numpy()
        self.clock["validate_secs"] += time.perf_counter() - started
        return counts.astype(np.float64) / num_examples


def _device_type(strategy: tf.distribute.Strategy) -> str:
    """Returns the kind of the strategy's first device: CPU, GPU or TPU."""
    device = strategy.extended.worker_devices[0]
    return tf.DeviceSpec.from_string(device).device_type


def _rates(
    children: Sequence[jobs_lib.ChildJob], num_cycles: int, num_steps: int
) -> np.ndarray:
    """Returns `[steps, children, 3] float32` for `optimizer.Rates`."""
    columns = []
    for child in children:
        hparams = child.hparams
        rates = schedules.learning_rates(
            hparams["opt_lr_schedule"],
            hparams["opt_lr"],
            hparams["opt_lr_warmup_ratio"],
            num_cycles,
            num_steps,
        )
        momentum = np.full_like(rates, hparams["opt_momentum"])
        nesterov = np.full_like(rates, float(hparams["opt_nesterov"]))
        columns.append(np.stack([rates, momentum, nesterov], axis=-1))
    return np.stack(columns, axis=1)

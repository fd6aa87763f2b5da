"""Trains generations: cycles, validation, snapshots (section 2, "Training").

Invariant: what a child becomes depends on its job, the data, and the
generation's seeds, not on timing nor on what was trained before it.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_munet import errors
from keras_munet.core import seeds as seeds_lib
from keras_munet.data import preprocessing
from keras_munet.data import types
from keras_munet.train import batches as batches_lib
from keras_munet.train import child_job
from keras_munet.train import closed_form
from keras_munet.train import frozen_features
from keras_munet.train import generation_base
from keras_munet.train import generation_structure
from keras_munet.train import grappler
from keras_munet.train import layer_pool
from keras_munet.train import matmul_precision
from keras_munet.train import memory
from keras_munet.train import schedules
from keras_munet.train import snapshots
from keras_munet.train import steps as steps_lib
from keras_munet.train import timing
from keras_munet.train.devices import replica_inputs
from keras_munet.train.devices import strategy as strategy_lib
from keras_munet.train.devices import workers as workers_lib
from keras_munet.train.graph import steps as graph_steps
from keras_munet.train.layerwise import steps

QUALITY = "quality"
_NUM_GRAPHS_MAX = 8


class Trainer:
    """Runs the generations of one process under one strategy."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        budget: child_job.Budget,
        seed: int,
        compute_dtype: str = "float32",
        num_bytes_max: int | None = None,
        arrays: replica_inputs.Arrays | None = None,
    ):
        """Prepares a trainer.

        Args:
          strategy: where steps run.
          budget: how long every child trains.
          seed: the experiment's root seed.
          compute_dtype: see `matmul_precision.choose_precision`.
          num_bytes_max: what a generation may take on each device; None for
            what `memory.free_bytes` says when it starts.
          arrays: of a slice, the data that all slices have; see
            `replica_inputs.ReplicaInputs`.

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
        self._pool = layer_pool.LayerPool(strategy)
        self._device_type = strategy_lib.device_type(strategy)
        self._products = matmul_precision.choose_precision(
            compute_dtype, self._device_type
        )
        # Least recently used structures are dropped: each holds its layers, and
        # a traced graph, for as long as it is kept.
        self._graphs: collections.OrderedDict[
            Any, generation_base.GenerationBase
        ] = collections.OrderedDict()
        self.clock = timing.Clock()
        layerwise = arrays is None and strategy_lib.is_one_cpu(strategy)
        self._steps: steps_lib.StepLoop[Any] = (
            steps.LayerSteps(strategy, budget, self.clock)
            if layerwise
            else graph_steps.GraphSteps(strategy, budget, self.clock, arrays)
        )
        self.workers = workers_lib.strategy_workers(strategy)
        self._stop: Callable[[], bool] = lambda: False

    def stop_when(self, stop: Callable[[], bool]) -> None:
        """Has training end with StoppedError, once `stop` says so.

        Args:
          stop: called before each generation and after each cycle.
        """
        self._stop = stop

    def check_stop(self) -> None:
        """Ends the job on every worker if one got a stop request.

        Raises:
          StoppedError: it was.
        """
        if self.workers.all_reduce_any(self._stop()):
            raise errors.StoppedError(
                "stopped as asked, with all finished generations saved; run "
                "the same command to continue"
            )

    def train(
        self,
        children: Sequence[child_job.ChildJob],
        data: types.TaskData,
        data_hparams: Mapping[str, Any],
        event: tuple[str | int, ...],
        *,
        accept_ties: bool,
        on_cycle: Callable[[int, np.ndarray, np.ndarray], None] | None = None,
    ) -> list[child_job.TrainedChild]:
        """Trains children together and returns what became of them.

        Children that do not fit in memory together are trained in several
        passes, a batch that does not fit in several parts.

        Args:
          children: at least one.
          data: the task's data.
          data_hparams: the `ds_*` hyperparameters that they share.
          event: names the generation; its seeds derive from it.
          accept_ties: whether an equal score makes a new snapshot.
          on_cycle: gets (cycle, `[children]` scores, `[children]` losses) of
            each pass.

        Raises:
          UsageError: a child does not fit with one example at a time.
          StoppedError: `stop_when` said so.
        """
        self.check_stop()
        passes = self.passes(children, int(data_hparams["ds_image_size"]))
        results = []
        with grappler.disable_grappler():
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
        self, children: Sequence[child_job.ChildJob], image_size: int
    ) -> memory.Passes:
        """Returns how children are divided so that each pass fits in memory.

        Raises:
          UsageError: a child does not fit with one example at a time.
        """
        limit = self.workers.all_reduce_min(
            self._num_bytes_max or memory.free_bytes(self._device_type)
        )
        if limit is None:
            return memory.Passes((tuple(range(len(children))),), 1)
        return memory.divide_into_passes(
            [
                memory.child_need(child, image_size, self._device_type)
                for child in children
            ],
            self._budget.batch_size,
            int(limit),
            self._strategy.num_replicas_in_sync,
            self._steps.num_at_a_time,
        )

    def _train(
        self,
        children: Sequence[child_job.ChildJob],
        num_parts: int,
        data: types.TaskData,
        data_hparams: Mapping[str, Any],
        event: tuple[str | int, ...],
        accept_ties: bool,
        on_cycle: Callable[[int, np.ndarray, np.ndarray], None] | None,
    ) -> list[child_job.TrainedChild]:
        image_size = int(data_hparams["ds_image_size"])
        antialias = preprocessing.antialias(data_hparams)
        num_cycles = self._budget.num_cycles
        num_steps = self._budget.num_steps_per_cycle(len(data.train.labels))
        indices = self._train_indices(data, num_cycles * num_steps, event)
        seeds = self._rng("augment", *event).integers(
            0, 2**31 - 1, (num_cycles * num_steps, 2), dtype=np.int32
        )
        rates = schedules.rate_table(children, num_cycles, num_steps)
        with self._steps.inputs(
            data, data_hparams, indices, seeds, rates
        ) as inputs:
            graph = self._graph(
                children,
                image_size,
                antialias,
                num_parts,
                self._budget.weights_of(data),
            )
            self._fill(graph, children)
            best = snapshots.Snapshots(children, accept_ties)
            for cycle in range(num_cycles):
                with self.clock.measure("train"):
                    losses = self._steps.train(graph, inputs, num_steps)
                    graph.contract()
                qualities = self._steps.qualities(graph, data)
                scores = best.offer(graph, qualities, losses)
                if on_cycle is not None:
                    on_cycle(cycle, scores, losses)
                self.check_stop()
        return best.results()

    def evaluate(
        self,
        components: Sequence[child_job.JobComponent],
        data: types.TaskData,
        split: str,
        image_size: int,
        antialias: bool = False,
    ) -> float:
        """Returns the accuracy of one path, each example counted once.

        Args:
          components: the path's, all shared frozen.
          data: the task's data.
          split: `train` or `test`, used whole, or `validation`, of which as
            many examples are used as in training; `QUALITY` for the quality
            on validation data that decides in training.
          image_size: side of the path's input, pixels.
          antialias: see `preprocessing.evaluation_images`.
        """
        child = child_job.ChildJob(0, tuple(components), {})
        with grappler.disable_grappler():
            graph = self._graph([child], image_size, antialias)
            self._fill(graph, [child])
            if split == QUALITY:
                return float(self._steps.qualities(graph, data)[0])
            return float(self._steps.accuracies(graph, data, split)[0])

    def solve(
        self,
        paths: Sequence[frozen_features.FrozenPath],
        data: types.TaskData,
        *,
        logistic: bool = False,
    ) -> list[closed_form.LinearHead]:
        """Returns for each path the best linear head on its frozen features.

        It is fitted to all training examples, or to a sample of
        `closed_form.NUM_EXAMPLES_MAX`, and chosen by as many validation
        examples as children are. This process alone computes it, on its first
        device, or on the host of a TPU.

        Args:
          paths: whose components are all published.
          data: of the task to solve.
          logistic: see `closed_form.solve_head`.

        Raises:
          UsageError: a head is no linear layer.
        """
        order = self._rng("solve", data.name).permutation(len(data.train))
        _, mask = self._steps.counted(data, "validation")
        indices = {
            "train": np.sort(order[: closed_form.NUM_EXAMPLES_MAX]),
            "validation": np.arange(np.count_nonzero(mask)),
        }
        counts = np.bincount(data.train.labels, minlength=data.num_classes)
        with (
            self.clock.measure("solve"),
            grappler.disable_grappler(),
            tf.device(self._own_device()),
        ):
            features = (
                frozen_features.read_features(
                    paths,
                    getattr(data, split),
                    picked,
                    self._steps.layer_functions,
                )
                for split, picked in indices.items()
            )
            return [
                closed_form.solve_head(
                    train,
                    validation,
                    counts,
                    logistic=logistic,
                    quality=self._budget.quality,
                    class_weights=self._budget.weights_of(data),
                )
                for train, validation in zip(*features, strict=True)
            ]

    def logits(
        self,
        path: frozen_features.FrozenPath,
        data: types.TaskData,
        split: str,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns `[n, classes] float32` logits and `[n]` labels of a path.

        This process alone computes them, as for `solve`.

        Args:
          path: whose components are all published.
          data: the task's data.
          split: see `evaluate`.
        """
        _, mask = self._steps.counted(data, split)
        indices = np.arange(np.count_nonzero(mask))
        examples = getattr(data, split)
        with (
            self.clock.measure("validate"),
            grappler.disable_grappler(),
            tf.device(self._own_device()),
        ):
            logits = frozen_features.path_logits(
                path, examples, indices, self._steps.layer_functions
            )
        return logits, np.asarray(examples.labels)[indices]

    def forget_task(self, task: str) -> None:
        """Frees the data of `task`."""
        self._steps.forget_task(task)

    def _own_device(self) -> str:
        """Returns where this process alone computes."""
        if self._device_type == "TPU":
            return "/cpu:0"
        return self._strategy.extended.worker_devices[0]

    def _rng(self, *event: str | int) -> np.random.Generator:
        return seeds_lib.generator(self._seed, *event)

    def _graph(
        self,
        children: Sequence[child_job.ChildJob],
        image_size: int,
        antialias: bool,
        num_parts: int = 1,
        class_weights: tuple[float, ...] = (),
    ) -> generation_base.GenerationBase:
        structure = generation_structure.structure_of(
            children, image_size, antialias, class_weights
        )
        key = structure.key, num_parts
        graph = self._graphs.pop(key, None)
        if graph is None:
            with self.clock.measure("compile"):
                graph = self._steps.generation(
                    structure, self._pool, self._products, num_parts
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
        return graph

    def _fill(
        self,
        graph: generation_base.GenerationBase,
        children: Sequence[child_job.ChildJob],
    ) -> None:
        with self.clock.measure("fill"):
            for slots, child in zip(graph.slots, children, strict=True):
                for slot, part in zip(slots, child.components, strict=True):
                    slot.fill(part.load, part.shared_id)

    def _train_indices(
        self,
        data: types.TaskData,
        num_steps: int,
        event: tuple[str | int, ...],
    ) -> np.ndarray:
        """Returns `[steps, batch] int32`."""
        return batches_lib.shuffled_indices(
            self._rng("order", *event),
            len(data.train.labels),
            num_steps,
            self._budget.batch_size,
        )

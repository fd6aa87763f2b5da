"""Trains generations: cycles, validation, snapshots (section 2, "Training").

Invariant: what a child becomes depends on its job, the data, and the
generation's seeds, not on timing nor on what was trained before it.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_munet import errors
from keras_munet.core import devices as devices_lib
from keras_munet.core import seeds as seeds_lib
from keras_munet.data import types
from keras_munet.train import batches as batches_lib
from keras_munet.train import child_job
from keras_munet.train import closed_form
from keras_munet.train import engine as engine_lib
from keras_munet.train import frozen_features
from keras_munet.train import grappler
from keras_munet.train import matmul_precision
from keras_munet.train import memory
from keras_munet.train import schedules
from keras_munet.train import snapshots
from keras_munet.train import timing
from keras_munet.train.devices import strategy as strategy_lib
from keras_munet.train.devices import workers as workers_lib
from keras_munet.train.distributed import exchange
from keras_munet.train.layerwise import steps as layerwise_steps
from keras_munet.train.program import engine as program_engine

QUALITY = "quality"


class Trainer:
    """Runs the generations of one process.

    Attributes:
      clock: takes the seconds.
      workers: the processes that train a generation together.
      engine_name: what computes: one of `devices.ENGINES` but `auto`.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        budget: child_job.Budget,
        seed: int,
        compute_dtype: str = "float32",
        num_bytes_max: int | None = None,
        engine_name: str = "auto",
        largest: Sequence[child_job.JobComponent] = (),
        children_per_device: int = 1,
    ):
        """Prepares a trainer.

        Args:
          strategy: where steps run.
          budget: how long every child trains.
          seed: the experiment's root seed.
          compute_dtype: see `matmul_precision.choose_precision`.
          num_bytes_max: what a generation may take on each device; None for
            what `memory.free_bytes` says when it starts.
          engine_name: `layerwise`, `program`, or `auto`: `layerwise` on one
            CPU, else `program`.
          largest: the layers of the largest path that children may have, so
            that a program is compiled for all of them at once.
          children_per_device: how many children a device trains at one time,
            by the program.

        Raises:
          UsageError: the engine does not run on these devices.
        """
        self.workers = workers_lib.strategy_workers(strategy)
        strategy = strategy_lib.own_strategy(strategy)
        self._strategy = strategy
        self._budget = budget
        self._seed = seed
        self._num_bytes_max = num_bytes_max
        self._device_type = strategy_lib.device_type(strategy)
        self.clock = timing.Clock()
        products = matmul_precision.choose_precision(
            compute_dtype, self._device_type
        )
        self.engine_name = _checked_engine(
            engine_name, strategy, children_per_device
        )
        shared = strategy, budget, self.clock, products
        self._engine: engine_lib.Engine = (
            layerwise_steps.LayerSteps(*shared)
            if self.engine_name == devices_lib.LAYERWISE
            else program_engine.ProgramEngine(
                *shared, largest, children_per_device
            )
        )
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
        """Trains children and returns what became of them.

        Children that do not fit in memory together are trained in several
        passes. Several workers train a part of the children each.

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
        mine = self.workers.share(len(children))
        passes = self.passes(
            [children[i] for i in mine], int(data_hparams["ds_image_size"])
        )
        schedule = self.schedule(data, event)
        trained: dict[int, child_job.TrainedChild] = {}
        with grappler.disable_grappler():
            for group in passes.groups:
                numbers = [mine[i] for i in group]
                results = self._train(
                    [children[i] for i in numbers],
                    passes.num_parts,
                    data,
                    data_hparams,
                    schedule,
                    accept_ties,
                    on_cycle,
                )
                trained.update(zip(numbers, results, strict=True))
        if self.workers.num > 1:
            # Each took part in as many checks for a stop as the others.
            num_passes = len(passes.groups)
            most = max(self.workers.gather(num_passes))
            for _ in range((most - num_passes) * self._budget.num_cycles):
                self.check_stop()
            trained = exchange.of_all_workers(self.workers, children, trained)
        return [trained[i] for i in range(len(children))]

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
        if not children:
            return memory.Passes((), 1)
        return self._engine.passes(
            children, image_size, None if limit is None else int(limit)
        )

    def schedule(
        self, data: types.TaskData, event: tuple[str | int, ...]
    ) -> engine_lib.Schedule:
        """Returns the examples and seeds of a generation's steps."""
        num_steps = self._budget.num_steps_per_cycle(len(data.train.labels))
        total = self._budget.num_cycles * num_steps
        indices = batches_lib.shuffled_indices(
            self._rng("order", *event),
            len(data.train.labels),
            total,
            self._budget.batch_size,
        )
        seeds = self._rng("augment", *event).integers(
            0, 2**31 - 1, (total, 2), dtype=np.int32
        )
        return engine_lib.Schedule(indices, seeds, num_steps)

    def _train(
        self,
        children: Sequence[child_job.ChildJob],
        num_parts: int,
        data: types.TaskData,
        data_hparams: Mapping[str, Any],
        schedule: engine_lib.Schedule,
        accept_ties: bool,
        on_cycle: Callable[[int, np.ndarray, np.ndarray], None] | None,
    ) -> list[child_job.TrainedChild]:
        num_cycles = self._budget.num_cycles
        rates = schedules.rate_table(children, num_cycles, schedule.num_steps)
        with self._engine.training(
            children, data, data_hparams, schedule, rates, num_parts
        ) as training:
            best = snapshots.Snapshots(children, accept_ties)
            for cycle in range(num_cycles):
                losses, qualities = training.cycle(cycle)
                scores = best.offer(training.snapshot, qualities, losses)
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

        Where an image has any number of labels, the quality that decides
        stands for it.

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
            return self._engine.measure(
                *(child, data, None if split == QUALITY else split),
                *(image_size, antialias),
            )

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
        num_counted = self._engine.num_counted(data, "validation")
        indices = {
            "train": np.sort(order[: closed_form.NUM_EXAMPLES_MAX]),
            "validation": np.arange(num_counted),
        }
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
                    self._engine.layer_functions,
                )
                for split, picked in indices.items()
            )
            return [
                closed_form.solve_head(
                    train,
                    validation,
                    data.class_counts,
                    logistic=logistic,
                    quality=self._budget.quality_of(data),
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
        """Returns `[n, classes] float32` logits and the labels of a path.

        This process alone computes them, as for `solve`.

        Args:
          path: whose components are all published.
          data: the task's data.
          split: see `evaluate`.
        """
        indices = np.arange(self._engine.num_counted(data, split))
        examples = getattr(data, split)
        with (
            self.clock.measure("validate"),
            grappler.disable_grappler(),
            tf.device(self._own_device()),
        ):
            logits = frozen_features.path_logits(
                path, examples, indices, self._engine.layer_functions
            )
        return logits, np.asarray(examples.labels)[indices]

    def forget_task(self, task: str) -> None:
        """Frees the data of `task`."""
        self._engine.forget_task(task)

    def _own_device(self) -> str:
        """Returns where this process alone computes."""
        if self._device_type == "TPU":
            return "/cpu:0"
        return self._strategy.extended.worker_devices[0]

    def _rng(self, *event: str | int) -> np.random.Generator:
        return seeds_lib.generator(self._seed, *event)


def _checked_engine(
    name: str, strategy: tf.distribute.Strategy, children_per_device: int
) -> str:
    """Returns which engine computes under a strategy.

    Raises:
      UsageError: it does not run there.
    """
    one_cpu = strategy_lib.is_one_cpu(strategy)
    if name == devices_lib.LAYERWISE and not one_cpu:
        raise errors.UsageError(
            "engine 'layerwise' runs on one CPU, and the devices are "
            f"{', '.join(strategy.extended.worker_devices)}; use engine "
            "'program' or 'auto'"
        )
    if name == "auto":
        name = devices_lib.LAYERWISE if one_cpu else devices_lib.PROGRAM
    if name == devices_lib.LAYERWISE and children_per_device > 1:
        raise errors.UsageError(
            f"children_per_device is {children_per_device}, and engine "
            "'layerwise' trains a generation's children together on its "
            "threads; use 1, or engine 'program'"
        )
    return name

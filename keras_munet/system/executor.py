"""Trains generations on several processes: one searches, all train.

Invariant: the chief alone asks the search, holds the task's lease and writes
to the store. What the others do follows from its orders, so they do the same
steps in the same order; they read what it has published and write nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_munet import errors
from keras_munet.core import architecture
from keras_munet.core import devices as devices_lib
from keras_munet.core import names
from keras_munet.core import seeds as seeds_lib
from keras_munet.core import settings as settings_lib
from keras_munet.core import specs
from keras_munet.core import target_types
from keras_munet.data import preprocessing
from keras_munet.data import types
from keras_munet.data.tfds import catalogue
from keras_munet.models.vit import keras_state
from keras_munet.search import cloning
from keras_munet.search import hparam_ranges
from keras_munet.search import plan as plan_lib
from keras_munet.store import system_dir
from keras_munet.train import child_job
from keras_munet.train import closed_form
from keras_munet.train import frozen_features
from keras_munet.train import snapshots
from keras_munet.train import trainer as trainer_lib
from keras_munet.train.devices import cluster
from keras_munet.train.devices import strategy as strategy_lib
from keras_munet.train.devices import workers as workers_lib
from keras_munet.train.distributed import coordinator

_TRAIN = "train"
_EVALUATE = "evaluate"
_END = "end"

_OnCycle = Callable[[int, np.ndarray, np.ndarray], None]


@keras_state.default_keras_state()
def make_executor(
    directory: system_dir.SystemDir,
    family: architecture.Family,
    settings: settings_lib.Settings,
    strategy: str | devices_lib.Devices,
) -> Executor:
    """Returns what trains a system's generations on the requested devices.

    Args:
      directory: of the system.
      family: what paths look like.
      settings: the experiment.
      strategy: the devices, or the name of a strategy.

    Raises:
      UsageError: the devices cannot be had, or do not fit the batch size.
    """
    config = devices_lib.Devices.of(strategy)
    budget = child_job.Budget.from_settings(settings)
    shared = budget, settings.seed, settings.compute_dtype
    largest = _largest_child(directory, family, settings).components
    trainer: trainer_lib.Trainer
    if config.strategy == "coordinator":
        trainer = coordinator.CoordinatorTrainer(
            cluster.parse_workers(config.workers), *shared, largest
        )
    else:
        trainer = trainer_lib.Trainer(
            strategy_lib.make_strategy(config),
            *shared,
            engine_name=config.engine,
            largest=largest,
            children_per_device=config.children_per_device,
        )
    return Executor(trainer, directory, family, settings)


def _largest_child(
    directory: system_dir.SystemDir,
    family: architecture.Family,
    settings: settings_lib.Settings,
) -> child_job.ChildJob:
    """Returns the child that has all that any child of the job may have."""
    hparams = {**settings.hparams, **directory.root.hparams}
    ranges = hparam_ranges.ranges_in_force(settings, int(hparams["num_layers"]))
    widest = max(ranges.get("adapter_dim", (hparams["adapter_dim"],)))
    # Of other tasks the number of classes is known once they are loaded.
    published = [
        catalogue.find(names.split_private(task)[0])
        for task in settings.task_names
    ]
    return child_job.largest_child(
        settings,
        family,
        {**hparams, "adapter_dim": widest},
        max((task.num_classes for task in published if task), default=1),
    )


class Executor:
    """Carries orders out, its own or the chief's.

    Attributes:
      trainer: of this process.
    """

    def __init__(
        self,
        trainer: trainer_lib.Trainer,
        directory: system_dir.SystemDir,
        family: architecture.Family,
        settings: settings_lib.Settings,
    ):
        """Takes what every order needs.

        Args:
          trainer: of this process.
          directory: of the system; all workers see the same files.
          family: what paths look like.
          settings: the experiment.
        """
        self.trainer = trainer
        self._directory = directory
        self._family = family
        self._settings = settings
        # Of one task, by the path below the head.
        self._heads_task = ""
        self._heads: dict[str, closed_form.LinearHead] = {}
        # Of the task that was trained last: factor -> averaged train split.
        self._averaged: tuple[str, dict[int, types.Split]] = "", {}

    @property
    def is_alone(self) -> bool:
        """Returns whether no other process takes part in a generation."""
        return self.trainer.workers.num == 1 and not isinstance(
            self.trainer, coordinator.CoordinatorTrainer
        )

    @keras_state.default_keras_state()
    def train(
        self,
        plan: plan_lib.GenerationPlan,
        data: types.TaskData,
        on_cycle: _OnCycle | None = None,
    ) -> list[child_job.TrainedChild]:
        """Trains a generation, on all workers.

        Args:
          plan: the search's request.
          data: the task's data.
          on_cycle: as of `trainer.Trainer.train`.

        Raises:
          UsageError: a child does not fit with one example at a time.
          StoppedError: the job got a stop request.
        """
        order = _training(plan)
        trained = []
        if order["children"]:
            self._announce(order)
            trained = self._train(order, data, on_cycle)
        solved = [
            self._solve(child, data, accept_ties=plan.accept_ties)
            for child in plan.children
            if child.is_solved
        ]
        return trained + solved

    @keras_state.default_keras_state()
    def heads(
        self, paths: Sequence[specs.PathRecord], data: types.TaskData
    ) -> list[closed_form.LinearHead]:
        """Returns for each path a solved head on its features; on the chief.

        Heads of paths that did not change are not solved again.

        Args:
          paths: published ones, or the root.
          data: of the task that the heads are for.
        """
        if self._heads_task != data.name:
            self._heads_task, self._heads = data.name, {}
        new_paths = [path for path in paths if path.id not in self._heads]
        if new_paths:
            heads = self.trainer.solve(
                [self._frozen(path) for path in new_paths],
                data,
                logistic=self._settings.search.policy == "linear_probe",
            )
            for path, head in zip(new_paths, heads, strict=True):
                self._heads[path.id] = head
        return [self._heads[path.id] for path in paths]

    def forget(self, task: str) -> None:
        """Frees the data of `task` and what was solved on them."""
        self.trainer.forget_task(task)
        self._heads_task, self._heads = "", {}

    def _frozen(self, path: specs.PathRecord) -> frozen_features.FrozenPath:
        return frozen_features.FrozenPath(
            tuple(map(self._shared, path.components)),
            int(path.hparams["ds_image_size"]),
            preprocessing.antialias(path.hparams),
        )

    def _solve(
        self,
        child: plan_lib.ChildPlan,
        data: types.TaskData,
        *,
        accept_ties: bool,
    ) -> child_job.TrainedChild:
        """Solves a child's head; all workers measure it as any other."""
        *below, head = child.components
        (solved,) = self.heads([child.parent], data)
        refs = [part.known_source() for part in below]
        order = _evaluation(refs, child.hparams, data, trainer_lib.QUALITY)
        order["head"] = {
            "spec": head.spec.to_json(),
            "kernel": solved.kernel.tolist(),
            "bias": solved.bias.tolist(),
        }
        self._announce(order)
        quality = self._evaluate(order, data)
        score = quality * child.size_factor
        improved = snapshots.is_better(score, child.score_to_beat, accept_ties)
        return child_job.TrainedChild(
            index=child.index,
            scores=(score,),
            losses=(float("nan"),),
            quality=quality if improved else None,
            components={head.spec.name: _head(order["head"])},
        )

    @keras_state.default_keras_state()
    def accuracy(
        self, path: specs.PathRecord, data: types.TaskData, split: str
    ) -> float:
        """Returns a published path's accuracy, by all workers, in [0, 1].

        Of the split `trainer.QUALITY`, the quality that decides in training.
        """
        order = _evaluation(path.components, path.hparams, data, split)
        self._announce(order)
        return self._evaluate(order, data)

    @keras_state.default_keras_state()
    def test_metrics(
        self, path: specs.PathRecord, data: types.TaskData
    ) -> target_types.Metrics | None:
        """Returns a path's measures on test data; computed by the chief.

        A temperature or thresholds are fitted on validation data. A path
        whose logits are not finite has no measures.
        """
        frozen = self._frozen(path)
        return data.target.measure(
            *self.trainer.logits(frozen, data, "test"),
            self.trainer.logits(frozen, data, "validation"),
        )

    @keras_state.default_keras_state()
    def follow(self, data_of: Callable[[str], types.TaskData]) -> None:
        """Carries out the chief's orders until it has no more.

        Args:
          data_of: returns the data of a task by its bare name.

        Raises:
          MunetError: what ended the chief.
        """
        task = ""
        while True:
            order = self.trainer.workers.broadcast()
            if order["do"] == _END:
                if order["problem"] is not None:
                    raise workers_lib.error_from_json(order["problem"])
                return
            if order["task"] != task:
                self.forget(task)
                task = order["task"]
            if order["do"] == _TRAIN:
                self._train(order, data_of(task))
            else:
                self._evaluate(order, data_of(task))

    def _announce(self, order: Mapping[str, Any]) -> None:
        if self.trainer.workers.num > 1:
            self.trainer.workers.broadcast(order)

    def _train(
        self,
        order: Mapping[str, Any],
        data: types.TaskData,
        on_cycle: _OnCycle | None = None,
    ) -> list[child_job.TrainedChild]:
        event = order["task"], order["iteration"], order["generation"]
        return self.trainer.train(
            [self._job(child, event) for child in order["children"]],
            self._training_data(data, order["data_hparams"]),
            order["data_hparams"],
            event,
            accept_ties=order["accept_ties"],
            on_cycle=on_cycle,
        )

    def _training_data(
        self, data: types.TaskData, data_hparams: Mapping[str, Any]
    ) -> types.TaskData:
        """Returns data whose train split holds no more than training reads."""
        images = data.train.images
        factor = preprocessing.averaging_factor(images.shape[1:], data_hparams)
        if factor == 1 or not data.train.resident:
            return data
        task, splits = self._averaged
        if task != data.name:
            splits = {}
            self._averaged = data.name, splits
        if factor not in splits:
            with self.trainer.clock.measure("input"):
                splits[factor] = dataclasses.replace(
                    data.train, images=preprocessing.averaged(images, factor)
                )
        return dataclasses.replace(data, train=splits[factor])

    def _evaluate(
        self, order: Mapping[str, Any], data: types.TaskData
    ) -> float:
        parts = [
            self._shared(specs.ComponentRef.from_json(value))
            for value in order["components"]
        ]
        if "head" in order:
            head = _head(order["head"])
            parts.append(
                child_job.JobComponent(head.spec, lambda: head, None, False)
            )
        return self.trainer.evaluate(
            parts,
            data,
            order["split"],
            order["image_size"],
            order["antialias"],
        )

    def _shared(self, ref: specs.ComponentRef) -> child_job.JobComponent:
        # Its values are read only if nothing holds them.
        spec = self._directory.objects.spec(ref.id)
        return child_job.JobComponent(spec, self._loader(ref), ref.id, False)

    def _job(
        self, child: Mapping[str, Any], event: tuple[str | int, ...]
    ) -> child_job.ChildJob:
        return child_job.ChildJob(
            index=child["index"],
            components=tuple(
                self._component(part, event, child["index"])
                for part in child["components"]
            ),
            hparams=child["hparams"],
            size_factor=child["size_factor"],
            score_to_beat=child["score_to_beat"],
        )

    def _component(
        self,
        part: Mapping[str, Any],
        event: tuple[str | int, ...],
        index: int,
    ) -> child_job.JobComponent:
        """Returns how a planned component gets its first values."""
        spec = specs.ComponentSpec.from_json(part["spec"])
        factor_depth = child_job.factor_depth(self._settings, spec)
        load: Callable[[], specs.Component]
        if part["source"] is None:

            def load() -> specs.Component:
                rng = seeds_lib.generator(
                    self._settings.seed, "fresh", *event, index, spec.name
                )
                return self._family.initial(spec, rng)

            return child_job.JobComponent(
                spec, load, None, part["trainable"], factor_depth
            )
        source = specs.ComponentRef.from_json(part["source"])
        load = self._loader(source)
        if part["init"] == cloning.RESAMPLE:

            def load() -> specs.Component:
                return self._family.resample(
                    self._directory.objects.get(source), spec
                )

        shared_id = source.id if part["init"] == cloning.SHARE else None
        return child_job.JobComponent(
            spec, load, shared_id, part["trainable"], factor_depth
        )

    def _loader(self, ref: specs.ComponentRef) -> Callable[[], specs.Component]:
        return lambda: self._directory.objects.get(ref)


@contextlib.contextmanager
def leading(workers: workers_lib.Workers) -> Iterator[None]:
    """Lets the other workers go when the chief's work has ended, or failed."""
    problem = None
    agreed = False
    try:
        yield
    except (errors.StoppedError, tf.errors.OpError):
        # The others have stopped too, or cannot be reached.
        agreed = True
        raise
    except BaseException as error:
        problem = workers_lib.error_to_json(error)
        raise
    finally:
        if workers.num > 1 and not agreed:
            workers.broadcast({"do": _END, "problem": problem})


def _evaluation(
    refs: Sequence[specs.ComponentRef],
    hparams: Mapping[str, Any],
    data: types.TaskData,
    split: str,
) -> dict[str, Any]:
    """Returns the order to measure published components, as plain JSON."""
    return {
        "do": _EVALUATE,
        "task": data.name,
        "split": split,
        "image_size": int(hparams["ds_image_size"]),
        "antialias": preprocessing.antialias(hparams),
        "components": [ref.to_json() for ref in refs],
    }


def _training(plan: plan_lib.GenerationPlan) -> dict[str, Any]:
    """Returns what is trained of a generation as plain JSON."""
    return {
        "do": _TRAIN,
        "task": plan.task,
        "iteration": plan.iteration,
        "generation": plan.generation,
        "data_hparams": dict(plan.data_hparams),
        "accept_ties": plan.accept_ties,
        "children": [
            {
                "index": child.index,
                "hparams": dict(child.hparams),
                "size_factor": child.size_factor,
                "score_to_beat": child.score_to_beat,
                "components": [
                    {
                        "spec": part.spec.to_json(),
                        "init": part.init,
                        "source": part.source and part.source.to_json(),
                        "trainable": part.trainable,
                    }
                    for part in child.components
                ],
            }
            for child in plan.children
            if not child.is_solved
        ],
    }


def _head(value: Mapping[str, Any]) -> specs.Component:
    """Returns the head that an order holds, the same on every worker."""
    return specs.Component(
        specs.ComponentSpec.from_json(value["spec"]),
        {k: np.array(value[k], np.float32) for k in ("kernel", "bias")},
    )

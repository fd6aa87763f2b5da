"""Whole child trainings sent to the workers of a TensorFlow cluster.

Invariant: a worker holds nothing that is needed again. A child that was lost
with its worker is sent anew, from the same values, and comes out the same; so
which worker lives or dies changes when a generation ends and nothing else.

The engine is `tf.distribute.coordinator.ClusterCoordinator`.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_munet import errors
from keras_munet.core import specs
from keras_munet.data import preprocessing
from keras_munet.data import types
from keras_munet.models import layer_factory
from keras_munet.train import child_job
from keras_munet.train import generation_structure
from keras_munet.train import grappler
from keras_munet.train import layer_pool
from keras_munet.train import schedules
from keras_munet.train import trainer as trainer_lib
from keras_munet.train import weight_factors
from keras_munet.train.devices import cluster
from keras_munet.train.distributed import child_program

_PAUSE_SECS = 0.01
# Without any result for so long, a person should look at the workers.
_SILENT_SECS = 300.0
_NUM_PROGRAMS_MAX = 64


class CoordinatorTrainer(trainer_lib.Trainer):
    """Trains each child on one of several workers; evaluates here."""

    def __init__(
        self,
        workers: Sequence[str],
        budget: child_job.Budget,
        seed: int,
        compute_dtype: str = "float32",
    ):
        """Connects to the workers, which wait for work.

        Args:
          workers: `HOST:PORT` of each.
          budget: how long every child trains.
          seed: the experiment's root seed.
          compute_dtype: see `matmul_precision.choose_precision`; decided
            for all workers by the devices of this machine.

        Raises:
          UsageError: a worker does not answer, or a child is to be judged by
            more than its accuracy.
        """
        if budget.quality != "accuracy":
            raise errors.UsageError(
                f"search.quality is {budget.quality}, which "
                "--strategy=coordinator does not measure; use accuracy, or "
                "another strategy"
            )
        self._coordinator = cluster.connect_coordinator(tuple(workers))
        # Of this process, by name: the workers have devices too.
        local = tf.config.list_logical_devices("CPU")[0].name
        strategy = tf.distribute.OneDeviceStrategy(local)
        super().__init__(strategy, budget, seed, compute_dtype)
        self._programs: dict[Any, tuple[child_program.ChildProgram, Any]] = {}

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
        """Trains children, each on a worker; see `Trainer.train`.

        Args:
          children: at least one.
          data: the task's data; what the children see of it is sent.
          data_hparams: the `ds_*` hyperparameters that they share.
          event: names the generation; its seeds derive from it.
          accept_ties: whether an equal score makes a new snapshot.
          on_cycle: as of `Trainer.train`; called when all is done.

        Raises:
          ChildError: a worker could not train a child for a reason that is
            not its own death, e.g. too little memory.
          StoppedError: `stop_when` said so.
        """
        self.check_stop()
        if any(child.uses_adamw for child in children):
            raise errors.UsageError(
                "hparams.opt_name is adamw, which --strategy=coordinator does "
                "not train; use sgd, or another strategy"
            )
        with grappler.disable_grappler():
            with self.clock.measure("build"):
                shared, jitter = self._shared_inputs(data, data_hparams, event)
                class_weights = self._budget.weights_of(data)
                loaded: dict[str, specs.Component] = {}
                sent = [
                    self._send(
                        child,
                        shared,
                        data_hparams,
                        jitter,
                        accept_ties,
                        loaded,
                        class_weights,
                    )
                    for child in children
                ]
            with self.clock.measure("train"):
                self._wait(event)
                outputs = [
                    child_program.ChildOutputs(*value.fetch()) for value in sent
                ]
        if on_cycle is not None:
            for cycle in range(self._budget.num_cycles):
                on_cycle(
                    cycle,
                    np.array([o.scores[cycle] for o in outputs]),
                    np.array([o.losses[cycle] for o in outputs]),
                )
        return [
            _trained(child, result)
            for child, result in zip(children, outputs, strict=True)
        ]

    def _shared_inputs(
        self,
        data: types.TaskData,
        data_hparams: Mapping[str, Any],
        event: tuple[str | int, ...],
    ) -> tuple[child_program.ChildInputs, preprocessing.ColorJitter]:
        """Returns what all children are given, and when colours vary.

        What differs from child to child is left at zero.
        """
        num_cycles = self._budget.num_cycles
        num_steps = num_cycles * self._budget.num_steps_per_cycle(
            len(data.train.labels)
        )
        picked = self._train_indices(data, num_steps, event)
        # A child may see a small part of a large split.
        examples, indices = np.unique(picked, return_inverse=True)
        images, labels = data.train.batch(examples)
        held_out, mask = self._steps.counted(data, "validation")
        num_held_out = int(np.count_nonzero(mask))
        held_images, held_labels = data.validation.batch(
            np.arange(num_held_out)
        )
        augment, jitter = preprocessing.augment_hparams(
            data_hparams, images.shape[-1]
        )
        seeds = self._rng("augment", *event).integers(
            0, 2**31 - 1, (num_steps, 2), dtype=np.int32
        )
        inputs = child_program.ChildInputs(
            images=images,
            labels=labels.astype(np.int32),
            indices=indices.reshape(picked.shape).astype(np.int32),
            seeds=seeds,
            rates=np.zeros([num_steps, 3], np.float32),
            augment=augment,
            held_out=held_images,
            held_out_labels=held_labels.astype(np.int32),
            held_out_indices=held_out,
            held_out_mask=mask,
            num_held_out=np.float64(num_held_out),
            num_cycles=np.int32(num_cycles),
            size_factor=np.float64(0),
            score_to_beat=np.float64(0),
            accept_ties=np.bool_(False),
        )
        return inputs, jitter

    def _send(
        self,
        child: child_job.ChildJob,
        shared: child_program.ChildInputs,
        data_hparams: Mapping[str, Any],
        jitter: preprocessing.ColorJitter,
        accept_ties: bool,
        loaded: dict[str, specs.Component],
        class_weights: tuple[float, ...],
    ) -> tf.distribute.coordinator.RemoteValue:
        """Hands a child to whichever worker is free."""
        num_cycles = self._budget.num_cycles
        num_steps = len(shared.indices) // num_cycles
        rates = schedules.rate_table([child], num_cycles, num_steps)
        inputs = shared._replace(
            rates=rates[:, 0],
            size_factor=np.float64(child.size_factor),
            score_to_beat=np.float64(child.score_to_beat),
            accept_ties=np.bool_(accept_ties),
        )
        weights, momenta = [], []
        for part in child.components:
            component = loaded.get(part.shared_id or "")
            if component is None:
                component = part.load()
                if part.shared_id is not None:
                    loaded[part.shared_id] = component
            values = layer_factory.pack(part.spec, component.weights)
            if part.trainable:
                momentum = layer_pool.packed_momentum(
                    part.spec, component.momentum
                )
                if part.factor_depth:
                    layout = weight_factors.FactorLayout(
                        part.spec, part.factor_depth
                    )
                    values = layout.first_values(values)
                    momentum = layout.first_momentum(momentum)
                momenta.append(momentum)
            weights.append(values)
        function = self._function(
            child, data_hparams, jitter, inputs, class_weights
        )
        flat = tf.nest.flatten((inputs, weights, momenta))
        return self._coordinator.schedule(
            function, args=tuple(tf.convert_to_tensor(v) for v in flat)
        )

    def _function(
        self,
        child: child_job.ChildJob,
        data_hparams: Mapping[str, Any],
        jitter: preprocessing.ColorJitter,
        inputs: child_program.ChildInputs,
        class_weights: tuple[float, ...],
    ) -> tf.types.experimental.ConcreteFunction:
        structure = generation_structure.structure_of(
            [child],
            int(data_hparams["ds_image_size"]),
            preprocessing.antialias(data_hparams),
            class_weights,
        )
        shapes = tuple(
            value.shape[1:]
            for value in (inputs.images, inputs.indices, inputs.held_out)
        )
        parts = inputs.held_out_indices.shape[1]
        key = structure.key, jitter, shapes, parts
        if key not in self._programs:
            program = child_program.ChildProgram(
                structure, self._products, jitter
            )
            self._programs[key] = program, program.traced(inputs)
        # The one used last goes to the end, the first goes if there are many.
        self._programs[key] = self._programs.pop(key)
        if len(self._programs) > _NUM_PROGRAMS_MAX:
            del self._programs[next(iter(self._programs))]
        return self._programs[key][1]

    def _wait(self, event: tuple[str | int, ...]) -> None:
        """Waits until every child is trained.

        Raises:
          ChildError: one cannot be.
          StoppedError: the job got a stop request.
        """
        silent_since = time.monotonic()
        try:
            while not self._coordinator.done():
                # What the workers do now is made again from the same values.
                self.check_stop()
                time.sleep(_PAUSE_SECS)
                if time.monotonic() - silent_since > _SILENT_SECS:
                    silent_since = time.monotonic()
                    warnings.warn(
                        f"generation {event}: not done after "
                        f"{_SILENT_SECS:.0f} s more; see whether the workers "
                        "run",
                        RuntimeWarning,
                        stacklevel=3,
                    )
        except tf.errors.OpError as error:
            lines = str(error.message).strip().splitlines() or [repr(error)]
            raise errors.ChildError(
                f"a worker could not train a child of {event}: "
                f"{type(error).__name__}: {lines[0]}; use a smaller batch or "
                "workers with more memory"
            ) from error


def _trained(
    child: child_job.ChildJob, result: child_program.ChildOutputs
) -> child_job.TrainedChild:
    improved = result.quality >= 0
    components = {}
    momenta = iter(result.momenta)
    for part, weights in zip(child.components, result.weights, strict=True):
        momentum = None
        if part.trainable:
            bits = np.array(next(momenta)).view(np.uint16)
            momentum = layer_factory.unpack(part.spec, bits)
        if improved and part.shared_id is None:
            components[part.spec.name] = specs.Component(
                part.spec,
                layer_factory.unpack(part.spec, np.array(weights)),
                momentum,
            )
    return child_job.TrainedChild(
        index=child.index,
        scores=tuple(float(score) for score in result.scores),
        losses=tuple(float(loss) for loss in result.losses),
        quality=float(result.quality) if improved else None,
        components=components,
    )

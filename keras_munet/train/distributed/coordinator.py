"""Whole child trainings sent to the workers of a TensorFlow cluster.

Invariant: a worker holds nothing that is needed again. A child that was lost
with its worker is sent anew, from the same values, and comes out the same; so
which worker lives or dies changes when a generation ends and nothing else.

The engine is `tf.distribute.coordinator.ClusterCoordinator`; what a worker
runs is the program of `train.program`, with the cycles in it.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import time
import warnings
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_munet import errors
from keras_munet.core import devices as devices_lib
from keras_munet.core import specs
from keras_munet.core import target_types
from keras_munet.data import preprocessing
from keras_munet.data import types
from keras_munet.train import child_job
from keras_munet.train import engine as engine_lib
from keras_munet.train import grappler
from keras_munet.train import matmul_precision
from keras_munet.train import schedules
from keras_munet.train import snapshots
from keras_munet.train import trainer as trainer_lib
from keras_munet.train.devices import cluster
from keras_munet.train.program import bucket as bucket_lib
from keras_munet.train.program import buckets as buckets_lib
from keras_munet.train.program import call_data
from keras_munet.train.program import calls as calls_lib
from keras_munet.train.program import program as program_lib
from keras_munet.train.program import sizes
from keras_munet.train.program import stacking
from keras_munet.train.program import wave as wave_lib

_PAUSE_SECS = 0.01
# Without any result for so long, a person should look at the workers.
_SILENT_SECS = 300.0


class Cycles(NamedTuple):
    """Holds what a whole training has besides a plan.

    Attributes:
      rates: `[cycles, steps, 1, 3] float32`; see `program.Plan`.
      indices: `[cycles, steps, batch] int32`.
      draws: `[cycles, steps, 13, batch] float32`.
      num_held_out: float64, the examples that count.
      size_factor: float64; score = quality * size_factor.
      score_to_beat: float64; the first snapshot must reach it.
      accept_ties: bool, whether an equal score makes a new snapshot.
    """

    rates: Any
    indices: Any
    draws: Any
    num_held_out: Any
    size_factor: Any
    score_to_beat: Any
    accept_ties: Any


class Outputs(NamedTuple):
    """The result of a child.

    Attributes:
      losses: `[cycles] float32`, the mean of each cycle, nats.
      right: `[cycles] float32`, right answers on validation data.
      logits: `[cycles, batches, 1, batch, classes] float32`; see
        `call_data.Sums`.
      weights: as the best snapshot left them; see `call_data.State`. Where
        the bucket has logits, which a worker cannot judge, `[cycles, ...]` as
        each cycle left them.
      momenta: likewise.
    """

    losses: Any
    right: Any
    logits: Any
    weights: Any
    momenta: Any


class CoordinatorTrainer(trainer_lib.Trainer):
    """Trains each child on one of several workers; evaluates here."""

    def __init__(
        self,
        workers: Sequence[str],
        budget: child_job.Budget,
        seed: int,
        compute_dtype: str = "float32",
        largest: Sequence[child_job.JobComponent] = (),
    ):
        """Connects to the workers, which wait for work.

        Args:
          workers: `HOST:PORT` of each.
          budget: how long every child trains.
          seed: the experiment's root seed.
          compute_dtype: see `matmul_precision.choose_precision`; decided
            for all workers by the devices of this machine.
          largest: the layers of the largest path that children may have.

        Raises:
          UsageError: a worker does not answer.
        """
        self._coordinator = cluster.connect_coordinator(tuple(workers))
        # Of this process, by name: the workers have devices too.
        local = tf.config.list_logical_devices("CPU")[0].name
        strategy = tf.distribute.OneDeviceStrategy(local)
        super().__init__(strategy, budget, seed, compute_dtype)
        # What trains; what measures is `layerwise` on one CPU.
        self.engine_name = devices_lib.PROGRAM
        self._products = matmul_precision.choose_precision(
            compute_dtype, self._device_type
        )
        self._buckets = buckets_lib.Buckets(largest)
        self._programs: dict[bucket_lib.Bucket, Any] = {}

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
        schedule = self.schedule(data, event)
        num_counted = self._engine.num_counted(data, "validation")
        # A child may see a small part of a large split.
        call = calls_lib.whole_call(
            schedule.indices, np.arange(num_counted), "validation"
        )
        with grappler.disable_grappler():
            with self.clock.measure("build"):
                draws = wave_lib.draws_of(schedule, 0, len(schedule.indices))
                waves, sent = [], []
                for child in children:
                    wave, stacked = self._wave(
                        child, data, data_hparams, schedule.num_steps, call
                    )
                    waves.append(wave)
                    cycles = self._cycles(
                        child, wave.bucket, call, draws, accept_ties
                    )
                    sent.append(self._send(wave, stacked, cycles, call))
            with self.clock.measure("train"):
                self._wait(event)
                outputs = [Outputs(*value.fetch()) for value in sent]
        trained = [
            self._trained(wave, call, result, accept_ties)
            for wave, result in zip(waves, outputs, strict=True)
        ]
        if on_cycle is not None:
            for cycle in range(self._budget.num_cycles):
                on_cycle(
                    cycle,
                    np.array([child.scores[cycle] for child in trained]),
                    np.array([child.losses[cycle] for child in trained]),
                )
        return trained

    def _wave(
        self,
        child: child_job.ChildJob,
        data: types.TaskData,
        data_hparams: Mapping[str, Any],
        num_steps: int,
        call: calls_lib.Call,
    ) -> tuple[wave_lib.Wave, stacking.Stacked]:
        """Returns one child as a wave, and its arrays."""
        augment, jitter = preprocessing.augment_hparams(
            data_hparams, data.train.images.shape[-1]
        )
        batch_size = self._budget.batch_size
        num_examples = len(call.picked) + len(call.held_out)
        bucket = dataclasses.replace(
            self._buckets.of_child(child, int(data_hparams["ds_image_size"])),
            side=sizes.rounded_side(wave_lib.largest_side(data)),
            batch_size=batch_size,
            pool=bucket_lib.rounded_up(num_examples),
            steps=bucket_lib.rounded_up(num_steps),
            batches=bucket_lib.rounded_up(-(-len(call.held_out) // batch_size)),
            has_adamw=child.uses_adamw,
            has_colors=jitter is not preprocessing.ColorJitter.OFF,
            has_mixup=engine_lib.mixes(data_hparams),
            has_logits=not self._engine.counts_accuracy(data),
            is_multi_label=data.target is target_types.MULTI_LABEL,
        )
        bucket = self._buckets.covering(bucket, list(self._programs))
        stacked = stacking.stack([child], bucket)
        wave = wave_lib.Wave(
            bucket,
            (child,),
            (stacked,),
            data,
            self._budget.weights_of(data),
            augment,
            jitter,
        )
        return wave, stacked

    def _cycles(
        self,
        child: child_job.ChildJob,
        bucket: bucket_lib.Bucket,
        call: calls_lib.Call,
        draws: np.ndarray,
        accept_ties: bool,
    ) -> Cycles:
        """Returns what a child's training has besides a plan."""
        num_cycles = self._budget.num_cycles
        num_steps = len(call.indices) // num_cycles

        def cut(values: np.ndarray) -> np.ndarray:
            sides = values.shape[1:]
            cycles = values.reshape(num_cycles, num_steps, *sides)
            return wave_lib.padded(cycles, (num_cycles, bucket.steps, *sides))

        return Cycles(
            rates=cut(schedules.rate_table([child], num_cycles, num_steps)),
            indices=cut(call.indices),
            draws=cut(draws),
            num_held_out=np.float64(len(call.held_out)),
            size_factor=np.float64(child.size_factor),
            score_to_beat=np.float64(child.score_to_beat),
            accept_ties=np.bool_(accept_ties),
        )

    def _send(
        self,
        wave: wave_lib.Wave,
        stacked: stacking.Stacked,
        cycles: Cycles,
        call: calls_lib.Call,
    ) -> tf.distribute.coordinator.RemoteValue:
        """Hands a child to whichever worker is free."""
        bucket = wave.bucket
        if bucket not in self._programs:
            self._programs[bucket] = _child_function(bucket, self._products)
        function, specs_of = self._programs[bucket]
        second = stacking.squares(stacked) if bucket.has_adamw else {}
        num_steps = len(call.indices) // self._budget.num_cycles
        (plan,), _ = wave.plans(
            dataclasses.replace(call, indices=call.indices[:num_steps])
        )
        arguments = tf.nest.map_structure(
            lambda spec, value: tf.convert_to_tensor(value, spec.dtype),
            specs_of,
            (
                call_data.State(stacked.weights, stacked.momenta, second),
                plan,
                call_data.Pool(*calls_lib.pool_of(call, wave.data, bucket)),
                cycles,
            ),
        )
        return self._coordinator.schedule(
            function, args=tuple(tf.nest.flatten(arguments))
        )

    def _trained(
        self,
        wave: wave_lib.Wave,
        call: calls_lib.Call,
        result: Outputs,
        accept_ties: bool,
    ) -> child_job.TrainedChild:
        """Returns a child by what a worker counted and computed of it."""
        has_logits = wave.bucket.has_logits

        @functools.lru_cache(maxsize=1)
        def unstacked(
            cycle: int | None, number: int
        ) -> dict[str, specs.Component]:
            arrays = result.weights, result.momenta
            if cycle is not None:
                arrays = tf.nest.map_structure(
                    operator.itemgetter(cycle), arrays
                )
            return stacking.unstack(
                wave.children[number], number, wave.bucket, *arrays
            )

        best = snapshots.Snapshots(wave.children, accept_ties)
        for cycle in range(self._budget.num_cycles):
            if has_logits:
                sums = call_data.Sums(None, None, result.logits[cycle])
                counted = [np.arange(len(call.held_out))]
                rows = wave.rows(call, [sums], counted, 0)
                quality = self._engine.quality(rows, wave.data)
            else:
                right = np.float64(result.right[cycle])
                quality = float(right / len(call.held_out))
            # Without logits the worker kept the best snapshot alone.
            at_cycle = cycle if has_logits else None
            best.offer(
                functools.partial(unstacked, at_cycle),
                np.array([quality]),
                result.losses[cycle : cycle + 1],
            )
        return best.results()[0]

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


def _child_function(
    bucket: bucket_lib.Bucket, products: matmul_precision.MatmulPrecision
) -> tuple[Any, Any]:
    """Returns the function of a whole training, and the shapes it takes.

    It takes the flat tensors of (state, plan, pool, cycles).
    """
    program = program_lib.ChildProgram(bucket, products)
    plan = call_data.plan_specs(bucket)
    number = tf.TensorSpec([], tf.float64)

    def of_cycles(spec: tf.TensorSpec) -> tf.TensorSpec:
        return tf.TensorSpec([None, *spec.shape], spec.dtype)

    cycles = Cycles(
        rates=of_cycles(plan.rates),
        indices=of_cycles(plan.indices),
        draws=of_cycles(plan.draws),
        num_held_out=number,
        size_factor=number,
        score_to_beat=number,
        accept_ties=tf.TensorSpec([], tf.bool),
    )
    structure = (
        call_data.state_specs(bucket),
        plan,
        call_data.pool_specs(bucket),
        cycles,
    )

    def run(*flat: tf.Tensor) -> Outputs:
        arguments = tf.nest.pack_sequence_as(structure, flat)
        return _trained_child(program, bucket.has_logits, *arguments)

    function = tf.function(run, autograph=False)
    return (
        function.get_concrete_function(*tf.nest.flatten(structure)),
        structure,
    )


def _trained_child(
    program: program_lib.ChildProgram,
    has_logits: bool,
    state: call_data.State,
    plan: call_data.Plan,
    pool: call_data.Pool,
    cycles: Cycles,
) -> Outputs:
    """Returns a child after all its cycles; see `Outputs`."""
    num_cycles = tf.shape(cycles.rates)[0]

    def cycle(number: Any, state: Any, best: Any, arrays: Any) -> Any:
        state, sums = program.run(
            state,
            plan._replace(
                rates=cycles.rates[number],
                indices=cycles.indices[number],
                draws=cycles.draws[number],
            ),
            pool,
        )
        mean = sums.losses[0] / tf.cast(plan.num_steps, tf.float32)
        values = [mean, sums.right[0], sums.logits]
        trained = state.weights, state.momenta
        if has_logits:
            values += tf.nest.flatten(trained)
        else:
            quality = tf.cast(sums.right[0], tf.float64) / cycles.num_held_out
            score = quality * cycles.size_factor
            better = snapshots.is_better(score, best[0], cycles.accept_ties)
            best = tf.nest.map_structure(
                lambda new, old: tf.where(better, new, old),
                (score, trained),
                best,
            )
        arrays = [
            array.write(number, value)
            for array, value in zip(arrays, values, strict=True)
        ]
        return number + 1, state, best, arrays

    first = cycles.score_to_beat, (state.weights, state.momenta)
    dtypes = [tf.float32] * 3
    if has_logits:
        dtypes += [value.dtype for value in tf.nest.flatten(first[1])]
    _, _, (_, best), arrays = tf.while_loop(
        lambda number, *_: number < num_cycles,
        cycle,
        (
            *(tf.constant(0), state, first),
            [tf.TensorArray(dtype, num_cycles) for dtype in dtypes],
        ),
        parallel_iterations=1,
    )
    losses, right, logits, *every = (values.stack() for values in arrays)
    if has_logits:
        best = tf.nest.pack_sequence_as(best, every)
    return Outputs(losses, right, logits, *best)

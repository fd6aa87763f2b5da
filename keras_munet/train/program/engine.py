"""Trains children by one program: on TPUs, GPUs and several devices.

Invariant: a job traces a program for each bucket, which grows only where a
child does not fit in those there are; each replica trains children of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent import futures
from typing import Any

import numpy as np
import tensorflow as tf

from keras_munet.core import specs
from keras_munet.core import target_types
from keras_munet.data import preprocessing
from keras_munet.data import types
from keras_munet.train import child_job
from keras_munet.train import engine as engine_lib
from keras_munet.train import matmul_precision
from keras_munet.train import memory
from keras_munet.train import timing
from keras_munet.train.devices import strategy as strategy_lib
from keras_munet.train.program import bucket as bucket_lib
from keras_munet.train.program import buckets as buckets_lib
from keras_munet.train.program import calls as calls_lib
from keras_munet.train.program import runner as runner_lib
from keras_munet.train.program import sizes
from keras_munet.train.program import stacking
from keras_munet.train.program import wave as wave_lib


class ProgramEngine(engine_lib.Engine):
    """Keeps the programs of a job and what their devices hold."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        budget: child_job.Budget,
        clock: timing.Clock,
        products: matmul_precision.MatmulPrecision,
        largest: Sequence[child_job.JobComponent] = (),
        children_per_device: int = 1,
    ):
        """Begins without any program.

        Args:
          strategy: whose replicas train.
          budget: how long every child trains.
          clock: takes the seconds.
          products: which precision a training step multiplies in.
          largest: the layers of the largest path that children may have.
          children_per_device: how many children a replica trains at one time.
        """
        super().__init__(strategy, budget, clock)
        self._products = products
        self._buckets = buckets_lib.Buckets(largest)
        self._children_per_device = children_per_device
        self._num_replicas = strategy.num_replicas_in_sync
        self._device_type = strategy_lib.device_type(strategy)
        self._runners: list[runner_lib.Runner] = []
        # Of the generation, so that no wave of it outgrows another's program.
        self._planned: list[bucket_lib.Bucket] = []
        self._group = 0

    @property
    def runners(self) -> list[runner_lib.Runner]:
        """Returns the programs that were traced so far."""
        return list(self._runners)

    def passes(
        self,
        children: Sequence[child_job.ChildJob],
        image_size: int,
        num_bytes_max: int | None,
    ) -> memory.Passes:
        """Returns waves of children, as many as there are devices for.

        Children of one wave have one bucket; the costliest come first, since
        a wave lasts as long as its slowest child.
        """
        del num_bytes_max
        if not self._group:
            self._group = self._replicas_per_child(len(children))
        buckets: list[tuple[bucket_lib.Bucket, list[int]]] = []
        for number, child in enumerate(children):
            bucket = dataclasses.replace(
                self._buckets.of_child(child, image_size),
                has_adamw=child.uses_adamw,
            )
            for i, (other, numbers) in enumerate(buckets):
                joined = other.joined(bucket)
                if joined is not None:
                    buckets[i] = joined, [*numbers, number]
                    break
            else:
                buckets.append((bucket, [number]))
        self._planned = [bucket for bucket, _ in buckets]
        size = self._num_replicas // self._group * self._children_per_device
        waves: list[tuple[int, ...]] = []
        for _, numbers in buckets:
            numbers.sort(key=lambda n: -_cost(children[n]))
            waves += [
                tuple(numbers[start : start + size])
                for start in range(0, len(numbers), size)
            ]
        return memory.Passes(tuple(waves), 1)

    @contextlib.contextmanager
    def training(
        self,
        children: Sequence[child_job.ChildJob],
        data: types.TaskData,
        data_hparams: Mapping[str, Any],
        schedule: engine_lib.Schedule,
        rates: np.ndarray,
        num_parts: int,
    ) -> Iterator[ProgramTraining]:
        """Gives the training of one wave; see `engine.Engine.training`."""
        assert num_parts == 1, "a program computes whole batches"
        image_size = int(data_hparams["ds_image_size"])
        augment, jitter = preprocessing.augment_hparams(
            data_hparams, data.train.images.shape[-1]
        )
        bucket = self._covering(
            children,
            data,
            image_size,
            has_logits=not self.counts_accuracy(data),
            has_colors=jitter is not preprocessing.ColorJitter.OFF,
            has_mixup=engine_lib.mixes(data_hparams),
        )
        runner = self._runner(bucket)
        class_weights = self._budget.weights_of(data)
        wave = self._filled(runner, children, data, class_weights)
        wave = dataclasses.replace(wave, augment=augment, jitter=jitter)
        yield ProgramTraining(self, runner, wave, schedule, rates)

    def measure(
        self,
        child: child_job.ChildJob,
        data: types.TaskData,
        split: str | None,
        image_size: int,
        antialias: bool,
    ) -> float:
        """Returns how good a child is; see `engine.Engine.measure`."""
        has_logits = self.needs_logits(data, split)
        bucket = self._covering(
            [child], data, image_size, has_logits=has_logits
        )
        runner = self._runner(bucket)
        wave = self._filled(runner, [child], data, (), everywhere=True)
        wave = dataclasses.replace(
            wave, augment=wave.augment._replace(antialias=antialias)
        )
        name = split or "validation"
        counted = np.arange(self.num_counted(data, name))
        no_steps = np.zeros((0, self._budget.batch_size), np.int32)
        num_dealt = self._num_replicas // bucket.group
        calls = calls_lib.calls_of(
            no_steps, counted, name, 0, runner.bucket, num_dealt
        )
        right, rows = 0.0, []
        with self.clock.measure("validate"):
            for call in self.sending(runner, data, calls):
                plans, dealt = wave.plans(call, dealt=True)
                sums = runner.run(plans)
                right += sum(float(s.right[0]) for s in sums[:: bucket.group])
                if has_logits:
                    rows.append(wave.rows(call, sums, dealt, 0))
        if has_logits:
            return self.quality(np.concatenate(rows), data)
        return right / len(counted)

    def forget_task(self, task: str) -> None:
        """Lets the next call send its examples anew."""
        for runner in self._runners:
            if runner.sent is not None and runner.sent[0][0] == task:
                runner.sent = None

    # ------------------------------------------------------------- buckets

    def _replicas_per_child(self, num_children: int) -> int:
        """Returns over how many replicas each child's batches are divided.

        Only a TPU adds gradients up within a program.
        """
        if self._device_type != "TPU":
            return 1
        return sizes.group_size(
            self._num_replicas, num_children, self._budget.batch_size
        )

    def _covering(
        self,
        children: Sequence[child_job.ChildJob],
        data: types.TaskData,
        image_size: int,
        *,
        has_logits: bool,
        has_colors: bool = False,
        has_mixup: bool = False,
    ) -> bucket_lib.Bucket:
        """Returns a bucket for a wave: one that has a program where it can."""
        bucket, *more_buckets = (
            self._buckets.of_child(child, image_size) for child in children
        )
        for other in more_buckets:
            joined = bucket.joined(other)
            assert joined is not None, "a wave has one bucket"
            bucket = joined
        bucket = self._buckets.covering(bucket, self._planned)
        group = self._group or 1
        bucket = sizes.with_data_sizes(
            dataclasses.replace(
                bucket,
                batch_size=self._budget.batch_size // group,
                group=group,
                children=self._children_per_device,
                has_logits=has_logits,
                has_colors=has_colors,
                has_mixup=has_mixup,
                is_multi_label=data.target is target_types.MULTI_LABEL,
            ),
            data,
            self._budget,
            self._device_type,
        )
        return self._buckets.covering(
            bucket, [runner.bucket for runner in self._runners]
        )

    def _runner(self, bucket: bucket_lib.Bucket) -> runner_lib.Runner:
        """Returns the program of a bucket, traced now or before."""
        for runner in self._runners:
            if runner.bucket == bucket:
                return runner
        with self.clock.measure("compile"):
            runner = runner_lib.Runner(self._strategy, bucket, self._products)
        # What a larger bucket has outgrown is freed.
        self._runners = [
            other for other in self._runners if not bucket.covers(other.bucket)
        ]
        self._runners.append(runner)
        return runner

    def _filled(
        self,
        runner: runner_lib.Runner,
        children: Sequence[child_job.ChildJob],
        data: types.TaskData,
        class_weights: Sequence[float],
        everywhere: bool = False,
    ) -> wave_lib.Wave:
        """Returns a wave whose replicas hold the values of their children.

        Args:
          runner: of the program.
          children: of the wave.
          data: the task's data.
          class_weights: see `losses.cross_entropy`.
          everywhere: whether every replica holds the same children.
        """
        bucket = runner.bucket
        stacks: list[stacking.Stacked] = []
        loaded: dict[str, specs.Component] = {}
        with self.clock.measure("fill"):
            for team in range(self._num_replicas // bucket.group):
                first = 0 if everywhere else team * bucket.children
                mine = children[first : first + bucket.children]
                stacked = stacking.stack(mine, bucket, loaded)
                for share in range(bucket.group):
                    runner.fill(team * bucket.group + share, stacked)
                # Of the values no copy is kept.
                stacks.append(
                    dataclasses.replace(stacked, weights={}, momenta={})
                )
        return wave_lib.Wave(
            runner.bucket,
            tuple(children),
            tuple(stacks),
            data,
            tuple(class_weights),
        )

    def sending(
        self,
        runner: runner_lib.Runner,
        data: types.TaskData,
        calls: Iterator[calls_lib.Call],
    ) -> Iterator[calls_lib.Call]:
        """Yields calls whose examples the devices hold.

        Those of the next call are read while the caller uses one.
        """
        task = (data.name, *(s.images.shape for s in (data.train, data.test)))
        ahead = list(calls)
        with futures.ThreadPoolExecutor(1, "pool") as reader:
            coming: futures.Future[Any] | None = None
            for number, call in enumerate(ahead):
                if runner.sent is None or not (
                    runner.sent[0] == task and call.holds_same(runner.sent[1])
                ):
                    with self.clock.measure("input"):
                        if coming is None:
                            pool = calls_lib.pool_of(call, data, runner.bucket)
                        else:
                            pool = coming.result()
                        runner.send(*pool)
                    runner.sent = task, call
                coming = None
                following = ahead[number + 1 : number + 2]
                if following and not following[0].holds_same(call):
                    coming = reader.submit(
                        calls_lib.pool_of, following[0], data, runner.bucket
                    )
                yield call


class ProgramTraining:
    """The training of one wave; see `engine.Training`."""

    def __init__(
        self,
        engine: ProgramEngine,
        runner: runner_lib.Runner,
        wave: wave_lib.Wave,
        schedule: engine_lib.Schedule,
        rates: np.ndarray,
    ):
        """Begins before the first step.

        Args:
          engine: sends the examples.
          runner: holds the children.
          wave: the children.
          schedule: of the generation.
          rates: of the children.
        """
        self._engine = engine
        self._runner = runner
        self._wave = wave
        self._schedule = schedule
        self._rates = rates
        self._calls = timing.Calls(engine.clock, "train")
        self._read: dict[int, Any] = {}

    def cycle(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Trains a cycle, then measures; see `engine.Training.cycle`."""
        self._read.clear()
        wave, num_steps = self._wave, self._schedule.num_steps
        runner, data = self._runner, wave.data
        start = number * num_steps
        num_train = len(data.train) if data.train.resident else 0
        counted = np.arange(self._engine.num_counted(data, "validation"))
        calls = calls_lib.calls_of(
            self._schedule.indices[start : start + num_steps],
            *(counted, "validation", num_train, runner.bucket),
        )
        num_children = len(wave.children)
        counts_accuracy = self._engine.counts_accuracy(data)
        losses, right = np.zeros((2, num_children), np.float32)
        rows: list[list[np.ndarray]] = [[] for _ in wave.children]
        for call in self._engine.sending(runner, data, calls):
            first = start + call.first
            last = first + len(call.indices)
            plans, parts = wave.plans(
                call,
                self._rates[first:last],
                wave_lib.draws_of(self._schedule, first, last),
            )
            sums = self._calls(runner.run, plans)
            for child in range(num_children):
                replica, i = wave.place_of(child)
                losses[child] += sums[replica].losses[i]
                right[child] += sums[replica].right[i]
                if call.counts and not counts_accuracy:
                    rows[child].append(wave.rows(call, sums, parts, child))
        self._calls.end()
        if not counts_accuracy:
            qualities = np.array(
                [self._engine.quality(np.concatenate(c), data) for c in rows]
            )
        else:
            qualities = right.astype(np.float64) / len(counted)
        return losses / num_steps, qualities

    def snapshot(self, child: int) -> dict[str, specs.Component]:
        """Returns copies of what a child does not share, by name."""
        wave = self._wave
        replica, number = wave.place_of(child)
        if replica not in self._read:
            bucket = self._runner.bucket
            team = replica // bucket.group
            first = team * bucket.children
            mine = wave.children[first : first + bucket.children]
            self._read[replica] = self._runner.read(
                replica, stacking.own_places(mine, bucket)
            )
        return stacking.unstack(
            wave.children[child],
            number,
            self._runner.bucket,
            *self._read[replica],
        )


def _cost(child: child_job.ChildJob) -> int:
    """Returns what orders children by how long their steps take."""
    trained = [part.trainable for part in child.components]
    reached = len(trained) - trained.index(True) if any(trained) else 0
    return len(trained) + 2 * reached

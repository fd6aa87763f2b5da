"""Each replica's share of every step's examples, made on its own host.

Invariant: the shares of a step, replica after replica, are the batch that one
device would get, with the draws that it would make; each host picks, reads and
draws for its own replicas alone.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import numpy as np
import tensorflow as tf

from keras_munet.data import preprocessing
from keras_munet.data import types

# What a step gets of one share besides its examples, from (step, `[share]
# int64`: which rows of the batch they are).
_Extras = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, ...]]
# Images and labels by task, split and number of the host.
Arrays = dict[tuple[Any, ...], tuple[tf.Tensor, tf.Tensor]]
# Shares that wait for each replica.
_NUM_AHEAD = 2


class ReplicaInputs:
    """Gives the replicas of a strategy their examples."""

    def __init__(
        self, strategy: tf.distribute.Strategy, arrays: Arrays | None = None
    ):
        """Begins without any data.

        Args:
          strategy: whose replicas get shares.
          arrays: what strategies of other devices of the same hosts have
            loaded, to be used by all.
        """
        self._strategy = strategy
        self._arrays: Arrays = {} if arrays is None else arrays
        device = strategy.extended.worker_devices[0]
        # The other hosts of a TPU run no Python that could read a file.
        self._sends = isinstance(strategy, tf.distribute.TPUStrategy)
        self._first_host = tf.DeviceSpec.from_string(device).task or 0
        # Every use takes a whole number of passes, so one iterator serves all.
        self._validation: dict[tuple[Any, ...], Iterator[Any]] = {}

    def training(
        self,
        data: types.TaskData,
        indices: np.ndarray,
        seeds: np.ndarray,
        rates: np.ndarray,
    ) -> Iterator[Any]:
        """Yields what each training step is given, for as long as requested.

        Args:
          data: the task's data.
          indices: `[steps, batch] int32`, the examples of each step.
          seeds: `[steps, 2] int32`, of the augmentation.
          rates: `[steps, children, 3] float32`.

        Yields:
          Of each replica `[share, height, width, channels] uint8` images,
          `[share] int32` labels, `[12, share] float32` draws, and
          `[children, 3] float32` rates.
        """
        batch_size = indices.shape[1]

        def extras(step: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, ...]:
            draws = preprocessing.draws_of(tf.gather(seeds, step), batch_size)
            return tf.gather(draws, rows, axis=1), tf.gather(rates, step)

        return self._of(data, "train", indices, extras)

    def validation(
        self,
        data: types.TaskData,
        split: str,
        indices: np.ndarray,
        mask: np.ndarray,
    ) -> Iterator[Any]:
        """Yields what each step of a validation is given, pass after pass.

        Args:
          data: the task's data.
          split: one of its splits.
          indices: `[steps, batch] int32`; they follow from their shape.
          mask: `[steps, batch] float32`, 0 where padded.

        Yields:
          Of each replica images and labels as in training, and
          `[share] float32`, its part of the mask.
        """
        key = data.name, split, indices.shape
        if key not in self._validation:

            def extras(
                step: tf.Tensor, rows: tf.Tensor
            ) -> tuple[tf.Tensor, ...]:
                return (tf.gather(tf.gather(mask, step), rows),)

            self._validation[key] = self._of(data, split, indices, extras)
        return self._validation[key]

    def forget_task(self, task: str) -> None:
        """Frees the arrays of `task`."""
        for arrays in (self._arrays, self._validation):
            for key in [key for key in arrays if key[0] == task]:
                arrays.pop(key, None)

    def _of(
        self,
        data: types.TaskData,
        split: str,
        indices: np.ndarray,
        extras: _Extras,
    ) -> Iterator[Any]:
        num_steps, batch_size = indices.shape
        part = getattr(data, split)
        if self._sends and not part.resident:
            return self._sent(part, indices, extras)

        def pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
            num_replicas = context.num_replicas_in_sync
            num_local = num_replicas // context.num_input_pipelines
            first = context.input_pipeline_id * num_local
            rows = np.arange(batch_size).reshape(num_replicas, -1)
            rows = rows[first : first + num_local]
            examples = self._examples(data, split, context)

            def share(number: tf.Tensor) -> tuple[tf.Tensor, ...]:
                step, local = number // num_local, number % num_local
                mine = tf.gather(rows, local)
                picked = tf.gather(tf.gather(indices, step), mine)
                return (*examples(picked), *extras(step, mine))

            dataset = tf.data.Dataset.range(num_steps * num_local)
            # Without an end there is none that the hosts must agree on.
            dataset = dataset.repeat().map(share)
            return dataset.prefetch(_NUM_AHEAD * num_local)

        return iter(self._strategy.distribute_datasets_from_function(pipeline))

    def _sent(
        self, part: types.Split, indices: np.ndarray, extras: _Extras
    ) -> Iterator[Any]:
        """Yields shares that this process reads for all hosts."""
        num_steps, batch_size = indices.shape
        num_replicas = self._strategy.num_replicas_in_sync
        rows = np.arange(batch_size).reshape(num_replicas, -1)

        def read(step: int) -> list[tuple[tf.Tensor, ...]]:
            shares = []
            with tf.device("/cpu:0"):
                for mine in rows:
                    images, labels = part.batch(indices[step][mine])
                    examples = (
                        tf.constant(images),
                        tf.constant(labels, tf.int32),
                    )
                    shares.append((*examples, *extras(step, mine)))
            return shares

        distribute = self._strategy.experimental_distribute_values_from_function
        with futures.ThreadPoolExecutor(1) as reader:
            coming = reader.submit(read, 0)
            for number in itertools.count(1):
                shares = coming.result()
                coming = reader.submit(read, number % num_steps)
                yield distribute(functools.partial(_share_of, shares))

    def _examples(
        self,
        data: types.TaskData,
        split: str,
        context: tf.distribute.InputContext,
    ) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
        """Returns what picks examples on the host whose pipeline is made."""
        part = getattr(data, split)
        if part.resident:
            host = self._first_host + context.input_pipeline_id
            key = data.name, split, host, part.images.shape
            if key not in self._arrays:
                self._arrays[key] = (
                    tf.constant(part.images),
                    tf.constant(part.labels, tf.int32),
                )
            images, labels = self._arrays[key]
            return lambda picked: (
                tf.gather(images, picked),
                tf.gather(labels, picked),
            )

        def read(picked: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            images, labels = tf.numpy_function(
                part.batch, [picked], [tf.uint8, tf.int32]
            )
            size = picked.shape[0]
            return (
                tf.ensure_shape(images, [size, *part.images.shape[1:]]),
                tf.ensure_shape(labels, [size]),
            )

        return read


def _share_of(
    shares: list[tuple[tf.Tensor, ...]],
    context: tf.distribute.experimental.ValueContext,
) -> tuple[tf.Tensor, ...]:
    return shares[context.replica_id_in_sync_group]

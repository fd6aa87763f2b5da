"""The examples of each step, on their way to the devices.

Invariant: a step gets the same examples wherever its split lies; a split that
is not resident is never held whole.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import numpy as np
import tensorflow as tf

from keras_munet.data import preprocessing
from keras_munet.data import types
from keras_munet.train import losses

Batch = tuple[tf.Tensor, tf.Tensor, tf.Tensor]
Ready = tuple[tf.Tensor, losses.Labels]
# Validation batches have a multiple of this part of a batch, so that tasks of
# different sizes share traced layers.
_BATCH_PARTS = 8
# Beyond a cycle's steps nothing is won by computing ahead.
_NUM_AHEAD_MAX = 8
_NUM_BYTES_AHEAD = 128 * 2**20


class Batches:
    """Gives steps their examples; keeps resident splits on the devices."""

    def __init__(self) -> None:
        self._arrays: dict[tuple[Any, ...], tuple[tf.Tensor, tf.Tensor]] = {}

    def of(
        self, data: types.TaskData, split: str, indices: np.ndarray
    ) -> Iterator[Batch]:
        """Yields what each step is given.

        A resident split goes to the device once, and a step picks from it. Of
        another, a step gets the examples that it picks alone, and the next
        ones are read while it runs.

        Args:
          data: the task's data.
          split: one of its splits.
          indices: `[steps, batch] int32`, the examples of each step.

        Yields:
          `[n, height, width, channels] uint8` images, their int32 labels, and
          `[batch] int32`, which of them make the batch.
        """
        part = getattr(data, split)
        if part.resident:
            images, labels = self._on_device(data.name, split, part)
            for picked in indices:
                yield images, labels, tf.constant(picked)
            return
        everything = tf.range(indices.shape[1], dtype=tf.int32)
        read = (
            (tf.constant(images), tf.constant(labels, tf.int32), everything)
            for images, labels in map(part.batch, indices)
        )
        with Prefetcher(read, 1) as ahead:
            yield from ahead

    def forget_task(self, task: str) -> None:
        """Frees the arrays of `task`."""
        for key in [key for key in self._arrays if key[0] == task]:
            del self._arrays[key]

    def _on_device(
        self, task: str, split: str, part: types.Split
    ) -> tuple[tf.Tensor, tf.Tensor]:
        # The train split may be stored and averaged.
        key = task, split, part.images.shape
        if key not in self._arrays:
            self._arrays[key] = (
                tf.constant(part.images),
                tf.constant(part.labels, tf.int32),
            )
        return self._arrays[key]


class Prefetcher:
    """Computes the inputs of later steps beside the current one."""

    def __init__(self, batches: Iterator[tuple[Any, ...]], num_ahead: int):
        """Begins at once, in a thread.

        Args:
          batches: are computed on request.
          num_ahead: how many may wait, at least one.
        """
        self._batches = batches
        self._worker = futures.ThreadPoolExecutor(1, "batches")
        self._coming = collections.deque(self._next() for _ in range(num_ahead))

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        while (batch := self._coming.popleft().result()) is not None:
            self._coming.append(self._next())
            yield batch

    def _next(self) -> futures.Future[tuple[Any, ...] | None]:
        return self._worker.submit(next, self._batches, None)


def num_prefetched(batch_size: int, image_size: int) -> int:
    """Returns how many batches may wait: some, within 128 MiB; or none.

    Args:
      batch_size: examples.
      image_size: pixels, side.
    """
    num_bytes = batch_size * image_size * image_size * 3 * 4
    return min(_NUM_BYTES_AHEAD // num_bytes, _NUM_AHEAD_MAX)


@tf.function(autograph=False)
def training_batch(
    images: tf.Tensor,
    labels: tf.Tensor,
    indices: tf.Tensor,
    seed: tf.Tensor,
    augment: preprocessing.AugmentHparams,
    size: int,
    jitter: preprocessing.ColorJitter,
    mixes: bool = False,
) -> Ready:
    """Returns what a step trains on, from data on one device.

    Traced once for all structures.

    Args:
      images: `[n, height, width, channels] uint8`, the train split.
      labels: int32, as of `types.Split`.
      indices: `[batch] int32`, the examples of the step.
      seed: `[2] int32`, of the augmentation.
      augment: `preprocessing.AugmentHparams` of scalar tensors.
      size: side of the input, pixels.
      jitter: when saturation and hue vary.
      mixes: whether images are mixed in pairs.

    Returns:
      `[batch, size, size, 3] float32` images and their labels.
    """
    draws = preprocessing.draws_of(seed, indices.shape[0])
    batch = preprocessing.varied_images(
        tf.gather(images, indices), size, draws, augment, jitter
    )
    labels = tf.gather(labels, indices)
    if not mixes:
        return batch, labels
    return mixed(batch, labels, draws, augment.mixup)


def mixed(
    images: tf.Tensor,
    labels: tf.Tensor,
    draws: tf.Tensor,
    mixup: float | tf.Tensor,
) -> Ready:
    """Returns images that are mixed in pairs, and their labels.

    Args:
      images: `[batch, size, size, 3] float32`.
      labels: int32, as of `types.Split`.
      draws: as of `preprocessing.varied_images`.
      mixup: see `preprocessing.AugmentHparams`.

    Returns:
      As of `training_batch`.
    """
    shares = preprocessing.mix_shares(draws, mixup)
    return preprocessing.mixed(images, shares), losses.MixedLabels(
        labels, preprocessing.partners(labels), shares
    )


@tf.function(autograph=False)
def evaluation_batch(
    images: tf.Tensor,
    labels: tf.Tensor,
    indices: tf.Tensor,
    size: int,
    antialias: bool,
) -> Ready:
    """Returns what a step counts right answers in, from data on one device.

    Args:
      images: `[n, height, width, channels] uint8`.
      labels: int32, as of `types.Split`.
      indices: `[batch] int32`, padded.
      size: side of the input, pixels.
      antialias: see `preprocessing.evaluation_images`.

    Returns:
      As `training_batch`.
    """
    batch = preprocessing.evaluation_images(
        tf.gather(images, indices), size, antialias
    )
    return batch, tf.gather(labels, indices)


def evaluation_batches(
    num_examples: int, batch_size_max: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the batches that see each example once.

    Args:
      num_examples: how many there are.
      batch_size_max: about the largest batch wanted.

    Returns:
      `[steps, batch] int32` examples, padded, and `[steps, batch] float32`,
      0 where padded.
    """
    num_steps = -(-num_examples // batch_size_max)
    # Batches of equal size: the last one would be mostly padding.
    part = max(batch_size_max // _BATCH_PARTS, 1)
    batch_size = -(-num_examples // (num_steps * part)) * part
    order = np.arange(num_steps * batch_size)
    mask = (order < num_examples).astype(np.float32)
    indices = np.minimum(order, num_examples - 1).astype(np.int32)
    shape = num_steps, batch_size
    return indices.reshape(shape), mask.reshape(shape)


def shuffled_indices(
    rng: np.random.Generator,
    num_examples: int,
    num_steps: int,
    batch_size: int,
) -> np.ndarray:
    """Returns `[steps, batch] int32` examples: epoch after epoch, reshuffled.

    Args:
      rng: draws the order.
      num_examples: how many there are.
      num_steps: rows.
      batch_size: columns.
    """
    num_epochs = -(-num_steps * batch_size // num_examples)
    order = np.concatenate(
        [rng.permutation(num_examples) for _ in range(num_epochs)]
    )
    order = order[: num_steps * batch_size]
    return order.reshape(num_steps, batch_size).astype(np.int32)

"""Divides a cycle into calls of a program, each with the examples it needs.

Invariant: a call holds every example that it picks. Where a task's whole train
split and all that is held out fit on a device, every call of the task holds
the same examples, which are sent once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from keras_munet.data import types
from keras_munet.train.program import bucket as bucket_lib
from keras_munet.train.program import call_data


@dataclasses.dataclass(frozen=True)
class Call:
    """The examples and steps of one call.

    Attributes:
      first: number of its first step in the cycle.
      indices: `[steps, batch] int32`, examples of the pool.
      picked: `[n]`, which examples of the train split lie in the pool, from
        its start.
      held_out: `[m]`, which examples of the other split lie behind these.
      split: the other split.
      counts: whether the call counts right answers in `held_out`.
    """

    first: int
    indices: np.ndarray
    picked: np.ndarray
    held_out: np.ndarray
    split: str
    counts: bool

    def holds_same(self, other: Call | None) -> bool:
        """Returns whether its pool is the one of another call."""
        return (
            other is not None
            and self.split == other.split
            and np.array_equal(self.picked, other.picked)
            and np.array_equal(self.held_out, other.held_out)
        )


def calls_of(
    indices: np.ndarray,
    held_out: np.ndarray,
    split: str,
    num_train: int,
    bucket: bucket_lib.Bucket,
    num_dealt: int = 1,
) -> Iterator[Call]:
    """Yields the calls of one cycle, training first.

    Args:
      indices: `[steps, batch] int32`, examples of the train split; of no step
        where nothing is trained.
      held_out: `[m]`, examples that are counted afterwards.
      split: of `held_out`.
      num_train: examples of the train split if they may be sent as a whole,
        else 0.
      bucket: says how many steps and examples a call takes.
      num_dealt: over how many replicas the batches of `held_out` are dealt.
    """
    nothing, whole = held_out[:0], np.arange(num_train)
    fits = num_train and num_train + len(held_out) <= bucket.pool
    last, counts = 0, False
    while last < len(indices):
        first = last
        if fits:
            last, picked = min(first + bucket.steps, len(indices)), whole
        else:
            last, picked = _most_steps(indices, first, bucket)
        is_last = last == len(indices)
        in_pool = fits or (
            is_last and len(picked) + len(held_out) <= bucket.pool
        )
        counts = bool(in_pool and is_last)
        positions = np.searchsorted(picked, indices[first:last])
        yield Call(
            *(first, positions.astype(np.int32), picked),
            *(held_out if in_pool else nothing, split, counts),
        )
    if counts:
        return
    num_batches = bucket.batches * bucket.batch_size * bucket.group * num_dealt
    step = min(num_batches, bucket.pool)
    no_steps = np.zeros((0, bucket.batch_size * bucket.group), np.int32)
    for start in range(0, len(held_out), step):
        chunk = held_out[start : start + step]
        yield Call(len(indices), no_steps, nothing, chunk, split, True)


def whole_call(indices: np.ndarray, held_out: np.ndarray, split: str) -> Call:
    """Returns one call of all steps, however many examples it takes.

    Args:
      indices: `[steps, batch] int32`, examples of the train split.
      held_out: `[m]`, examples that are counted afterwards.
      split: of `held_out`.
    """
    picked = np.unique(indices)
    positions = np.searchsorted(picked, indices).astype(np.int32)
    return Call(0, positions, picked, held_out, split, True)


def _most_steps(
    indices: np.ndarray, first: int, bucket: bucket_lib.Bucket
) -> tuple[int, np.ndarray]:
    """Returns the end of the steps that a call takes, and their examples."""
    last = first + 1
    picked = np.unique(indices[first])
    while last < min(len(indices), first + bucket.steps):
        more = np.union1d(picked, indices[last])
        if len(more) > bucket.pool:
            break
        picked, last = more, last + 1
    return last, picked


def pool_of(
    call: Call, data: types.TaskData, bucket: bucket_lib.Bucket
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the images and labels of a call's pool.

    Args:
      call: says which examples.
      data: the task's data.
      bucket: says how large it is.
    """
    images = np.zeros((bucket.pool, bucket.side, bucket.side, 3), np.uint8)
    labels = np.zeros(call_data.label_shape(bucket), np.int32)
    start = 0
    for split, examples in (
        ("train", call.picked),
        (call.split, call.held_out),
    ):
        if not len(examples):
            continue
        own_images, own_labels = getattr(data, split).batch(examples)
        end = start + len(examples)
        _, height, width, _ = own_images.shape
        # A grey image gets three equal channels.
        images[start:end, :height, :width] = own_images
        if bucket.is_multi_label:
            # Classes that the task does not have stay 0.
            labels[start:end, : data.num_classes] = own_labels
        else:
            labels[start:end] = own_labels
        start = end
    return images.reshape(bucket.pool, -1), labels

"""Caches the outputs of shared components for validation examples.

Invariant: a feature is found under the ids of the components that made it, so
it is what they would compute again; what is kept stays within a bound.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from collections.abc import Set as AbstractSet

import tensorflow as tf

# The side of the images and whether they are averaged where they shrink.
Image = tuple[int, bool]
# The images, and of each component, input first, its id and whether token 0
# alone is computed.
Prefix = tuple[Image, tuple[tuple[str, bool], ...]]
# Task, split, number of the batch, components.
_Key = tuple[str, str, int, Prefix]

NUM_BYTES_MAX = 128 * 2**20


class FeatureCache:
    """Features by what they are of, for as long as they fit."""

    def __init__(self, num_bytes_max: int = NUM_BYTES_MAX):
        """Begins without any.

        Args:
          num_bytes_max: what is kept is no larger.
        """
        self._num_bytes_max = num_bytes_max
        self._num_bytes = 0
        self._tensors: dict[_Key, tf.Tensor] = {}
        self._lock = threading.Lock()

    def of_batch(self, task: str, split: str, batch: int) -> BatchFeatures:
        """Returns the features of one batch of examples."""
        return BatchFeatures(self, task, split, batch)

    def get(self, key: _Key) -> tf.Tensor | None:
        """Returns features, or None where they are not kept."""
        with self._lock:
            return self._tensors.get(key)

    def put(self, key: _Key, features: tf.Tensor) -> None:
        """Keeps features, unless there is no room.

        They make no room for others: batches come in a circle, where the one
        that was not needed for longest is the one that is needed next.
        """
        with self._lock:
            num_bytes = self._num_bytes + _num_bytes(features)
            if key not in self._tensors and num_bytes <= self._num_bytes_max:
                self._tensors[key] = features
                self._num_bytes = num_bytes

    def keep_only(self, task: str, prefixes: AbstractSet[Prefix]) -> None:
        """Frees what is not of a task and of one of these prefixes."""
        with self._lock:
            self._filter(lambda key: key[0] == task and key[3] in prefixes)

    def forget_task(self, task: str) -> None:
        """Frees what is of a task."""
        with self._lock:
            self._filter(lambda key: key[0] != task)

    def _filter(self, is_kept: Callable[[_Key], bool]) -> None:
        self._tensors = {k: v for k, v in self._tensors.items() if is_kept(k)}
        self._num_bytes = sum(map(_num_bytes, self._tensors.values()))


@dataclasses.dataclass(frozen=True)
class BatchFeatures:
    """The features of one batch of a task's split.

    Attributes:
      features: of all batches.
      task: whose examples.
      split: of the task.
      batch: its number.
    """

    features: FeatureCache
    task: str
    split: str
    batch: int

    def get(self, prefix: Prefix | None) -> tf.Tensor | None:
        """Returns what components make of the batch, where it is kept."""
        return self.features.get(self._key(prefix)) if prefix else None

    def put(self, prefix: Prefix, features: tf.Tensor) -> None:
        """Keeps what components make of the batch, where there is room."""
        self.features.put(self._key(prefix), features)

    def _key(self, prefix: Prefix) -> _Key:
        return self.task, self.split, self.batch, prefix


def _num_bytes(features: tf.Tensor) -> int:
    return features.shape.num_elements() * features.dtype.size

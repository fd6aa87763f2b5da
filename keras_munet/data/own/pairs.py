"""Checks (image, label) pairs of which the number is unknown.

Invariant: data that never end are refused, before they fill the memory.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from keras_munet import errors
from keras_munet.data import types

# Of data whose length is unknown.
_NUM_BYTES_MAX = 4 * 2**30
_NUM_IMAGES_MAX = 1_000_000
# An image and its place in a list take so much besides its pixels.
_NUM_OBJECT_BYTES = 256
# Data of so many images that repeat each of them so often do not end.
_NUM_IMAGES_MIN = 10_000
_NUM_REPEATS = 10


_PAIR = ("image", "label")


class Guard:
    """Counts the images of data, and refuses those that do not end."""

    def __init__(self, task: str, pairs: Any):
        """Looks at how long data say that they are.

        Args:
          task: for messages.
          pairs: the data.

        Raises:
          UsageError: they never end.
        """
        self._task = task
        self._is_counted = hasattr(pairs, "__len__")
        self._num_images = 0
        self._num_bytes = 0
        self._digests: set[bytes] = set()
        if hasattr(pairs, "cardinality"):
            # -1 stands for no end and -2 for an unknown one.
            cardinality = int(pairs.cardinality())
            self._is_counted = cardinality >= 0
            if cardinality == -1:
                raise self._endless("they repeat without an end")

    def add(self, image: np.ndarray) -> None:
        """Counts one image.

        Raises:
          UsageError: the data repeat a few images or fill the memory.
        """
        if self._is_counted:
            return
        self._num_images += 1
        self._num_bytes += image.nbytes + _NUM_OBJECT_BYTES
        self._digests.add(hashlib.sha256(image.data).digest()[:16])
        if self._num_bytes > _NUM_BYTES_MAX:
            raise self._endless(
                f"the first {self._num_images:,} images take more than "
                f"{_NUM_BYTES_MAX >> 30} GiB"
            )
        if self._num_images > _NUM_IMAGES_MAX:
            raise self._endless(f"there are more than {_NUM_IMAGES_MAX:,}")
        num_distinct = len(self._digests)
        if (
            self._num_images >= _NUM_IMAGES_MIN
            and num_distinct * _NUM_REPEATS <= self._num_images
        ):
            raise self._endless(
                f"the first {self._num_images:,} images are {num_distinct:,} "
                "images repeated"
            )

    def _endless(self, problem: str) -> errors.UsageError:
        return errors.UsageError(
            f"the pairs of task {self._task!r} do not end, or are too many: "
            f"{problem}; leave out repeat(), add take(NUMBER), or prepare "
            "image files with folder: or table:"
        )


def checked(
    task: str, index: int, pair: Any, first: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns an image and its label, `[] int64` or `[classes] int64`.

    Args:
      task: for messages.
      index: of the pair.
      pair: an image, `[height, width, 1 or 3] uint8`, and a whole number, or
        `[classes]` of 0 and 1.
      first: the label of the first pair, whose shape all have; None for it.

    Raises:
      UsageError: the pair is of another kind.
    """
    if not isinstance(pair, tuple | list) or len(pair) != len(_PAIR):
        parts = f" of {len(pair)} parts" if hasattr(pair, "__len__") else ""
        raise errors.UsageError(
            f"pair {index} of task {task!r} is {type(pair).__name__}{parts}; "
            f"it must be ({', '.join(_PAIR)})"
        )
    image, label = pair
    image, label = np.ascontiguousarray(image), np.asarray(label)
    if (
        image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[-1] not in types.CHANNELS
        or not image.size
    ):
        raise errors.UsageError(
            f"image {index} of task {task!r} is {image.dtype} of shape "
            f"{image.shape}; it must be uint8 [height, width, 1 or 3]"
        )
    is_multi = label.ndim == 1 and label.size > 1
    kinds = "iub" if is_multi else "iu"
    if label.dtype.kind not in kinds or (label.ndim and not is_multi):
        raise errors.UsageError(
            f"label {index} of task {task!r} is {label.dtype} of shape "
            f"{label.shape}; it must be one whole number (of a one-hot label, "
            "its argmax), or whole numbers of 0 and 1, one for each class"
        )
    if first is not None and label.shape != first.shape:
        raise errors.UsageError(
            f"label {index} of task {task!r} has shape {label.shape}, the "
            f"first one {first.shape}; all labels need one shape"
        )
    return image, label.astype(np.int64)
